"""What mirroring every row to a challenger node costs main: windows with and without it, in turn.

Main is on the server's core; the challenger takes what the load generator leaves of the other one. Where main still has to wait
for requests, requests a second say less than requests per second of main's own processor time: both are compared.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench import processes, work, wrk
from bench.cells import Rules, loaded
from bench.forms import ROTATION
from bench.node import DEPLOYMENT, Caller, NodeProcesses, deployment, dropped_records, start_node
from bench.packages import published
from bench.plan_server import PlanServer
from bench.rows import Row
from bench.servers import Cores, Running, run_folder
from quarterdeck.plan import Key, Mirror, MirrorReport

CONNECTIONS = 16
PAIRS = 2
SETTLE_SECONDS = 10.0
_REPORT_SECONDS = 2.5
OUTCOMES = ("answered", "failed", "expired", "dropped", "pending")


class Pair:
    """A main node and a challenger node, and a switch: whether rows are mirrored."""

    def __init__(self, folder: Path, plans: PlanServer, cores: Cores) -> None:
        self.package, self.plans, self.caller = published("pipe"), plans, Caller()
        self._token, self._generation = secrets.token_urlsafe(32), 0
        (folder / "token").write_text("bench")
        ports = {"main": processes.free_port(), "challenger": processes.free_port()}
        self.urls = {role: f"http://127.0.0.1:{port}" for role, port in ports.items()}
        self._challenge()
        self.mirror(on=False)
        self.nodes: dict[str, NodeProcesses] = {}
        for role, core in (("main", cores.server), ("challenger", cores.load)):
            told: dict[str, Any] = {"node": role, "role": role, "plan_server": plans.url, "node_token_file": folder / "token"}
            self.nodes[role] = start_node(
                folder / role, ports[role], core=core, agent_core=cores.load, idle=role == "challenger", **told
            )

    def mirror(self, *, on: bool) -> None:
        """Switch mirroring; the plan is on its way when this returns."""
        self._generation += 1
        mirror = Mirror(url=self.urls["challenger"], version=self.package.version, token=self._token) if on else None
        plan = deployment(self.package, generation=self._generation, mirror=mirror)
        self.plans.publish("main", self.package.store, plan, [self.caller.key])

    def stop(self) -> None:
        """End both nodes."""
        for node in self.nodes.values():
            node.stop()

    def _challenge(self) -> None:
        key = Key(id="mirror", sha256=sha256(self._token.encode()).hexdigest(), project="*", scopes=["mirror"])
        plan = deployment(self.package, role="challenger", access="public")
        self.plans.publish("challenger", self.package.store, plan, [key])


def measure(repetition: int, rules: Rules) -> Row:
    """Load main with and without mirroring, twice each.

    Raises:
        TimeoutError: a node is not ready.
    """
    with _started(rules.cores) as pair:
        main, challenger = pair.nodes["main"], pair.nodes["challenger"]
        url = pair.urls["main"]
        running = Running(url, (main.serve.pid,), 0.0, (main.agent.pid,), pair.caller.secret, lambda: dropped_records(url))
        post = wrk.Post(
            f"{url}/deployments/{DEPLOYMENT}/predict", work.body_file("plain", "single"), ROTATION, key=pair.caller.secret
        )
        windows: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        wrk.run(post, CONNECTIONS, 2, rules.cores.load)
        for number in range(PAIRS):
            # The order changes from pair to pair, so that neither way always comes first.
            for on in (False, True) if number % 2 == 0 else (True, False):
                pair.mirror(on=on)
                pair.plans.wait("main")
                others = (challenger.serve.pid, challenger.agent.pid)
                windows[on].append(loaded(running, post, CONNECTIONS, rules, others))
        ledger = _settled(pair.plans)
        found = {"mirrored": float(ledger.mirrored), **{name: float(getattr(ledger, name)) for name in OUTCOMES}}
        return Row("quarterdeck", "mirroring", CONNECTIONS, repetition, {**_compared(windows), **found})


def _settled(plans: PlanServer) -> MirrorReport:
    """The ledger once nothing is pending any more, or as it is after ten seconds; reports come every two."""
    deadline = time.monotonic() + SETTLE_SECONDS
    time.sleep(_REPORT_SECONDS)
    while (ledger := plans.ledger("main")).pending and time.monotonic() < deadline:
        time.sleep(0.1)
    return ledger


def _compared(windows: dict[bool, list[dict[str, float]]]) -> dict[str, float]:
    """Ratios inside the pairs, and the medians of both kinds of windows."""
    pairs = list(zip(windows[False], windows[True], strict=True))
    kept = [on["rps"] / off["rps"] for off, on in pairs]
    by_cpu = [(on["rps"] / on["server_cpu"]) / (off["rps"] / off["server_cpu"]) for off, on in pairs]
    every = [*windows[False], *windows[True]]
    return {
        "kept": statistics.median(by_cpu),
        "kept_by_the_clock": statistics.median(kept),
        "rps_without": statistics.median(window["rps"] for window in windows[False]),
        "rps": statistics.median(window["rps"] for window in windows[True]),
        "p99_ms_without": statistics.median(window["p99_ms"] for window in windows[False]),
        "p99_ms": statistics.median(window["p99_ms"] for window in windows[True]),
        "server_cpu": statistics.median(window["server_cpu"] for window in windows[True]),
        "errors": sum(window["errors"] for window in every),
        "disturbed": max(window["disturbed"] for window in every),
    }


@contextmanager
def _started(cores: Cores) -> Iterator[Pair]:
    plans = PlanServer()
    with run_folder("mirroring") as folder:
        pair = Pair(folder, plans, cores)
        try:
            plans.wait("main")
            plans.wait("challenger")
            yield pair
        finally:
            pair.stop()
            plans.close()
