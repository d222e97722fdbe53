"""One cell: warm up, load a server with wrk for some seconds, watch the machine meanwhile, and say what was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bench import processes, work, wrk
from bench.rows import Row
from bench.servers import Cores, Running, Server, bodies, check_answers
from bench.work import BATCH_ROWS, Work

QUIET_SECONDS = 90.0
_FIRST_WARM_SECONDS, _WARM_SECONDS = 2, 1

CONNECTIONS: Mapping[Work, tuple[int, ...]] = {"single": (1, 16, 64), "batch": (4,), "booster": (16,)}
"""With how many connections each work is asked."""


@dataclass(frozen=True)
class Rules:
    """How cells are measured.

    Args:
        seconds: of load per cell.
        attempts: how often a disturbed cell is measured at most.
        disturbance: cores used by others from which on a cell is disturbed.
    """

    seconds: int = 3
    attempts: int = 4
    disturbance: float = 0.1
    cores: Cores = field(default_factory=Cores)


class Watched(NamedTuple):
    """Cores used while something ran."""

    server: float
    helpers: float
    foreign: float
    seconds: float


def measure(server: Server, running: Running, given: Work, repetition: int, rules: Rules) -> Iterable[Row]:
    """Every cell of one work of a started server, after its answers were compared.

    Raises:
        WrongAnswer: the server does not answer as the original model does.
    """
    difference = check_answers(server, running, given)
    target = server.targets[given]
    post = wrk.Post(
        running.url + target.path, work.body_file(target.form, given), len(bodies(target, given)), target.media, running.key
    )
    for place, connections in enumerate(CONNECTIONS[given]):
        wrk.run(post, connections, _WARM_SECONDS if place else _FIRST_WARM_SECONDS, rules.cores.load)
        before = running.dropped()
        figures = {
            **loaded(running, post, connections, rules),
            "difference": difference,
            "start_s": running.start_seconds,
            "not_recorded": float(running.dropped() - before),
            **of_memory(running),
        }
        figures["rows_per_s"] = figures["rps"] * (BATCH_ROWS if given == "batch" else 1)
        yield Row(server.name, given, connections, repetition, figures)


def loaded(running: Running, post: wrk.Post, connections: int, rules: Rules, others: tuple[int, ...] = ()) -> dict[str, float]:
    """The figures of a load that nobody disturbed, or of the last attempt, which then says so.

    Args:
        others: processes of ours that run beside the server and its helpers.
    """
    everyone = (*running.measured, *running.helpers, *others)
    for attempt in range(1, rules.attempts + 1):
        load, watched = _watched(running, lambda: wrk.run(post, connections, rules.seconds, rules.cores.load), others)
        disturbed = watched.foreign > rules.disturbance
        if not disturbed:
            break
        if attempt < rules.attempts:
            wait_until_quiet(everyone, rules.disturbance)
    return {**_of_load(load, watched), "attempts": float(attempt), "disturbed": float(disturbed)}


def _watched(running: Running, load: Callable[[], wrk.Load], others: tuple[int, ...]) -> tuple[wrk.Load, Watched]:
    """Load once, and see who used the processor: the server, its helpers and others of ours, and everybody else."""
    helping = (*running.helpers, *others)
    began, machine = time.monotonic(), processes.machine_seconds()
    server, helpers = processes.cpu_seconds(running.measured), processes.cpu_seconds(helping)
    found = load()
    server = processes.cpu_seconds(running.measured) - server
    helpers = processes.cpu_seconds(helping) - helpers
    machine, seconds = processes.machine_seconds() - machine, time.monotonic() - began
    foreign = machine - server - helpers - found.cpu
    return found, Watched(server / seconds, helpers / seconds, foreign / seconds, seconds)


def wait_until_quiet(ours: tuple[int, ...], disturbance: float) -> None:
    """Wait until others have used less of the processor for a second, for a minute and a half at most."""
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        machine, own = processes.machine_seconds(), processes.cpu_seconds(ours)
        time.sleep(1)
        if processes.machine_seconds() - machine - (processes.cpu_seconds(ours) - own) <= disturbance:
            return


def _of_load(load: wrk.Load, watched: Watched) -> dict[str, float]:
    """The figures of one run of wrk."""
    return {
        "rps": load.rps,
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "max_ms": load.max_ms,
        "requests": float(load.requests),
        "errors": float(load.errors),
        "server_cpu": watched.server,
        "cpu_us": watched.server / load.rps * 1e6 if load.rps else 0.0,
        "helper_cpu": watched.helpers,
        "load_cpu": load.cpu / watched.seconds,
        "foreign_cpu": watched.foreign,
    }


def of_memory(running: Running) -> dict[str, float]:
    """The memory of a server, and of its helpers where it has some."""
    own = processes.memory(running.measured)
    found = {"rss_mb": own.rss, "pss_mb": own.pss}
    if running.helpers:
        helping = processes.memory(running.helpers)
        found |= {"helper_rss_mb": helping.rss, "helper_pss_mb": helping.pss}
    return found
