"""Goodput at ten times the capacity of a model that takes 5 ms per row: requests leave by the clock, whatever the answers do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench import processes
from bench.cells import Rules, of_memory
from bench.node import DEPLOYMENT, Quarterdeck
from bench.places import ROOT
from bench.rows import Row
from bench.servers import Running, Target, bodies, run_folder

Kind = Literal["slow", "waiting"]
TIMES = 10
CONNECTIONS = 512
CAPACITY_CONNECTIONS = 64
_TARGET = Target(f"/deployments/{DEPLOYMENT}/predict", "number")


def measure(kind: Kind, repetition: int, rules: Rules) -> Row:
    """Capacity in closed loop, then ten times that in open loop; goodput counts answers 200 that came while requests were sent.

    Raises:
        WrongAnswer, TimeoutError, ChildProcessError: the node did not come up.
    """
    server = Quarterdeck("quarterdeck", {"single": _TARGET}, package=kind)
    with run_folder("overload") as folder, server.started("single", rules.cores) as running:
        body = folder / "body"
        body.write_bytes(bodies(_TARGET, "single")[0])
        capacity = _load(running, body, 0.0, CAPACITY_CONNECTIONS, rules)
        own = capacity["in_time"] / capacity["seconds"]
        began, used = time.monotonic(), processes.cpu_seconds(running.measured)
        flood = _load(running, body, TIMES * own, CONNECTIONS, rules)
        cores = (processes.cpu_seconds(running.measured) - used) / (time.monotonic() - began)
        goodput = flood["in_time"] / flood["seconds"]
        p50, p99 = np.percentile(flood["good_latencies"] or [0], [50, 99]) / 1_000
        figures = {
            "capacity": own,
            "rps": goodput,
            "kept": goodput / own,
            "offered": flood["sent"] / flood["seconds"],
            "refused": float(flood["not200"]),
            "unanswered": float(flood["sent"] - flood["answered"] + flood["lost"]),
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "server_cpu": cores,
            **of_memory(running),
        }
    return Row(f"quarterdeck-{kind}", "overload", CONNECTIONS, repetition, figures)


def _load(running: Running, body: Path, rate: float, connections: int, rules: Rules) -> dict[str, Any]:
    words = {"url": running.url + _TARGET.path, "body": body, "rate": rate, "seconds": 2 * rules.seconds}
    command = ["taskset", "-c", str(rules.cores.load), sys.executable, str(ROOT / "bench" / "openloop.py")]
    command += [word for name, value in words.items() for word in (f"--{name}", str(value))]
    command += ["--connections", str(connections), "--header", f"X-API-Key:{running.key}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildProcessError(f"the open loop ended: {done.stderr[-400:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
