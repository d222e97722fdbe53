"""The deployer and its database are killed and restarted in the middle of actions: none is lost, none is done twice.

Meanwhile predictions are answered as if nothing were: neither of the two is on their way.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from quarterdeck.client import Client, Done
from quarterdeck.errors import NotReady, QuarterdeckError
from quarterdeck.plan import VersionRef
from tests.cluster.database_pod import DatabasePod
from tests.cluster.installation import Installation
from tests.cluster.load import Load
from tests.cluster.second_deployer import SecondDeployer
from tests.cluster.test_changes import nothing_lost
from tests.support import eventually

NAME, CHANGES, SECONDS = "restarted", 10, 120.0
Restart = Callable[[], None]


@dataclass
class Asked:
    """What was asked, each under a key of its own and again until it was answered.

    Attributes:
        whys: of all.
        acknowledged: action → why.
        repeated: how often one was sent again.
        refused: answers that nobody foresaw.
    """

    whys: list[str] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    repeated: int = 0
    refused: list[str] = field(default_factory=list)


@pytest.fixture
def on_sqlite(installation: Installation, namespace: str) -> Iterator[SecondDeployer]:
    """A deployer with SQLite on its volume."""
    found = SecondDeployer(installation, namespace, None)
    try:
        found.install()
        yield found
    finally:
        found.remove()


@pytest.fixture
def database(installation: Installation, namespace: str) -> Iterator[DatabasePod]:
    """PostgreSQL in a pod."""
    found = DatabasePod(installation.node, namespace)
    try:
        found.start()
        yield found
    finally:
        found.remove()


@pytest.fixture(params=[True, False], ids=["with a volume", "without one"])
def on_postgresql(
    request: pytest.FixtureRequest, installation: Installation, namespace: str, database: DatabasePod
) -> Iterator[SecondDeployer]:
    """A deployer with PostgreSQL, with a volume beside it and without."""
    found = SecondDeployer(installation, namespace, database, volume=request.param)
    try:
        found.install()
        yield found
    finally:
        found.remove()


def test_nothing_is_lost_when_a_deployer_on_a_volume_dies(on_sqlite: SecondDeployer, versions: tuple[VersionRef, ...]) -> None:
    """Its process is killed and its pod deleted, three times over."""
    deployed(on_sqlite, versions)
    survives(on_sqlite, 3 * [on_sqlite.kill, on_sqlite.delete_pod])


def test_nothing_is_lost_when_deployer_and_postgresql_die(
    on_postgresql: SecondDeployer, database: DatabasePod, versions: tuple[VersionRef, ...]
) -> None:
    """The deployer is killed, the server's pod deleted, the server killed, and then both at once, either way."""
    deployed(on_postgresql, versions)
    restarts: list[Restart] = [
        on_postgresql.kill,
        database.delete_pod,
        partial(both, database.kill, on_postgresql.delete_pod),
        partial(both, on_postgresql.kill, database.delete_pod),
    ]
    survives(on_postgresql, restarts)


def test_a_deployer_without_a_volume_signs_on_as_before(
    installation: Installation, namespace: str, database: DatabasePod, versions: tuple[VersionRef, ...]
) -> None:
    """PostgreSQL and the store are all that lasts: the next pod knows models and tokens, and signs with the same keys."""
    found = SecondDeployer(installation, namespace, database, volume=False)
    try:
        found.install()
        with found.client() as client:
            client.register(versions[0])
            signing, token = client.token_keys(), client.create_token(30)["token"]
        found.delete_pod()
        found.wait()
        with found.client(token) as client:
            assert [one["name"] for one in client.models()] == [versions[0].model]
            assert client.token_keys() == signing
    finally:
        found.remove()


def both(first: Restart, second: Restart) -> None:
    """One restart while the other one is under way."""
    first()
    second()


def deployed(deployer: SecondDeployer, versions: tuple[VersionRef, ...]) -> None:
    """Version 1 answers, and version 2 is its challenger."""
    with deployer.client() as client:
        for ref in versions:
            client.register(ref)
        client.put_deployment(NAME, wish("the first one"))
        # Not by waiting within the request: a pod that is being replaced answers whoever waits before it ends.
        eventually(lambda: client.deployment(NAME)["observed"]["applied"], SECONDS, every=0.3)


def wish(description: str) -> dict[str, object]:
    """Version 1 with version 2 as its challenger."""
    pair = {"main": {"model": "versions", "version": 1}, "challenger": {"model": "versions", "version": 2}}
    return {**pair, "access": "public", "description": description, "why": description, "stage": "dev"}


def survives(deployer: SecondDeployer, restarts: list[Restart]) -> None:
    """Ten actions around each restart, under load: every one that was acknowledged has ended, and is there once."""
    began, asked, numbers = time.monotonic(), Asked(), itertools.count(1)
    with Load(deployer.installation, deployer.namespace, NAME, kept=2, fresh=1) as load, deployer.client() as client:
        for restart in restarts:
            under_way = threading.Event()
            acting = threading.Thread(target=act, args=(deployer, asked, numbers, under_way))
            acting.start()
            assert under_way.wait(SECONDS)
            restart()
            acting.join(600)
            assert not acting.is_alive()
        eventually(lambda: not client.actions(state="accepted"), SECONDS, every=0.3)
        eventually(lambda: client.deployment(NAME)["observed"]["applied"], SECONDS, every=0.3)
        seen = load.end()
        tell(client, asked, len(restarts), f"{seen.answered} answered, {seen.lost} lost", time.monotonic() - began)
        whole(client, asked)
    nothing_lost(seen)


def act(deployer: SecondDeployer, asked: Asked, numbers: Iterator[int], under_way: threading.Event) -> None:
    """Ten changes, one after the other; `under_way` once the third is about to be asked for."""
    with deployer.client() as client:
        for turn in range(CHANGES):
            number = next(numbers)
            why, key = f"change {number}", str(uuid.uuid4())
            asked.whys.append(why)
            if turn == 2:
                under_way.set()
            insist(client.acting(key=key), number, why, asked)


def insist(client: Client, number: int, why: str, asked: Asked) -> None:
    """Ask the very same until it is answered, and then until it has ended: the next one must not overtake it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            done = change(client, number, why)
        except NotReady:
            time.sleep(0.1)
        except QuarterdeckError as error:
            asked.refused.append(f"{why}: {type(error).__name__} {error.code} {error}")
            return
        else:
            asked.acknowledged[done["action"]] = why
            # A deployer that is told to end answers at once whoever still waits for the cluster.
            if done["state"] != "accepted":
                return
        asked.repeated += 1
    asked.refused.append(f"{why}: it did not end")


def change(client: Client, number: int, why: str) -> Done:
    """One change that is never the same as what is there, and is waited for until the cluster has followed."""
    match number % 3:
        case 0:
            return client.put_deployment(NAME, wish(why), wait=30)
        case 1:
            return client.swap(NAME, why=why, wait=30)
        case _:
            return client.rollback(NAME, why=why, wait=30)


def whole(client: Client, asked: Asked) -> None:
    """The ledger: what was asked and what is written are one to one, each has ended, and the audit trail is unbroken."""
    history, actions = client.revisions(NAME), {each["id"]: each for each in client.actions(deployment=NAME)}
    written = Counter(each["why"] for each in history)
    assert asked.refused == []
    assert len(asked.acknowledged) == len(asked.whys)
    assert [why for why in asked.whys if written[why] != 1] == []
    assert {ident: actions[ident]["why"] for ident in asked.acknowledged} == asked.acknowledged
    assert {each["state"] for each in actions.values()} <= {"applied", "failed"}
    assert [each["number"] for each in history] == list(range(len(history), 0, -1))
    assert len(client.audit(object=f"deployment/{NAME}")) == len(history)
    assert client.verify_audit()["whole"]


def tell(client: Client, asked: Asked, restarts: int, predictions: str, seconds: float) -> None:
    """Print the figures."""
    actions = {each["id"]: each for each in client.actions(deployment=NAME)}
    written = Counter(each["why"] for each in client.revisions(NAME))
    ended = dict(Counter(actions[ident]["state"] for ident in asked.acknowledged if ident in actions))
    lost = sum(not written[why] for why in asked.acknowledged.values())
    twice = sum(written[why] > 1 for why in asked.whys)
    print(
        f"\n{restarts} restarts, {len(asked.whys)} actions asked, {asked.repeated} times again, "
        f"{len(asked.acknowledged)} acknowledged: {ended}, {lost} lost, {twice} twice, {len(asked.refused)} refused; "
        f"predictions: {predictions}; {seconds:.0f} s"
    )
