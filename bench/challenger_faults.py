"""What a broken challenger costs main: Δp50 and Δp99 with intervals, and the mirror's ledger, for each fault.

    python bench/challenger_faults.py [--pairs 6] [--seconds 6] [--faults healthy,stopped,killed,slow,garbage]

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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from scipy import stats

import quarterdeck
from quarterdeck.plan import DeploymentPlan, Key, Mirror, MirrorReport, NodeReport, Plan, Role, VersionRef
from quarterdeck.storage import open_storage

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ["healthy", "stopped", "killed", "slow", "garbage"]
Process = subprocess.Popen[bytes]


class QuietServer(ThreadingHTTPServer):
    """Nodes are stopped and killed here on purpose; their torn connections are no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


class PlanServer:
    """Serves plans to nodes and keeps their newest reports: the deployer's part, small enough to see through."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self.reports: dict[str, NodeReport] = {}
        self.changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                node, _, query = self.path.removeprefix("/plans/").partition("?")
                after = int(query.partition("after=")[2].partition("&")[0] or -1)
                with outer.changed:
                    outer.changed.wait_for(lambda: node in outer.plans and outer.plans[node].sequence > after, timeout=10)
                    plan = outer.plans.get(node)
                newer = plan is not None and plan.sequence > after
                self._answer(200 if newer else 204, plan.model_dump_json().encode() if plan and newer else b"")

            def do_POST(self) -> None:
                report = NodeReport.model_validate_json(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.changed:
                    outer.reports[report.node] = report
                    outer.changed.notify_all()
                self._answer(204, b"")

            def _answer(self, status: int, body: bytes) -> None:
                # A node that is stopped or killed meanwhile is what this program is about.
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def publish(self, node: str, store: str, deployment: DeploymentPlan, keys: list[Key]) -> None:
        """Give a node a new plan and wake its long poll."""
        with self.changed:
            sequence = self.plans[node].sequence + 1 if node in self.plans else 1
            self.plans[node] = Plan(node=node, sequence=sequence, store=store, deployments=[deployment], keyring=keys)
            self.changed.notify_all()

    def wait(self, node: str, seconds: float = 60) -> None:
        """Until the node has taken over its newest plan and answers with what it says."""
        wanted = self.plans[node]

        def there() -> bool:
            report = self.reports.get(node)
            return report is not None and report.sequence >= wanted.sequence and report.ready

        with self.changed:
            if not self.changed.wait_for(there, timeout=seconds):
                raise SystemExit(f"error: node {node} is not ready after {seconds:.0f} s: {self.reports.get(node)}")

    def ledger(self, node: str) -> MirrorReport:
        """The mirror's counts in the node's newest report."""
        with self.changed:
            return self.reports[node].deployments[0].mirror


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_node(folder: Path, role: Role, port: int, plans: PlanServer, core: int) -> list[Process]:
    """The serve and agent processes of one node, pinned to a core."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node-token").write_text("bench")
    environment = {
        **os.environ,
        "QUARTERDECK_NODE": role,
        "QUARTERDECK_ROLE": role,
        "QUARTERDECK_HOST": "127.0.0.1",
        "QUARTERDECK_PORT": str(port),
        "QUARTERDECK_PLAN_SERVER": plans.url,
        "QUARTERDECK_NODE_TOKEN_FILE": str(folder / "node-token"),
    }
    with (folder / "log").open("ab") as log:
        return [
            subprocess.Popen(
                ["taskset", "-c", str(core), sys.executable, "-m", module], cwd=folder, env=environment, stdout=log, stderr=log
            )
            for module in ("quarterdeck_node.agent", "quarterdeck_node")
        ]


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
        self.plans, self.port, self.challenger_port = PlanServer(), free_port(), free_port()
        self.token = secrets.token_urlsafe(32)
        self.generation = 0
        self.mirror_to("")
        self.processes = start_node(folder / "main", "main", self.port, self.plans, core=0)
        self.challenger: list[Process] = []
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
        self.challenger = start_node(self.folder / "challenger", "challenger", self.challenger_port, self.plans, core=1)
        self.plans.wait("challenger")
        return f"http://127.0.0.1:{self.challenger_port}"

    def stop(self, processes: list[Process]) -> None:
        """End exactly these processes."""
        for process in processes:
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
