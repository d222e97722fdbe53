"""Dying at any statement: an action is whole or was never there, and the loop decides again what was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, text

from quarterdeck.plan import DeploymentReport, NodeReport, Plan, VersionReport
from quarterdeck.rollout import Decision, decide
from quarterdeck.storage import open_storage
from quarterdeck_deployer.audit import Act, AuditFilter
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.keys import KeyInput
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.models import ApiKey, AuditEntry, Deployment, NodeState, Revision, Version
from quarterdeck_deployer.nodes import NODES
from quarterdeck_deployer.plans import PlanBuilder
from quarterdeck_deployer.reconciler import Decide, Reconciler, _Overtaken
from quarterdeck_deployer.registry_views import VersionInput
from quarterdeck_deployer.revisions import DeploymentInput, RollbackInput, SwapInput
from quarterdeck_deployer.settings import Settings
from tests.deployer_world import TOKENS, laid_out, manifest, publish

ME = Act(who="ana", why="because")
MOST = 40


class Died(Exception):
    """The process ends here."""


@contextmanager
def dies_at(database: Database, statement: int) -> Iterator[list[str]]:
    """Before its statement of that number (from 1) nothing more reaches the database; yields the statements that did."""
    sent: list[str] = []

    def count(connection: Any, cursor: Any, text: str, *_: Any) -> None:
        if len(sent) + 1 >= statement:
            raise Died
        sent.append(text)

    def commits(connection: Any) -> None:
        count(connection, None, "COMMIT")

    event.listen(database.engine, "before_cursor_execute", count)
    event.listen(database.engine, "commit", commits)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", count)
        event.remove(database.engine, "commit", commits)


@pytest.fixture
def deployer(tmp_path: Path) -> Iterator[Deployer]:
    """A deployer without a loop; four versions are in the store, three of them registered, and one deployment wished."""
    found = opened(tmp_path)
    for number in (1, 2, 3, 4):
        publish(found.storage, number, manifest(salt=number))
        if number < 4:
            found.registry.register("flights", VersionInput(version=number, digest=manifest(salt=number).digest), ME)
    found.deployments.put("late", wish(1, 2), ME)
    found.deployments.put("late", wish(2, 1), ME)
    yield found
    found.database.close()


def opened(folder: Path) -> Deployer:
    """The same folder again is a restart."""
    settings = laid_out(Settings(data=folder, store=f"memory://{folder}"))
    return Deployer(settings, TOKENS, open_storage(settings.store_url))


def wish(main: int, challenger: int | None = None) -> DeploymentInput:
    """The wish for a pair."""
    beside = {"model": "flights", "version": challenger} if challenger else None
    return DeploymentInput.model_validate({"main": {"model": "flights", "version": main}, "challenger": beside})


def counts(database: Database) -> dict[str, int]:
    """Rows of each table that actions write."""
    with database.sessions() as session:
        return {table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
                for table in (AuditEntry, Revision, Deployment, ApiKey, Version)}  # fmt: skip


ACTIONS: dict[str, tuple[Callable[[Deployer], Any], dict[str, int]]] = {
    "create": (lambda d: d.deployments.put("other", wish(1), ME), {"audit": 1, "revisions": 1, "deployments": 1}),
    "change": (lambda d: d.deployments.put("late", wish(3), ME), {"audit": 1, "revisions": 1}),
    "swap": (lambda d: d.deployments.swap("late", SwapInput(), ME), {"audit": 1, "revisions": 1}),
    "rollback": (lambda d: d.deployments.rollback("late", RollbackInput(), ME), {"audit": 1, "revisions": 1}),
    "stop": (lambda d: d.deployments.stop("late", ME), {"audit": 1, "revisions": 1}),
    "delete": (lambda d: d.deployments.delete("late", ME), {"audit": 1, "revisions": 1}),
    "key": (lambda d: d.keys.create(KeyInput(name="booking"), ME), {"audit": 1, "keys": 1}),
    "register": (
        lambda d: d.registry.register("flights", VersionInput(version=4, digest=manifest(salt=4).digest), ME),
        {"audit": 1, "versions": 1},
    ),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_that_dies_anywhere_was_never_there(deployer: Deployer, name: str) -> None:
    """Before every single statement, the commit among them: no revision, no audit row, no number used; then it works."""
    action, adds = ACTIONS[name]
    before = counts(deployer.database)
    finished = 0
    for statement in range(1, MOST):
        with dies_at(deployer.database, statement), suppress(Died):
            action(deployer)
            finished = statement
            break
        assert counts(deployer.database) == before, f"something stayed of {name} when it died at statement {statement}"
    assert finished > 3
    after = counts(deployer.database)
    assert {table: after[table] - before[table] for table in after if after[table] != before[table]} == adds
    newest = deployer.audit.listed(Window(1), AuditFilter()).items[0]
    assert (newest.who, newest.reason) == ("ana", "because")


def stored_plans(database: Database) -> dict[str, tuple[int, str]]:
    """What the database knows to be published: number and digest by node."""
    with database.sessions() as session:
        return {state.node: (state.sequence, state.plan) for state in session.scalars(select(NodeState))}


def records(database: Database) -> dict[str, dict[str, Any]]:
    """The decision record of each deployment."""
    with database.sessions() as session:
        return {row.name: row.record for row in session.scalars(select(Deployment))}


def ready(plan: Plan) -> NodeReport:
    """The word of a node that has loaded everything it was told, and answers with what is active."""
    return NodeReport(
        node=plan.node, boot="b", role=NODES[plan.node], url="u", sequence=plan.sequence, ready=True,
        deployments=[DeploymentReport(
            name=one.name, role=one.role, revision=one.revision, generation=one.generation,
            active=one.active.digest if one.active else None, probe_age_seconds=0.1,
            mirroring=one.mirror.version.digest if one.mirror else None,
            versions=[VersionReport(digest=ref.digest, version=ref.version, state="ready") for ref in one.resident],
        ) for one in plan.deployments],
    )  # fmt: skip


def process(deployer: Deployer, decide: Decide = decide) -> Reconciler:
    """The loop of a new process over the same database; reports are due at its first step."""
    builder = PlanBuilder(deployer.settings.store_url, TOKENS)
    return Reconciler(deployer.database, builder, deployer.local.nodes, decide=decide)


def settled(deployer: Deployer) -> None:
    """Steps and reports until nothing moves any more."""
    loop = process(deployer)
    for _ in range(6):
        for plan in loop.step().values():
            deployer.local.nodes.take(plan.node, ready(plan))


def test_a_step_that_dies_anywhere_is_decided_again_by_the_next_process(deployer: Deployer) -> None:
    """Before every statement: records and plan numbers move together or not at all, and the next process publishes the same."""
    settled(deployer)
    deployer.deployments.put("late", wish(3, 1), ME)
    before = stored_plans(deployer.database), records(deployer.database)
    published: dict[str, Plan] = {}
    for statement in range(1, MOST):
        with dies_at(deployer.database, statement), suppress(Died):
            published = process(deployer).step()
        if published:
            break
        assert (stored_plans(deployer.database), records(deployer.database)) == before
    assert {node: plan.sequence for node, plan in published.items()} == {
        node: number for node, (number, _) in stored_plans(deployer.database).items()
    }
    assert published["main"].sequence > before[0]["main"][0]
    assert process(deployer).step() == published


OVERTAKEN = [
    "UPDATE deployments SET record_version = record_version + 1",
    "UPDATE deployments SET record_version = record_version + 1, deleted = '2026-11-21 00:00:00'",
]


@pytest.mark.parametrize("change", OVERTAKEN)
def test_a_record_written_meanwhile_stops_the_step(deployer: Deployer, change: str) -> None:
    """Compare and swap: who writes between reading and writing wins, and no plan of the older world gets a number."""
    settled(deployer)
    deployer.deployments.put("late", wish(3, 1), ME)
    numbers, found = stored_plans(deployer.database), records(deployer.database)

    def overtaken(*given: Any) -> Decision:
        # The step has read the world; another hand is quicker with the record.
        with closing(Database(deployer.settings.database_place)) as other, other.writing.begin() as session:
            session.execute(text(change))
        return decide(*given)

    with pytest.raises(_Overtaken):
        process(deployer, overtaken).step()
    assert (stored_plans(deployer.database), records(deployer.database)) == (numbers, found)
    plan = process(deployer).step()["main"]
    assert [one.name for one in plan.deployments] == ([] if "deleted" in change else ["late"])


def test_numbers_rise_with_the_content_only(deployer: Deployer) -> None:
    """Ten processes over one world publish one plan; a key, a stop and a deletion are a new one each."""
    settled(deployer)
    plans = [process(deployer).step() for _ in range(10)]
    assert all(one == plans[0] for one in plans)
    seen = [plans[0]["main"].sequence]
    for act in (
        lambda: deployer.keys.create(KeyInput(name="booking"), ME),
        lambda: deployer.deployments.stop("late", ME),
        lambda: deployer.deployments.delete("late", ME),
    ):
        act()
        seen.append(process(deployer).step()["main"].sequence)
    assert seen == sorted(set(seen))
