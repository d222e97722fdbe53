"""Gates judge facts: what passes, what is refused, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput
from quarterdeck.record_files import main_table
from quarterdeck.records import Answer, Frame, MainRecord
from quarterdeck.schema import Feature, FeatureType, Prediction, Schema
from quarterdeck_deployer.gates import golden, package, replay, scenarios, schema
from quarterdeck_deployer.gates.golden import GoldenFacts
from quarterdeck_deployer.gates.kinds import GATES, MAX_LISTED, ORDER, ReplayGate, ordered
from quarterdeck_deployer.gates.package import PackageFacts
from quarterdeck_deployer.gates.replay import Replayed, ReplayFacts
from quarterdeck_deployer.gates.scenarios import Asked
from quarterdeck_deployer.gates.schema import Judge, Refused, SchemaFacts
from quarterdeck_node.binding import Binder

AT = datetime(2026, 11, 21, 6, tzinfo=UTC)
TYPES: list[FeatureType] = ["float", "int", "string", "boolean", "datetime"]


def recorded(rows: list[dict[str, Any]], contract: Schema | None, keys: list[str] | None = None) -> pa.Table:
    """Rows as a file of main's records holds them, each in a request of its own."""
    frames = [
        Frame(
            place,
            MainRecord(
                ts=place, request_id=f"r{place}", deployment="d", project="default", stage="dev", revision=1, model="m",
                version=1, digest="sha256:" + 64 * "0", door="plain", latency_us=1, caller_id="",
                key_id=keys[place] if keys else "", rows=[row], answers=[Answer(1.0, [])],
            ),
        )
        for place, row in enumerate(rows)
    ]  # fmt: skip
    return main_table(frames, "boot", contract)


def features(**types: FeatureType) -> Schema:
    """A schema with these features, none of them nullable."""
    return Schema(task="regression", features=[Feature(name=name, type=kind) for name, kind in types.items()])


def test_gates_are_asked_in_one_order_whatever_the_list_says() -> None:
    """Cheap ones first."""
    gates = GATES.validate_python([{"gate": name} for name in reversed(ORDER)])
    assert [gate.gate for gate in ordered(gates)] == list(ORDER)


def test_what_was_read_to_the_end_passes() -> None:
    """Package and golden rows refuse while they are read; what is left says how much that was."""
    assert package.judge(PackageFacts(3, 10)).figures == {"files": 3, "bytes": 10}
    assert golden.judge(GoldenFacts(7)).figures == {"rows": 7}


@pytest.mark.parametrize(
    ("asked", "failed"),
    [
        (Asked("any", 1, [], 0.0, [Answer("yes", [0.2, 0.8])]), []),
        (Asked("label only", 1, [Prediction(prediction="yes")], 0.0, [Answer("yes", [0.2, 0.8])]), []),
        (
            Asked("label", 1, [Prediction(prediction="no")], 0.0, [Answer("yes", [0.2, 0.8])]),
            [(0, "another label than expected")],
        ),
        (
            Asked("score", 1, [Prediction(prediction="yes", scores=[0.3, 0.7])], 0.05, [Answer("yes", [0.2, 0.8])]),
            [(0, "a score differs by 0.1")],
        ),
        (
            Asked(
                "second row", 2, [Prediction(prediction=1.0), Prediction(prediction=2.0)], 0.1, [Answer(1.0, []), Answer(3.0, [])]
            ),
            [(1, "another number than expected")],
        ),
        (Asked("none", 1, [], 0.0, refusal="row 0: column hour is missing"), [(0, "row 0: column hour is missing")]),
    ],
    ids=lambda value: value.name if isinstance(value, Asked) else "",
)
def test_scenarios_pass_where_every_query_does(asked: Asked, failed: list[tuple[int, str]]) -> None:
    """An answer to every row, and the expected one where there is an expectation."""
    found = scenarios.judge([asked])
    assert found.passed == (not failed)
    assert [(one["row"], one["reason"]) for one in found.listed] == failed
    assert found.figures["failed"] == bool(failed)


def test_no_scenario_is_no_reason_to_refuse() -> None:
    """It says so."""
    assert scenarios.judge([]).passed
    assert "no test queries" in scenarios.judge([]).detail


OLD = features(a="float", b="int", c="string", d="boolean", e="datetime")
ROW = {"a": 1.5, "b": 2, "c": "x", "d": True, "e": "2026-11-21T06:00:00"}


@pytest.mark.parametrize(
    ("new", "column", "reason"),
    [
        (OLD, "", ""),
        (features(a="float", b="float", c="string", d="boolean", e="string"), "", ""),
        (features(a="float", b="int", c="string", d="boolean"), "e", "is not a feature of this model"),
        (features(a="float", b="int", c="string", d="boolean", e="datetime", f="float"), "f", "is missing"),
        (features(a="int", b="int", c="string", d="boolean", e="datetime"), "a", "must be a whole number"),
        (features(a="string", b="int", c="string", d="boolean", e="datetime"), "a", "must be a string"),
        (features(a="float", b="boolean", c="string", d="boolean", e="datetime"), "b", "must be true or false"),
        (features(a="float", b="int", c="datetime", d="boolean", e="datetime"), "c", "must be an ISO 8601 date and time"),
        (features(a="float", b="int", c="float", d="boolean", e="datetime"), "c", "must be a number"),
        (features(a="float", b="int", c="string", d="datetime", e="datetime"), "d", "must be a string"),
    ],
)
@pytest.mark.parametrize("typed", [True, False], ids=["columns", "text"])
def test_recorded_rows_are_judged_by_the_new_schema(new: Schema, column: str, reason: str, typed: bool) -> None:
    """By column and reason, whether records are typed or text."""
    found = Judge(new).misfits(recorded([ROW, ROW], OLD if typed else None))
    assert [(one.column, one.reason, one.rows.tolist()) for one in found] == ([(column, reason, [True, True])] if column else [])


def values(feature: Feature) -> st.SearchStrategy[Any]:
    """What a row that was accepted may hold for a feature."""
    kinds: dict[FeatureType, st.SearchStrategy[Any]] = {
        "float": st.floats(-1e6, 1e6).filter(lambda number: number != int(number)),
        "int": st.integers(-(10**6), 10**6),
        "string": st.sampled_from(["", "x", "2026-11-21T06:00:00", "2026-13-01"]),
        "boolean": st.booleans(),
        "datetime": st.sampled_from(["2026-11-21T06:00:00", "2026-11-21"]),
    }
    return kinds[feature.type] | st.none() if feature.nullable else kinds[feature.type]


schemas = st.dictionaries(st.sampled_from("abc"), st.tuples(st.sampled_from(TYPES), st.booleans()), min_size=1).map(
    lambda given: Schema(
        task="regression",
        features=[Feature(name=name, type=kind, nullable=nullable) for name, (kind, nullable) in given.items()],
    )
)


@given(st.data())
def test_gate_and_node_agree_on_every_row(data: st.DataObject) -> None:
    """The gate refuses a recorded row for a column exactly where a node would refuse it there."""
    old, new = data.draw(schemas), data.draw(schemas)
    one = st.fixed_dictionaries({feature.name: values(feature) for feature in old.features})
    rows = data.draw(st.lists(one, min_size=1, max_size=5))
    by_gate: list[set[str]] = [set() for _ in rows]
    for misfit in Judge(new).misfits(recorded(rows, old)):
        for place in misfit.rows.nonzero()[0]:
            by_gate[place].add(misfit.column)
    by_node = [
        {problem["column"] for problem in told.extra["problems"]} if isinstance(told, InvalidInput) else set()
        for told in Binder(new).each(rows)
    ]
    assert by_gate == by_node


def test_refused_rows_are_counted_by_caller() -> None:
    """By the name of the key that was shown, with a row to look at; a key without a name is called by its id."""
    table = recorded([{"a": None}, {"a": 1.0}, {"a": None}, {"a": None}], Schema(
        task="regression", features=[Feature(name="a", type="float", nullable=True)]
    ), ["k1", "k1", "k2", "k1"])  # fmt: skip
    misfits = Judge(features(a="float")).misfits(table)
    assert schema.count(misfits) == 3
    found = schema.tally(misfits, table, {"k1": "booking"})
    assert sorted((one.caller, one.rows, one.example) for one in found) == [("booking", 2, "r0-0"), ("k2", 1, "r2-0")]


def test_schema_gate_says_who_would_be_refused_most() -> None:
    """The largest group stands in the sentence and first in the list."""
    many = [Refused("booking", "hour", "is missing", 9, "r-1"), Refused("", "hour", "is missing", 90, "r-2")]
    found = schema.judge(SchemaFacts("late", 7, 100, 99, many))
    assert (found.passed, found.code, found.listed[0]["rows"]) == (False, "schema-refuses", 90)
    assert "99 of 100 rows" in found.detail
    assert "callers without a key: column hour is missing" in found.detail
    assert schema.judge(SchemaFacts("late", 7, 100)).passed
    assert "No row is recorded" in schema.judge(SchemaFacts("late", 7, 0)).detail


def replayed(before: Answer, after: Answer | None, refusal: str = "") -> Replayed:
    """One recorded row and what became of it."""
    return Replayed("r-0", AT, "booking", before, after, refusal)


@pytest.mark.parametrize(
    ("row", "changed"),
    [
        (replayed(Answer("yes", [0.2, 0.8]), Answer("yes", [0.25, 0.75])), ""),
        (replayed(Answer("yes", [0.2, 0.8]), Answer("yes", [0.4, 0.6])), "a score differs by 0.2"),
        (replayed(Answer("yes", [0.45, 0.55]), Answer("no", [0.5, 0.5])), "another label than expected"),
        (replayed(Answer("yes", []), Answer("yes", [0.4, 0.6])), ""),
        (replayed(Answer(10.0, []), Answer(10.9, [])), ""),
        (replayed(Answer(10.0, []), Answer(12.0, [])), "another number than expected"),
        (replayed(Answer(10.0, []), None, "column hour is missing"), "column hour is missing"),
    ],
)
def test_a_row_has_changed_beyond_the_tolerance(row: Replayed, changed: str) -> None:
    """Labels not at all, numbers by a tenth, absolutely or relatively; no answer is a change."""
    assert replay.changed_by(row, 0.1) == changed


@given(st.integers(0, 300), st.integers(1, 300), st.floats(0, 1))
def test_replay_refuses_a_larger_share_than_is_allowed(changed: int, rows: int, allowed: float) -> None:
    """Exactly then; changed rows are listed in any case, a hundred at most."""
    changed = min(changed, rows)
    same, other = replayed(Answer("a", []), Answer("a", [])), replayed(Answer("a", []), Answer("b", []))
    facts = ReplayFacts("late", [other] * changed + [same] * (rows - changed))
    found = replay.judge(facts, ReplayGate(max_changed=allowed))
    assert found.passed == (changed / rows <= allowed)
    assert len(found.listed) == min(changed, MAX_LISTED)
    assert found.figures["changed"] == changed


def test_nothing_to_replay_passes() -> None:
    """A service that nobody has called yet can be promoted."""
    assert replay.judge(ReplayFacts("late", []), ReplayGate(max_changed=0)).passed
