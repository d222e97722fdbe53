"""kill -9 of the deployer at random moments while actions run: none that was acknowledged is lost, and none is done twice.

    python -m tests.campaigns.deployer_kills --kills 200 --seed 1

The caller sends each request under an Idempotency-Key, and sends it again under the same one when the connection was cut. The
ledger: every acknowledged action is a revision in the history; no request made two; numbers have no gap; each revision has
exactly one audit row, and the chain of the audit trail is whole; every action has ended, and those that were acknowledged under
their own id; plans never go back; at the end the nodes do what the newest revision says.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import httpx

from quarterdeck.client import Client
from quarterdeck.storage import open_storage
from tests.campaigns.forked_deployer import ForkedDeployer
from tests.deployer_process import prepare
from tests.deployer_world import ADMIN, NODE, manifest, publish
from tests.node_twin import NodeTwin
from tests.support import eventually

HEADERS = {"authorization": f"Bearer {ADMIN}"}
REFUSED = 3
"""The version that every node refuses: what wishes for it ends as Failed, where it is not overtaken."""


class Mortal(Protocol):
    """A deployer that can be killed."""

    @property
    def url(self) -> str:
        """Base URL."""
        ...

    def up(self) -> None:
        """Start, and wait until it answers."""
        ...

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        ...

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        ...


@dataclass
class Ledger:
    """What was asked and what was answered.

    Attributes:
        asked: requests, each counted once however often it was sent.
        repeated: how often one was sent again.
        answered: action → why, of those that made a revision.
        keys: names of API keys whose creation was answered.
        open: whether a request has been sent and not been answered.
    """

    asked: int = 0
    repeated: int = 0
    answered: dict[str, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    unforeseen: list[str] = field(default_factory=list)
    open: bool = False


@dataclass(frozen=True)
class Outcome:
    """The figures of one campaign; `inside` of the kills met a request that was not answered yet."""

    kills: int
    inside: int
    asked: int
    repeated: int
    acknowledged: int
    lost: int
    twice: int
    gaps: int
    revisions: int
    ended: dict[str, int]
    audit_whole: bool
    converged: bool


def campaign(folder: Path, deployer: Mortal, kills: int, seed: int) -> Outcome:
    """Run it in an empty folder, which is the deployer's."""
    prepare(folder)
    chance, ledger = random.Random(seed), Ledger()
    deployer.up()
    with httpx.Client(base_url=deployer.url, headers=HEADERS, timeout=30) as http:
        refuses = {_publish(folder, http): "golden-mismatch"}
        stop = threading.Event()
        twins = [NodeTwin(http, "main", NODE, refuses), NodeTwin(http, "challenger", NODE, refuses)]
        threads = [threading.Thread(target=twin.run, args=(stop,)) for twin in twins]
        threads.append(threading.Thread(target=_act, args=(deployer.url, ledger, random.Random(seed), stop)))
        for thread in threads:
            thread.start()
        inside = 0
        try:
            for _ in range(kills):
                _moment(chance, ledger, stop)
                inside += ledger.open
                deployer.kill()
                deployer.up()
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        # The ledger is closed; now the nodes live on until all of it has come to pass.
        outcome = replace(_settle(http, twins, ledger), kills=kills, inside=inside)
    assert deployer.stop() == 0
    return outcome


def _moment(chance: random.Random, ledger: Ledger, stop: threading.Event) -> None:
    """A random one: anywhere between two actions, inside one, or inside a reconcile step; each second time surely inside."""
    # Some live long enough for nodes to do what was asked.
    stop.wait(chance.uniform(0.05, chance.choice((0.5, 0.5, 0.5, 3.0))))
    if chance.random() < 0.5:
        eventually(lambda: ledger.open, 10, every=0.001)
        stop.wait(chance.uniform(0.0, 0.02))


def _publish(folder: Path, http: httpx.Client) -> str:
    """Three versions; the digest of the one that nodes refuse."""
    storage = open_storage(str(folder / "store"))
    for version in (1, 2, REFUSED):
        package = manifest(salt=version)
        publish(storage, version, package)
        http.post("/api/models/flights/versions", json={"version": version, "digest": package.digest}).raise_for_status()
    return manifest(salt=REFUSED).digest


def _act(url: str, ledger: Ledger, chance: random.Random, stop: threading.Event) -> None:
    with httpx.Client(base_url=url, headers=HEADERS, timeout=30) as http:
        while not stop.is_set():
            ledger.asked += 1
            why = f"action {ledger.asked}"
            answer = _insist(http, _request(http, chance, why), ledger, stop)
            if answer is None:
                return
            if answer.status_code in (200, 201):
                told = answer.json()
                if "secret" in told:
                    ledger.keys.append(why)
                elif told["changed"]:
                    ledger.answered[told["action"]] = why
            elif answer.status_code not in (404, 409):
                ledger.unforeseen.append(answer.text)
            # Now and then nodes are given time to follow: not every action shall be overtaken.
            stop.wait(chance.choice((0.0, 0.0, 0.0, 1.5)))


def _insist(http: httpx.Client, request: httpx.Request, ledger: Ledger, stop: threading.Event) -> httpx.Response | None:
    """Send the very same request until it is answered; None where the campaign ends before that."""
    while True:
        try:
            ledger.open = True
            answer = http.send(request)
        except httpx.TransportError:
            ledger.repeated += 1
            if stop.wait(0.02):
                return None
            continue
        finally:
            ledger.open = False
        # A lock that a dying process held is gone a moment later.
        if answer.status_code != 503:
            return answer


def _request(http: httpx.Client, chance: random.Random, why: str) -> httpx.Request:
    base, headers = "/api/deployments/late", {"idempotency-key": str(uuid.UUID(int=chance.getrandbits(128)))}
    match chance.randrange(6):
        case 0:
            return http.build_request("POST", f"{base}/rollback", json={"why": why}, headers=headers)
        case 1 | 2:
            return http.build_request("POST", f"{base}/swap", json={"why": why}, headers=headers)
        case 3:
            return http.build_request("POST", "/api/keys", json={"name": why}, headers=headers)
        case _:
            main, challenger = (chance.choice((1, 1, 1, 2, 2, 2, REFUSED)) for _ in range(2))
            return http.build_request("PUT", base, json=_wish(why, main, challenger), headers=headers)


def _wish(why: str, main: int, challenger: int) -> dict[str, Any]:
    versions = {role: {"model": "flights", "version": version} for role, version in (("main", main), ("challenger", challenger))}
    return {"description": why, "why": why, **versions}


def _settle(http: httpx.Client, twins: list[NodeTwin], ledger: Ledger) -> Outcome:
    # The last one is one that nodes can do.
    ledger.asked += 1
    last = http.put("/api/deployments/late", json=_wish("the last", 1, 2)).raise_for_status().json()
    ledger.answered[last["action"]] = "the last"
    with Client(str(http.base_url), ADMIN) as client:

        def ended() -> bool:
            for twin in twins:
                twin.step()
            return _applied(http) and not client.actions(state="accepted")

        converged = eventually(ended, 30)
        history, trail = client.revisions("late"), client.audit(object="deployment/late")
        actions = {one["id"]: one for one in client.actions("late")}
        opened = client.keys()
        whole = client.verify_audit()["whole"]
    written = Counter([*(one["why"] for one in history), *(one["name"] for one in opened)])
    acknowledged = [*ledger.answered.values(), *ledger.keys]
    lost = [why for why in acknowledged if not written[why]]
    lost += [why for ident, why in ledger.answered.items() if actions[ident]["why"] != why or not actions[ident]["ended"]]
    assert ledger.unforeseen == []
    assert len(trail) == len(history) == len(actions)
    assert twins[0].answering["late"] == history[0]["main"]["digest"]
    return Outcome(
        kills=0,
        inside=0,
        asked=ledger.asked,
        repeated=ledger.repeated,
        acknowledged=len(acknowledged),
        lost=len(lost),
        twice=sum(count > 1 for count in written.values()),
        gaps=len(set(range(1, len(history) + 1)) ^ {one["number"] for one in history}),
        revisions=len(history),
        ended=dict(Counter(one["state"] for one in actions.values())),
        audit_whole=whole,
        converged=converged,
    )


def _applied(http: httpx.Client) -> bool:
    return bool(http.get("/api/deployments/late").json()["observed"]["applied"])


def main() -> None:
    """Run with arguments and print the figures; exit status 1 where something was lost, done twice or left open."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        outcome = campaign(Path(name), ForkedDeployer(Path(name)), given.kills, given.seed)
    print(f"seed {given.seed}: {outcome} in {time.monotonic() - begun:.0f} s")
    whole = outcome.audit_whole and outcome.converged and sum(outcome.ended.values()) == outcome.revisions
    sys.exit(0 if whole and not (outcome.lost or outcome.twice or outcome.gaps or "accepted" in outcome.ended) else 1)


if __name__ == "__main__":
    main()
