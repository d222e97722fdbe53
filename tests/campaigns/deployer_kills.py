"""kill -9 of the deployer at random moments while actions run: no acknowledged action may be lost.

    python -m tests.campaigns.deployer_kills --kills 50 --seed 1

The ledger: every answered action is a revision in the history afterwards; numbers have no gap; each revision has exactly one
audit row; plans never go back; at the end the nodes do what the newest revision says.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from quarterdeck.storage import open_storage
from tests.deployer_process import DeployerProcess, prepare
from tests.deployer_world import ADMIN, NODE, manifest, publish
from tests.node_twin import NodeTwin
from tests.support import eventually

HEADERS = {"authorization": f"Bearer {ADMIN}"}


@dataclass
class Ledger:
    """What was asked and what was answered."""

    asked: int = 0
    answered: dict[int, str] = field(default_factory=dict)
    unforeseen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """The figures of one campaign."""

    kills: int
    asked: int
    acknowledged: int
    lost: int
    gaps: int
    revisions: int
    audit_rows: int
    converged: bool


def campaign(folder: Path, kills: int, seed: int) -> Outcome:
    """Run it in an empty folder."""
    prepare(folder)
    deployer, chance, ledger = DeployerProcess(folder), random.Random(seed), Ledger()
    deployer.up()
    with httpx.Client(base_url=deployer.url, headers=HEADERS, timeout=30) as http:
        _publish(folder, http)
        stop = threading.Event()
        twins = [NodeTwin(http, "main", NODE), NodeTwin(http, "challenger", NODE)]
        threads = [threading.Thread(target=twin.run, args=(stop,)) for twin in twins]
        threads.append(threading.Thread(target=_act, args=(deployer.url, ledger, random.Random(seed), stop)))
        for thread in threads:
            thread.start()
        try:
            for _ in range(kills):
                # A moment is random: anywhere between two actions, inside one, or inside a reconcile step.
                stop.wait(chance.uniform(0.05, 0.5))
                deployer.kill()
                deployer.up()
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        # The ledger is closed; now the nodes live on until all of it has come to pass.
        outcome = _settle(http, twins, ledger, kills)
    assert deployer.stop() == 0
    return outcome


def _publish(folder: Path, http: httpx.Client) -> None:
    storage = open_storage(str(folder / "store"))
    for version in (1, 2):
        package = manifest(salt=version)
        publish(storage, version, package)
        http.post("/api/models/flights/versions", json={"version": version, "digest": package.digest}).raise_for_status()


def _act(url: str, ledger: Ledger, chance: random.Random, stop: threading.Event) -> None:
    with httpx.Client(base_url=url, headers=HEADERS, timeout=30) as http:
        while not stop.is_set():
            ledger.asked += 1
            why = f"action {ledger.asked}"
            try:
                answer = _one(http, chance, why)
            except httpx.TransportError:
                stop.wait(0.02)
                continue
            if answer.status_code in (200, 201):
                if answer.json()["changed"]:
                    ledger.answered[answer.json()["revision"]] = why
            elif answer.status_code not in (404, 409):
                ledger.unforeseen.append(answer.text)


def _one(http: httpx.Client, chance: random.Random, why: str) -> httpx.Response:
    base = "/api/deployments/late"
    match chance.randrange(4):
        case 0:
            return http.post(f"{base}/rollback", json={"why": why})
        case 1:
            return http.post(f"{base}/swap", json={"why": why})
        case _:
            body = {
                "description": why,
                "main": {"model": "flights", "version": chance.choice((1, 2))},
                "challenger": {"model": "flights", "version": chance.choice((1, 2))},
                "why": why,
            }
            return http.put(base, json=body)


def _settle(http: httpx.Client, twins: list[NodeTwin], ledger: Ledger, kills: int) -> Outcome:
    def applied() -> bool:
        for twin in twins:
            twin.step()
        return _applied(http)

    converged = eventually(applied, 30)
    history: list[dict[str, Any]] = http.get("/api/deployments/late/revisions").json()
    trail = http.get("/api/audit", params={"limit": 1000, "object": "deployment/late"}).json()
    written = {one["number"]: one["why"] for one in history}
    lost = [number for number, why in ledger.answered.items() if written.get(number) != why]
    assert ledger.unforeseen == []
    assert twins[0].answering["late"] == history[0]["main"]["digest"]
    return Outcome(
        kills,
        ledger.asked,
        len(ledger.answered),
        len(lost),
        len(set(range(1, len(history) + 1)) ^ set(written)),
        len(history),
        len(trail),
        converged,
    )


def _applied(http: httpx.Client) -> bool:
    return bool(http.get("/api/deployments/late").json()["observed"]["applied"])


def main() -> None:
    """Run with arguments and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"seed {given.seed}: {campaign(Path(folder), given.kills, given.seed)}")


if __name__ == "__main__":
    main()
