"""Any order of wishes, deaths and returns: the real deployer on SQLite beside small nodes, held against a model of the truth.

The world is driven by hand: nodes poll, load and report when a rule says so, the reconcile loop steps when a rule says so, and
time is a number. Nothing waits.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import event, select

from quarterdeck.errors import Conflict, NotFound
from quarterdeck.plan import DeploymentPlan, DeploymentReport, LoadState, NodeReport, Plan, Role, VersionRef, VersionReport
from quarterdeck.rollout import Decision, Record, Spec, decide
from quarterdeck.storage.memory import MemoryStorage
from quarterdeck_deployer.audit import Act, AuditFilter
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.listing import Window
from quarterdeck_deployer.models import Deployment, Revision
from quarterdeck_deployer.nodes import NODES
from quarterdeck_deployer.observed import ObservedDeployment
from quarterdeck_deployer.plans import content_digest
from quarterdeck_deployer.reconciler import _Overtaken
from quarterdeck_deployer.registry_views import VersionInput
from quarterdeck_deployer.revision_rows import view
from quarterdeck_deployer.revisions import ChallengerInput, Changed, DeploymentInput, RevisionView, RollbackInput, SwapInput
from quarterdeck_deployer.revisions import VersionChoice as Choice
from quarterdeck_deployer.settings import Settings
from tests.deployer_world import TOKENS, manifest, publish

ACT = Act("somebody", "because")
START = 1_700_000_000.0
VERSIONS = 3
LIVELY = ("late", "early")

numbers = st.integers(1, VERSIONS)
names = st.sampled_from(("late", "late", "late", "early"))
roles = st.sampled_from(sorted(NODES))


@cache
def template() -> tuple[Path, MemoryStorage]:
    """A migrated database in which every version is registered, made once; and the store with the manifests."""
    folder, storage = Path(tempfile.mkdtemp(prefix="lifecycle-")), MemoryStorage()
    deployer = Deployer(Settings(data=folder, store="memory://lifecycle"), TOKENS, storage)
    for version in range(1, VERSIONS + 1):
        package = manifest(salt=version)
        publish(storage, version, package)
        deployer.registry.register("flights", VersionInput(version=version, digest=package.digest), ACT)
    deployer.database.close()
    return folder, storage


def ref(version: int) -> VersionRef:
    """One of the registered versions."""
    return VersionRef(model="flights", version=version, digest=manifest(salt=version).digest)


def careless(connection: sqlite3.Connection, _: object) -> None:
    """Commits reach the kernel and no further."""
    connection.execute("PRAGMA synchronous=OFF")


@dataclass
class Node:
    """A node of the plan protocol: what it holds is what it has proven itself, and a new generation lets it try again."""

    role: Role
    alive: bool = True
    boots: int = 1
    plan: Plan | None = None
    plans: list[Plan] = field(default_factory=list)
    states: dict[str, LoadState] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    answering: dict[str, str] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)

    @property
    def sequence(self) -> int:
        """The plan that it has taken over; 0: none."""
        return self.plan.sequence if self.plan else 0

    def poll(self, plan: Plan | None) -> None:
        """Take a newer plan; a node ignores every other."""
        if plan is not None and plan.sequence > self.sequence:
            self.plans.append(plan)
            self.take(plan)

    def take(self, plan: Plan) -> None:
        """Hold what the plan says, drop everything else, and try what was refused once more where the wish is a new one."""
        self.plan = plan
        wanted = {version.digest: one.generation for one in plan.deployments for version in one.resident}
        self.states = {digest: state for digest, state in self.states.items() if digest in wanted}
        for digest, generation in wanted.items():
            if digest not in self.states or (self.states[digest] == "failed" and generation > self.tried.get(digest, 0)):
                self.states[digest] = "loading"
                self.tried[digest] = generation
        self.serve()

    def load(self) -> None:
        """Everything under way ends, well or not."""
        for digest, state in self.states.items():
            if state == "loading":
                self.states[digest] = "failed" if digest in self.refuses else "ready"
        self.proven |= {digest for digest, state in self.states.items() if state == "ready"}
        self.serve()

    def serve(self) -> None:
        """Answer with what the plan calls active as soon as it is proven here, and go on with the former until then."""
        before, self.answering = self.answering, {}
        for one in self.plan.deployments if self.plan else []:
            digest = one.active.digest if one.active else ""
            if digest and self.states.get(digest) == "ready":
                self.answering[one.name] = digest
            elif digest and one.name in before:
                self.answering[one.name] = before[one.name]

    def restart(self, plan: Plan | None) -> None:
        """Another boot, from the plan that lies on its disk."""
        self.alive, self.boots, self.states, self.answering, self.plan = True, self.boots + 1, {}, {}, None
        if plan is not None:
            self.take(plan)

    def report(self) -> NodeReport:
        """What is so right now."""
        return NodeReport(
            node=self.role,
            boot=f"{self.role}-{self.boots}",
            role=self.role,
            url="http://127.0.0.1:1",
            sequence=self.sequence,
            ready=True,
            deployments=[self._deployment(one) for one in self.plan.deployments] if self.plan else [],
        )

    def _deployment(self, one: DeploymentPlan) -> DeploymentReport:
        versions = [
            VersionReport(digest=each.digest, version=each.version, state=self.states[each.digest]) for each in one.resident
        ]
        return DeploymentReport(
            name=one.name,
            role=one.role,
            revision=one.revision,
            generation=one.generation,
            active=self.answering.get(one.name),
            versions=versions,
            mirroring=one.mirror.version.digest if one.mirror else None,
            probe_age_seconds=0.1,
        )


class World:
    """One deployer that can be rebuilt from its folder, its two nodes, and the clock."""

    def __init__(self) -> None:
        source, self.storage = template()
        self.folder = Path(tempfile.mkdtemp(prefix="lifecycle-"))
        shutil.copy(source / "deployer.db", self.folder / "deployer.db")
        self.now = START
        self.nodes: dict[str, Node] = {name: Node(role) for name, role in NODES.items()}
        self.plans: dict[str, Plan] = {}
        self.deployer = self._started()

    def _started(self) -> Deployer:
        deployer = Deployer(Settings(data=self.folder, store="memory://lifecycle"), TOKENS, self.storage, clock=lambda: self.now)
        # Processes die here, not machines: waiting for a disk would be most of the time.
        deployer.database.engine.dispose()
        event.listen(deployer.database.engine, "connect", careless)
        deployer.local.reconciler.restore()
        return deployer

    def restart(self) -> None:
        """The process ends between two statements and another one begins; nothing is published until it has stepped."""
        self.deployer.database.close()
        self.plans = {}
        self.deployer = self._started()

    def step(self) -> dict[str, Plan]:
        """One step of the loop; what it gives back is published."""
        self.plans = self.deployer.local.reconciler.step()
        return self.plans

    def hear(self, node: str) -> None:
        """A report arrives."""
        self.deployer.local.nodes.take(node, self.nodes[node].report())

    def live(self) -> None:
        """Every node polls, loads and reports; then the loop steps."""
        for name, node in self.nodes.items():
            node.poll(self.plans.get(name))
            node.load()
            self.hear(name)
        self.step()

    def record(self, name: str) -> Record:
        """The stored decision record."""
        with self.deployer.sessions() as session:
            return Record.model_validate(session.get_one(Deployment, name).record)

    def close(self) -> None:
        """Give everything back."""
        self.deployer.database.close()
        shutil.rmtree(self.folder)


@dataclass
class Truth:
    """What must be so of one deployment, kept by the simplest means."""

    revisions: list[RevisionView] = field(default_factory=list)
    alive: bool = False
    main: int = 0
    challenger: int | None = None
    running: bool = True
    proven_moves: int = 0

    @property
    def pair(self) -> tuple[int, int | None]:
        """Main and challenger."""
        return self.main, self.challenger


def pair_of(revision: RevisionView) -> tuple[int, int | None]:
    """Main and challenger of a revision, as numbers."""
    return revision.main.version, revision.challenger.version if revision.challenger else None


def way_back(revisions: list[RevisionView]) -> RevisionView | None:
    """Where a rollback without a number must lead: the newest other main of this life that was not rolled back from since."""
    deletions = [place for place, one in enumerate(revisions) if one.kind == "delete"]
    life = revisions[deletions[-1] + 1 :] if deletions else revisions
    for place in reversed(range(len(life))):
        main = life[place].main.version
        pairs = zip(life[place:], life[place + 1 :], strict=False)
        left = any(after.kind == "rollback" and before.main.version == main != after.main.version for before, after in pairs)
        if main != life[-1].main.version and not left:
            return life[place]
    return None


def masked(world: World, name: str) -> dict[str, object]:
    """What nodes are told and what is observed of one deployment, without what only history decides."""
    told: dict[str, object] = {}
    for node, plan in world.plans.items():
        for one in plan.deployments:
            if one.name == name:
                told[node] = one.model_dump(exclude={"revision", "generation", "resident"})
    try:
        seen: ObservedDeployment = world.deployer.observed(name)
    except NotFound:
        return told
    kept = {"running", "deployed", "applied", "main_applied", "waiting_for", "hold", "mirroring", "failure"}
    return {
        **told,
        "observed": seen.model_dump(include=kept),
        "answers": [node.answering.get(name) for node in world.nodes.values()],
    }


HAPPENINGS: dict[str, dict[str, st.SearchStrategy[Any]]] = {}
OFTEN = {"put": 3, "set_challenger": 2, "rollback_to": 2, "everybody_lives_for_a_moment": 8, "node_returns": 2, "time_passes": 2}


def happening(**arguments: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enter a method into the table of what can happen. One rule draws from it: rules of their own would not come up evenly."""

    def enter(method: Callable[..., None]) -> Callable[..., None]:
        HAPPENINGS[method.__name__] = arguments
        return method

    return enter


def with_arguments(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """What happens, and to whom."""
    return st.tuples(st.just(name), st.fixed_dictionaries(HAPPENINGS[name]))


def anything() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Each thing as often as it is worth."""
    return st.sampled_from([name for name in HAPPENINGS for _ in range(OFTEN.get(name, 1))]).flatmap(with_arguments)


class Lifecycle(RuleBasedStateMachine):
    """Rules are what people, nodes, processes and time can do; invariants are what must hold after each of them."""

    @initialize()
    def begin(self) -> None:
        """A fresh world."""
        self.world = World()
        self.truth = {name: Truth() for name in LIVELY}
        self.sequences = dict.fromkeys(NODES, 0)
        self.contents: dict[tuple[str, int], str] = {}
        self.actives: dict[str, VersionRef | None] = dict.fromkeys(LIVELY)
        self.answered_revision = dict.fromkeys(LIVELY, 0)

    # What people do.

    @happening(name=names, main=numbers, challenger=st.none() | numbers)
    def put(self, name: str, main: int, challenger: int | None) -> None:
        """The whole wish at once: create, change, or try again after a refusal."""
        self._put(name, main, challenger)

    @happening(name=names, challenger=numbers)
    def set_challenger(self, name: str, challenger: int) -> None:
        """A challenger in place of the present one."""
        truth = self.truth[name]
        with self._only_where_it_exists(name):
            found = self.world.deployer.deployments.set_challenger(name, ChallengerInput(version=challenger), ACT)
            self._done(name, found, truth.challenger != challenger)
            truth.challenger = challenger

    @happening(name=names)
    def clear_challenger(self, name: str) -> None:
        """No challenger any more."""
        truth = self.truth[name]
        with self._only_where_it_exists(name):
            self._done(name, self.world.deployer.deployments.clear_challenger(name, ACT), truth.challenger is not None)
            truth.challenger = None

    @happening(name=names, stale=st.booleans())
    def swap(self, name: str, stale: bool) -> None:
        """Main and challenger change places; a page that shows another main changes nothing."""
        truth = self.truth[name]
        wanted = SwapInput(leaving=ref(VERSIONS).digest if stale else None)
        if truth.alive and truth.challenger is None and not (stale and truth.main != VERSIONS):
            with pytest.raises(Conflict, match="no challenger"):
                self.world.deployer.deployments.swap(name, wanted, ACT)
            return
        with self._only_where_it_exists(name):
            found = self.world.deployer.deployments.swap(name, wanted, ACT)
            changes = not (stale and truth.main != VERSIONS) and truth.main != truth.challenger
            self._done(name, found, changes)
            if changes and truth.challenger is not None:
                truth.main, truth.challenger = truth.challenger, truth.main

    @happening(name=names, place=st.integers(0, 30))
    def rollback_to(self, name: str, place: int) -> None:
        """The pair of any revision that ever was, from before a deletion too."""
        truth = self.truth[name]
        if not truth.alive:
            with pytest.raises(NotFound):
                self.world.deployer.deployments.rollback(name, RollbackInput(), ACT)
            return
        target = truth.revisions[place % len(truth.revisions)]
        found = self.world.deployer.deployments.rollback(name, RollbackInput(revision=target.number), ACT)
        self._done(name, found, pair_of(target) != truth.pair)
        truth.main, truth.challenger = pair_of(target)

    @happening(name=names)
    def rollback_back(self, name: str) -> None:
        """The last pair with another main that nobody rolled back from; twice is once."""
        truth = self.truth[name]
        if not truth.alive:
            return
        step_back = self.world.deployer.deployments.rollback
        if truth.revisions[-1].kind == "rollback":
            self._done(name, step_back(name, RollbackInput(), ACT), False)
            return
        earlier = way_back(truth.revisions)
        if earlier is None:
            with pytest.raises(Conflict, match="nothing to go back to"):
                step_back(name, RollbackInput(), ACT)
            return
        self._done(name, step_back(name, RollbackInput(), ACT), True)
        truth.main, truth.challenger = pair_of(earlier)

    @happening(name=names, main=numbers)
    def come_back_after_a_deletion(self, name: str, main: int) -> None:
        """Another life of the same name: a step back never leads into the one before."""
        if self.truth[name].alive:
            self.delete(name)
            self._put(name, main, None)
            self.rollback_back(name)

    @happening(name=names)
    def change_ones_mind(self, name: str) -> None:
        """Back, and then the version that was left by its name once more: a person's choice lifts the rejection."""
        truth = self.truth[name]
        left = truth.pair
        if not truth.alive or way_back(truth.revisions) is None or truth.revisions[-1].kind == "rollback":
            return
        self.rollback_back(name)
        self._step()
        assert ref(left[0]).digest in self.world.record(name).rejected
        self._put(name, *left)
        self._step()
        assert ref(left[0]).digest not in self.world.record(name).rejected

    @happening(name=names)
    def go_back_further(self, name: str) -> None:
        """After something else was changed, a second step back passes over what was rolled back from."""
        if self.truth[name].alive:
            self.rollback_back(name)
            self.run_or_stop(name, not self.truth[name].running)
            self.rollback_back(name)

    @happening(name=names)
    def deletion_overtakes_a_step(self, name: str) -> None:
        """The loop has read the old record and must not write it over what the deletion left."""
        if not self.truth[name].alive:
            return
        reconciler, waiting = self.world.deployer.local.reconciler, [name]

        def overtaken(spec: Spec, record: Record, nodes: Sequence[NodeReport], now: float) -> Decision:
            if waiting:
                self.delete(waiting.pop())
            return decide(spec, record, nodes, now)

        reconciler._decide = overtaken
        # Where nothing was to be written, nothing is overtaken.
        with suppress(_Overtaken):
            reconciler.step()
        reconciler._decide = decide
        record = self.world.record(name)
        assert (record.active, record.target, record.challenger) == (None, None, None)
        assert record.generation == len(self.truth[name].revisions)

    @happening(name=names, running=st.booleans())
    def run_or_stop(self, name: str, running: bool) -> None:
        """Answer requests, or none."""
        truth = self.truth[name]
        with self._only_where_it_exists(name):
            service = self.world.deployer.deployments
            self._done(name, service.run(name, ACT) if running else service.stop(name, ACT), truth.running != running)
            truth.running = running

    @happening(name=names)
    def delete(self, name: str) -> None:
        """Away from all nodes; the numbers go on when it comes back."""
        truth = self.truth[name]
        with self._only_where_it_exists(name):
            found = self.world.deployer.deployments.delete(name, ACT)
            truth.alive = False
            self._remember(name, found.revision)

    @happening(name=names, main=numbers)
    def late_change(self, name: str, main: int) -> None:
        """Somebody acts on a page that is one revision old: refused, and nothing has changed."""
        truth = self.truth[name]
        if truth.alive:
            wish = DeploymentInput(main=Choice(model="flights", version=main))
            with pytest.raises(Conflict, match="changed meanwhile"):
                self.world.deployer.deployments.put(name, wish, Act("late", expected=len(truth.revisions) - 1))

    # What nodes, processes and time do.

    @happening(node=roles)
    def node_polls(self, node: str) -> None:
        """It takes a newer plan, if it lives."""
        if self.world.nodes[node].alive:
            self.world.nodes[node].poll(self.world.plans.get(node))

    @happening(node=roles)
    def node_loads(self, node: str) -> None:
        """What it is loading is proven or refused."""
        if self.world.nodes[node].alive:
            self.world.nodes[node].load()

    @happening(node=roles)
    def node_reports(self, node: str) -> None:
        """Its word arrives."""
        if self.world.nodes[node].alive:
            self.world.hear(node)

    @happening(node=roles, version=numbers)
    def node_begins_to_refuse(self, node: str, version: int) -> None:
        """From now on it cannot load this version."""
        self.world.nodes[node].refuses.add(ref(version).digest)

    @happening(node=roles)
    def node_is_repaired(self, node: str) -> None:
        """It could load everything again."""
        self.world.nodes[node].refuses.clear()

    @happening(node=roles)
    def node_dies(self, node: str) -> None:
        """No poll and no report any more."""
        self.world.nodes[node].alive = False

    @happening(node=roles, age=st.integers(0, 3))
    def node_returns(self, node: str, age: int) -> None:
        """It starts again from the plan on its disk, which may be older than the newest it was ever given."""
        plans = self.world.nodes[node].plans
        self.world.nodes[node].restart(plans[max(0, len(plans) - 1 - age)] if plans else None)

    @happening(name=names, main=numbers)
    def people_wish_for_what_is_refused(self, name: str, main: int) -> None:
        """A new main that the main node cannot load: what answered answers on, and only a new wish tries again."""
        node = self.world.nodes["main"]
        node.alive = True
        before = self.world.record(name).active if self.truth[name].alive else None
        # What it holds already needs no loading, so nothing could be refused.
        if ref(main).digest in node.states or before == ref(main):
            return
        self._put(name, main, self.truth[name].challenger)
        node.refuses.add(ref(main).digest)
        for _ in range(3):
            self.everybody_lives_for_a_moment()
        record = self.world.record(name)
        assert record.active == before
        assert record.hold is not None
        assert record.hold.generation == len(self.truth[name].revisions)
        assert record.hold.reason.startswith(str(ref(main)))

    @happening()
    def everybody_lives_for_a_moment(self) -> None:
        """Plans, words and a step, as in most seconds of most days."""
        for name, node in self.world.nodes.items():
            if node.alive:
                node.poll(self.world.plans.get(name))
                node.load()
                self.world.hear(name)
        self._step()

    @happening()
    def loop_steps(self) -> None:
        """Once; and once more in an unchanged world, which changes nothing."""
        first = self._step()
        assert self._step() == first

    @happening()
    def deployer_dies_after_storing(self) -> None:
        """What was decided is stored and never published."""
        self.world.deployer.local.reconciler.step()
        self._see_records()
        self.world.restart()

    @happening()
    def deployer_restarts(self) -> None:
        """Everything that it knows comes from the database."""
        self.world.restart()

    @happening(seconds=st.sampled_from([1.0, 6.0, 11.0, 61.0, 601.0]))
    def time_passes(self, seconds: float) -> None:
        """Long enough for reports to age, versions to be healthy, or deadlines to end."""
        self.world.now += seconds

    @happening()
    def quiet(self) -> None:
        """Repaired nodes and no new wish but the same again: every wish is fulfilled, as if nothing had ever happened."""
        for node in self.world.nodes.values():
            node.refuses.clear()
            node.alive = True
        self._step()
        for name, truth in self.truth.items():
            if truth.alive:
                self._put(name, *truth.pair, running=truth.running)
                self._challenge_again(name)
        self._settle(self.world)
        self._see_records()
        fresh = World()
        try:
            for name, truth in self.truth.items():
                if truth.alive:
                    fresh.deployer.deployments.put(name, self._wish(*truth.pair, truth.running), ACT)
            self._settle(fresh)
            for name in LIVELY:
                assert masked(self.world, name) == masked(fresh, name)
        finally:
            fresh.close()

    @rule(what=st.deferred(anything))
    def something(self, what: tuple[str, dict[str, Any]]) -> None:
        """One of the above."""
        name, arguments = what
        getattr(self, name)(**arguments)

    # What must hold.

    @invariant()
    def history_is_gapless_and_never_changes(self) -> None:
        """Numbers count up from 1; every revision stays what it was; each has its row in the audit trail."""
        for name, truth in self.truth.items():
            entries = self.world.deployer.audit.listed(Window(1000), AuditFilter(f"deployment/{name}")).items
            assert [entry.verb for entry in reversed(entries)] == [one.kind for one in truth.revisions]
            if truth.alive:
                history = self.world.deployer.deployments.history(name)
                assert history[::-1] == truth.revisions
                assert [one.number for one in truth.revisions] == list(range(1, len(truth.revisions) + 1))
                assert (pair_of(history[0]), history[0].running) == (truth.pair, truth.running)
        with self.world.deployer.sessions() as session:
            living = set(session.scalars(select(Deployment.name).where(Deployment.deleted.is_(None))))
        assert living == {name for name, truth in self.truth.items() if truth.alive}

    @invariant()
    def plans_are_whole(self) -> None:
        """Active is resident and was proven by that very node; copies never go to the version that answers itself."""
        for node, plan in self.world.plans.items():
            for one in plan.deployments:
                digests = [version.digest for version in one.resident]
                assert len(set(digests)) == len(digests)
                assert one.active is None or one.active.digest in digests
                if node == "main" and one.active is not None:
                    assert one.active.digest in self.world.nodes["main"].proven
                assert one.mirror is None or (one.active is not None and one.mirror.version.digest != one.active.digest)
                assert one.mirror is None or one.role == "main"

    @invariant()
    def nodes_answer_only_with_what_they_have_proven(self) -> None:
        """Whatever plans and restarts came, in whatever order."""
        for node in self.world.nodes.values():
            assert set(node.answering.values()) <= node.proven

    def teardown(self) -> None:
        """End in quiet, then give everything back."""
        if hasattr(self, "world"):
            self.quiet()
            self.world.close()

    def _step(self) -> dict[str, Plan]:
        """A step, with everything that must hold of any step."""
        live = {report.node: report for report in self.world.deployer.local.nodes.live()}
        plans = self.world.step()
        for node, plan in plans.items():
            assert plan.sequence >= self.sequences[node], "a plan's number fell"
            # Nodes ignore equal numbers: one number may never mean two things.
            assert self.contents.setdefault((node, plan.sequence), content_digest(plan)) == content_digest(plan)
            self.sequences[node] = plan.sequence
        self._see_records(live.get("main"))
        return plans

    def _see_records(self, main: NodeReport | None = None) -> None:
        """`active` has moved only by the word of the live main node, and its number only up."""
        live = main or next((one for one in self.world.deployer.local.nodes.live() if one.role == "main"), None)
        for name, truth in self.truth.items():
            if not truth.revisions:
                continue
            record = self.world.record(name)
            assert record.revision >= self.answered_revision[name]
            before, self.actives[name] = self.actives[name], record.active
            if record.active is not None and record.active != before:
                assert live is not None, "main moved while no node was there"
                words = {
                    version.digest: version.state for one in live.deployments if one.name == name for version in one.versions
                }
                assert words.get(record.active.digest) == "ready"
                assert record.revision > self.answered_revision[name]
            self.answered_revision[name] = record.revision

    def _settle(self, world: World) -> None:
        """Live until a round changes nothing; far fewer rounds than this are needed."""
        for _ in range(12):
            before = {node: plan.sequence for node, plan in world.plans.items()}
            world.live()
            if before == {node: plan.sequence for node, plan in world.plans.items()}:
                return
        raise AssertionError("the plans never came to rest")

    def _challenge_again(self, name: str) -> None:
        """A refused challenger is taken away and set anew, which is a new attempt."""
        truth, service = self.truth[name], self.world.deployer.deployments
        if truth.challenger is not None:
            self._done(name, service.clear_challenger(name, ACT), True)
            self._done(name, service.set_challenger(name, ChallengerInput(version=truth.challenger), ACT), True)

    def _wish(self, main: int, challenger: int | None, running: bool) -> DeploymentInput:
        chosen = Choice(model="flights", version=challenger) if challenger else None
        return DeploymentInput(main=Choice(model="flights", version=main), challenger=chosen, running=running)

    def _put(self, name: str, main: int, challenger: int | None, running: bool = True) -> None:
        truth = self.truth[name]
        same = truth.alive and (main, challenger, running) == (*truth.pair, truth.running)
        hold = self.world.record(name).hold if truth.alive else None
        held = hold is not None and hold.generation == len(truth.revisions)
        told = [one for report in self.world.deployer.local.nodes.live() for one in report.deployments if one.name == name]
        refused = any(version.state == "failed" for one in told for version in one.versions)
        found = self.world.deployer.deployments.put(name, self._wish(main, challenger, running), ACT)
        assert found.created is not truth.alive
        truth.alive, truth.main, truth.challenger, truth.running = True, main, challenger, running
        self._done(name, found, not same or held or refused)

    def _done(self, name: str, found: Changed, changes: bool) -> None:
        """An action made exactly one revision, or said why it made none."""
        assert found.changed is changes, found
        assert bool(found.note) is not changes
        if changes:
            self._remember(name, found.revision)
        assert found.revision == len(self.truth[name].revisions)

    def _remember(self, name: str, number: int) -> None:
        with self.world.deployer.sessions() as session:
            row = session.get_one(Deployment, name)
            assert row.revision == number
        self.truth[name].revisions.append(self._stored(name, number))

    def _stored(self, name: str, number: int) -> RevisionView:
        with self.world.deployer.sessions() as session:
            return view(session.get_one(Revision, (name, number)))

    def _only_where_it_exists(self, name: str) -> Existing:
        return Existing(self.truth[name].alive)


class Existing:
    """The actions in this block succeed on what exists; on anything else the first one is refused as not found."""

    def __init__(self, exists: bool) -> None:
        self._exists = exists

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if self._exists:
            return False
        assert kind is NotFound, f"an action on a deployment that is not there was not refused: {error!r}"
        return True


def test_any_order_of_wishes_and_accidents_keeps_every_promise() -> None:
    """After whatever happens main answers with proven versions only, history is whole, and quiet brings what was wished last."""
    # Not shrunk: the steps of a long story are short to read, and shrinking one takes minutes.
    unhurried = settings(
        derandomize=True,
        database=None,
        max_examples=20,
        stateful_step_count=50,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Lifecycle, settings=unhurried)
