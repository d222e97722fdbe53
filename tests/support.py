"""What tests share: waiting for conditions, free ports, and the folder of the checkout."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
PROGRAMS = ("core", "api_node", "deployer", "operator", "cli")
"""Folders that hold one package of ours each."""

T = TypeVar("T")


def eventually(check: Callable[[], T], seconds: float = 60.0, *, every: float = 0.02) -> T:
    """Wait until `check` answers something true, and give that back.

    The deadline ends a test that will not succeed, and says nothing about how fast a thing should be: a machine that is busy
    with something else for a moment must fail nothing. An exception or an AssertionError inside `check` counts as "not yet";
    the last one is raised at the deadline.

    Args:
        check: asked again and again; any true value ends the waiting.
        seconds: how long to wait at most.
        every: pause between two questions, in seconds.

    Raises:
        AssertionError: `check` never answered anything true in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        failure: Exception | None = None
        answer = None
        try:
            answer = check()
        except Exception as error:  # whatever is not ready yet may fail in any way
            failure = error
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"not so within {seconds:g} s; last answer: {answer!r}") from failure
        time.sleep(every)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago; see `free_ports`."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of `count` consecutive free TCP ports of 127.0.0.1.

    They lie below those that the system hands to connections (32,768 and up): one of these could take the port before
    the program that it is meant for has come to listen.

    Raises:
        AssertionError: no such row of ports was found in a hundred tries.
    """
    for _ in range(100):
        first = random.randrange(10_240, 32_768 - count)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError(f"no {count} consecutive free ports")
