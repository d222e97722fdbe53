"""What the gates judge, read from stores, records and the version itself, which is loaded at most once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

from quarterdeck.copying import check_stored
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.plan import VersionRef
from quarterdeck.records import Answer
from quarterdeck.schema import Label, Schema
from quarterdeck.storage import Storage
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.gates import golden, package, recorded, replay, scenarios, schema
from quarterdeck_deployer.gates.asking import ask
from quarterdeck_deployer.gates.kinds import Finding, Gate, GoldenGate, PackageGate, ReplayGate, ScenariosGate, SchemaGate
from quarterdeck_deployer.test_queries import QueryView
from quarterdeck_deployer.trials import OnTrial, Trials, prove

SchemaOf = Callable[[str, int, str], Schema | None]
"""(model, version, digest) → its schema; None where that version is not known by that digest."""


@dataclass(frozen=True)
class Traffic:
    """Where the rows lie that callers have sent to one deployment."""

    deployment: str
    storage: Storage
    dataset: str


@dataclass(frozen=True)
class Subject:
    """One version on its way: where it lies now, and what it is held against.

    Attributes:
        traffic: of the target, then of the source; the first one with any rows counts.
        queries: test queries that it is asked.
        keys: names of API keys by id.
        schema_of: schemas of the versions that have answered.
    """

    ref: VersionRef
    storage: Storage
    traffic: Sequence[Traffic]
    queries: Sequence[QueryView]
    keys: Mapping[str, str]
    schema_of: SchemaOf


class Facts:
    """Reads facts and has them judged. Use it in a `with` block: what was loaded is put away at its end.

    Attributes:
        deployment: whose rows were looked at last; empty where there is none.
    """

    def __init__(self, trials: Trials, subject: Subject) -> None:
        self._trials, self._subject = trials, subject
        self._held = ExitStack()
        self._loaded: OnTrial | None = None
        self._schemas: dict[str, Schema | None] = {}
        self.deployment = next((traffic.deployment for traffic in subject.traffic), "")

    def __enter__(self) -> Facts:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def find(self, gate: Gate) -> Finding:
        """What a gate finds.

        Raises:
            StorageError: a store cannot be read now, which says nothing about the version.
        """
        try:
            if isinstance(gate, PackageGate):
                return package.judge(self._package())
            if isinstance(gate, GoldenGate):
                return golden.judge(self._golden())
            if isinstance(gate, ScenariosGate):
                return scenarios.judge([self._asked(query) for query in self._subject.queries])
            if isinstance(gate, SchemaGate):
                return schema.judge(self._accepted(gate))
            return replay.judge(self._replayed(gate), gate)
        # The version cannot be loaded, or does not answer: whatever the gate is about, that is its answer.
        except (PackageRefused, ModelFailed) as error:
            return package.refused(error)

    def _trial(self) -> OnTrial:
        if self._loaded is None:
            self._loaded = self._held.enter_context(self._trials.loaded(self._subject.storage, self._subject.ref))
        return self._loaded

    def _schema(self, model: str, version: int, digest: str) -> Schema | None:
        # A thousand rows were answered by a handful of versions.
        if digest not in self._schemas:
            self._schemas[digest] = self._subject.schema_of(model, version, digest)
        return self._schemas[digest]

    def _package(self) -> package.PackageFacts:
        manifest = check_stored(self._subject.storage, self._subject.ref)
        return package.PackageFacts(len(manifest.files), manifest.size)

    def _golden(self) -> golden.GoldenFacts:
        trial = self._trial()
        prove(trial)
        return golden.GoldenFacts(len(trial.manifest.golden))

    def _asked(self, query: QueryView) -> scenarios.Asked:
        found = ask(self._trial(), query.rows)
        refused = [f"row {place}: {answer}" for place, answer in enumerate(found) if isinstance(answer, str)]
        answers = [answer for answer in found if isinstance(answer, Answer)]
        refusal = refused[0] if refused else ""
        return scenarios.Asked(query.name, len(query.rows), query.expect, query.tolerance, answers, refusal)

    def _accepted(self, gate: SchemaGate) -> schema.SchemaFacts:
        ref = self._subject.ref
        wanted = self._schema(ref.model, ref.version, ref.digest)
        assert wanted is not None, "a version that is promoted is registered"
        facts = schema.SchemaFacts(self.deployment, gate.days, 0)
        for traffic in self._subject.traffic:
            facts, self.deployment = _judged(traffic, gate, schema.Judge(wanted), self._subject.keys), traffic.deployment
            if facts.rows:
                break
        return facts

    def _replayed(self, gate: ReplayGate) -> replay.ReplayFacts:
        since = utc_now() - timedelta(days=gate.days)
        rows: list[recorded.Recorded] = []
        for traffic in self._subject.traffic:
            self.deployment = traffic.deployment
            table = recorded.newest(traffic.storage, traffic.dataset, since, gate.rows)
            if table is not None:
                rows = recorded.rows(table)
                break
        answers = ask(self._trial(), [one.row for one in rows])
        return replay.ReplayFacts(self.deployment, [self._pair(one, answer) for one, answer in zip(rows, answers, strict=True)])

    def _pair(self, one: recorded.Recorded, answer: Answer | str) -> replay.Replayed:
        # Scores stand in the order of the classes of the version that gave them.
        then = self._schema(one.model, one.version, one.digest)
        now = self._trial().manifest.data_schema.classes
        before = one.answer._replace(scores=_in_order(one.answer.scores, then.classes if then else [], now))
        caller = self._subject.keys.get(one.key, one.key)
        if isinstance(answer, str):
            return replay.Replayed(one.row_id, one.at, caller, before, None, answer)
        return replay.Replayed(one.row_id, one.at, caller, before, answer)


def _judged(traffic: Traffic, gate: SchemaGate, judge: schema.Judge, keys: Mapping[str, str]) -> schema.SchemaFacts:
    rows = refused_rows = unreadable = 0
    found: dict[tuple[str, str, str], schema.Refused] = {}
    for table in recorded.tables(traffic.storage, traffic.dataset, utc_now() - timedelta(days=gate.days)):
        if table is None:
            unreadable += 1
            continue
        misfits = judge.misfits(table)
        rows += table.num_rows
        refused_rows += schema.count(misfits)
        for one in schema.tally(misfits, table, keys):
            place = (one.caller, one.column, one.reason)
            before = found.get(place)
            found[place] = schema.Refused(*place, one.rows + (before.rows if before else 0), one.example)
    return schema.SchemaFacts(traffic.deployment, gate.days, rows, refused_rows, list(found.values()), unreadable)


def _in_order(scores: list[float], then: Sequence[Label], now: Sequence[Label]) -> list[float]:
    """Scores of other classes' order in today's; none where the classes are others."""
    # By their JSON text: 1 and true are equal in Python, and are different labels.
    was, wanted = [json.dumps(label) for label in then], [json.dumps(label) for label in now]
    if len(scores) != len(was) or set(was) != set(wanted):
        return []
    return [scores[was.index(label)] for label in wanted]
