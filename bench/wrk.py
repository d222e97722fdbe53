"""The load generator wrk: one run, and what it said."""

from __future__ import annotations

import json
import re
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.places import ROOT

TIMEOUT_SECONDS = 10
_SAID = re.compile(r"^JSON (\{.*\})$", re.MULTILINE)
_ERRORS = ("connect", "read", "write", "status", "timeout")


@dataclass(frozen=True)
class Post:
    """What is posted: `bodies` of them in turn, read from `file` (one per line, or the whole file where there is one)."""

    url: str
    file: Path
    bodies: int = 1
    media: str = "application/json"
    key: str = ""


@dataclass(frozen=True)
class Load:
    """What one run measured. `rps` counts good answers a second; times are in milliseconds, `cpu` in seconds of wrk's own.

    `errors`: connections, reads and writes that failed, answers with status 400 and above, requests that timed out.
    """

    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: int
    cpu: float = 0.0


def parse(said: str, cpu: float = 0.0) -> Load:
    """What wrk printed, with the line that post.lua adds.

    Raises:
        ValueError: that line is missing: wrk did not run to its end.
    """
    found = _SAID.search(said)
    if found is None:
        raise ValueError(f"wrk did not finish: {said.strip()[-500:] or 'it said nothing'}")
    figures: dict[str, int] = json.loads(found[1])
    good = figures["requests"] - figures["status"]
    return Load(
        requests=figures["requests"],
        rps=good / (figures["duration_us"] / 1e6),
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        max_ms=figures["max_us"] / 1e3,
        errors=sum(figures[kind] for kind in _ERRORS),
        cpu=cpu,
    )


def command(post: Post, connections: int, seconds: int, core: int) -> list[str]:
    """The command line of one run, with one thread on one core."""
    words = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{TIMEOUT_SECONDS}s"]
    script = ["-s", str(ROOT / "bench" / "post.lua"), post.url]
    return [*words, *script, "--", str(post.file), str(post.bodies), post.media, post.key]


def run(post: Post, connections: int, seconds: int, core: int) -> Load:
    """Post in closed loop for so many seconds.

    Raises:
        ValueError: wrk failed.
    """
    before = _children_seconds()
    done = subprocess.run(
        command(post, connections, seconds, core), capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    return parse(done.stdout or done.stderr, _children_seconds() - before)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
