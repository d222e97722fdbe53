"""What a broken challenger costs main: Δp50 and Δp99 with intervals, and the mirror's ledger, for each fault.

    python -m bench.challenger_faults [--pairs 6] [--seconds 6] [--faults healthy,stopped,killed,slow,garbage]

One real main node (serve and agent) on core 0, load and challenger on core 1. Requests leave by the clock (open loop) at
30 % of the capacity measured first. For each fault, windows without a mirror and windows with it are interleaved in
pairs; Δ is the mean of the differences inside the pairs, with a 95 % t interval. Promise (design §9.3): Δp99 within the larger
of 2 % and 1 ms, and mirrored = answered + failed + expired + dropped + pending, exactly. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from scipy import stats

import quarterdeck
from bench import processes
from bench.node import start_node
from bench.plan_server import PlanServer
from quarterdeck.plan import DeploymentPlan, Key, Mirror, Role, VersionRef
from quarterdeck.storage import open_storage

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ["healthy", "stopped", "killed", "slow", "garbage"]


def start(folder: Path, role: Role, port: int, plans: PlanServer, core: int) -> list[processes.Process]:
    """The agent and serve processes of one node, pinned to a core."""
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / "node-token"
    token.write_text("bench")
    told: dict[str, Any] = {"node": role, "role": role, "plan_server": plans.url, "node_token_file": token}
    node = start_node(folder, port, core=core, agent_core=core, **told)
    return [node.agent, node.serve]


def fake_challenger(answer: bytes, delay: float) -> str:
    """The URL of a server that answers every request with the same bytes after a while."""

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            while client.recv(1 << 20):
                time.sleep(delay)
                client.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
                )

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def make_package(store: Path) -> tuple[VersionRef, dict[str, Any]]:
    """A real LightGBM package in the store, and one row for it."""
    random = np.random.default_rng(1)
    X = pd.DataFrame(random.normal(size=(2_000, 12)), columns=[f"f{i}" for i in range(12)])
    y = (X["f0"] + random.normal(size=2_000) > 0).astype(int)
    model = LGBMClassifier(n_estimators=100, num_leaves=31, n_jobs=1, verbose=-1).fit(X, y)
    built = quarterdeck.package(model, X, y, name="bench")
    return built.push(open_storage(str(store))), dict(zip(X.columns, X.iloc[0].tolist(), strict=True))


class Bench:
    """The main node under load, and one switch: where it mirrors to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        self.store.mkdir()
        self.version, row = make_package(self.store)
        self.body = folder / "row.json"
        self.body.write_text(json.dumps(row))
        self.plans, self.port, self.challenger_port = PlanServer(), processes.free_port(), processes.free_port()
        self.token = secrets.token_urlsafe(32)
        self.generation = 0
        self.mirror_to("")
        self.processes = start(folder / "main", "main", self.port, self.plans, core=0)
        self.challenger: list[processes.Process] = []
        self.plans.wait("main")

    @property
    def url(self) -> str:
        """Main's plain door."""
        return f"http://127.0.0.1:{self.port}/deployments/bench/predict"

    def mirror_to(self, url: str) -> None:
        """Switch the mirror: to a URL, or off."""
        self.generation += 1
        mirror = Mirror(url=url, version=self.version, token=self.token) if url else None
        plan = DeploymentPlan(
            name="bench",
            role="main",
            revision=1,
            generation=self.generation,
            active=self.version,
            resident=[self.version],
            access="public",
            mirror=mirror,
        )
        self.plans.publish("main", str(self.store), plan, [])

    def start_challenger(self) -> str:
        """A real challenger node; gives its URL."""
        key = Key(id="mirror", sha256=sha256(self.token.encode()).hexdigest(), project="*", scopes=["mirror"])
        plan = DeploymentPlan(
            name="bench",
            role="challenger",
            revision=1,
            generation=1,
            active=self.version,
            resident=[self.version],
            access="public",
            records="off",
        )
        self.plans.publish("challenger", str(self.store), plan, [key])
        self.challenger = start(self.folder / "challenger", "challenger", self.challenger_port, self.plans, core=1)
        self.plans.wait("challenger")
        return f"http://127.0.0.1:{self.challenger_port}"

    def stop(self, started: list[processes.Process]) -> None:
        """End exactly these processes."""
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def load(self, rate: float, seconds: float) -> dict[str, Any]:
        """One window of load from core 1."""
        command = [
            "taskset",
            "-c",
            "1",
            sys.executable,
            str(ROOT / "bench/openloop.py"),
            "--url",
            self.url,
            "--body",
            str(self.body),
            "--rate",
            str(rate),
            "--seconds",
            str(seconds),
        ]
        found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        if found["sent"] != found["answered"] or found["not200"]:
            raise SystemExit(
                f"error: main lost requests: {found['sent']} sent, {found['answered']} answered, {found['not200']} not 200"
            )
        return found

    @contextlib.contextmanager
    def fault(self, name: str) -> Iterator[str]:
        """The challenger's URL, with that fault in force from here to the end."""
        if name == "slow":
            yield fake_challenger(b"{}", delay=10.0)
        elif name == "garbage":
            yield fake_challenger(secrets.token_bytes(4096), delay=0.0)
        else:
            url = self.start_challenger()
            if name == "stopped":
                for process in self.challenger:
                    process.send_signal(signal.SIGSTOP)
            elif name == "killed":
                self.stop(self.challenger)
            yield url
            self.stop(self.challenger)


def interval(differences: list[float]) -> str:
    """Mean of paired differences with its 95 % t interval, in milliseconds."""
    mean = statistics.fmean(differences)
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.3f} ms [{mean - half:+.3f}, {mean + half:+.3f}]"


def measure(bench: Bench, fault: str, rate: float, pairs: int, seconds: float) -> bool:
    """Interleaved windows without and with the faulty challenger; prints a row and says whether the promises hold."""
    windows: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    before = bench.plans.ledger("main")
    sent = 0
    with bench.fault(fault) as url:
        for pair in range(pairs):
            for mirrored in (False, True) if pair % 2 else (True, False):
                bench.mirror_to(url if mirrored else "")
                bench.plans.wait("main")
                found = bench.load(rate, seconds)
                sent += found["sent"] if mirrored else 0
                p50, p99 = np.percentile(found["latencies"], [50, 99]) / 1000
                windows[mirrored].append((float(p50), float(p99)))
        bench.mirror_to("")
        bench.plans.wait("main")
        time.sleep(3)  # one more report, after the last copies were settled
        after = bench.plans.ledger("main")
    outcomes = ("answered", "failed", "expired", "dropped", "pending")
    # The ledger counts from the node's start: rows that hung when the last fault ended are settled by now, or still pending.
    exact = after.mirrored == sum(getattr(after, outcome) for outcome in outcomes) and after.mirrored - before.mirrored == sent
    counts = {key: getattr(after, key) - getattr(before, key) for key in ("mirrored", *outcomes)}
    d50 = [on[0] - off[0] for on, off in zip(windows[True], windows[False], strict=True)]
    d99 = [on[1] - off[1] for on, off in zip(windows[True], windows[False], strict=True)]
    base = statistics.median(off[1] for off in windows[False])
    held = statistics.fmean(d99) <= max(0.02 * base, 1.0)
    print(f"{fault:8} base p99 {base:.3f} ms  Δp50 {interval(d50)}  Δp99 {interval(d99)}  {'held' if held else 'NOT HELD'}")
    print(f"         last error: {after.last_error or None}")
    # Pending is a change: rows that hung in an earlier fault and are settled by now make it negative.
    shown = " ".join(f"{key}={value:+d}" if key == "pending" else f"{key}={value}" for key, value in counts.items())
    print(f"         {shown} sent={sent}  identity {'exact' if exact else 'NOT EXACT'}")
    return held and exact


def main() -> None:
    """Run all faults; exit status 1 where a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--faults", default=",".join(FAULTS))
    options = parser.parse_args()
    # Plan server and fake challengers live in this process: they must not share main's core.
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            httpx.post(
                bench.url, content=bench.body.read_bytes(), headers={"content-type": "application/json"}
            ).raise_for_status()
            capacity = bench.load(0, 4.0)
            rate = 0.3 * capacity["answered"] / capacity["seconds"]
            windows = f"{options.pairs} pairs of {options.seconds:.0f} s a fault"
            print(f"capacity {rate / 0.3:,.0f} requests/s on one core; load {rate:,.0f}/s; {windows}")
            good = [measure(bench, fault, rate, options.pairs, options.seconds) for fault in options.faults.split(",")]
        finally:
            bench.stop([*bench.processes, *bench.challenger])
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
