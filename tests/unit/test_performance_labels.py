"""When two class labels are one, and what damaged or foreign files in the store can do to the figures: nothing."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput
from quarterdeck.record_files import keys
from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Label, Schema
from quarterdeck_deployer.feedback import FeedbackInput, take
from quarterdeck_deployer.labels import SQL_MACRO, label_text
from quarterdeck_deployer.performance import measure
from quarterdeck_deployer.revisions import schema_difference
from tests.stored_records import Stored, ref

NAME = "late-flights"
FEATURES = [Feature(name="dep_hour", type="float")]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """An empty store."""
    made = Stored(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def macro() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that knows `label_text`."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(SQL_MACRO)
        yield connection


def binary(*classes: Label) -> Schema:
    """Two classes, the second of which is the positive one."""
    return Schema(task="binary", target="late", classes=list(classes), positive=classes[1], features=FEATURES)


TEXTS: list[tuple[Label, str]] = [
    (1, "1"), (1.0, "1"), (-0.0, "0"), (0, "0"), (-3.0, "-3"), (1.5, "1.5"), (True, "true"), (False, "false"), ("1", '"1"'),
    ("1.0", '"1.0"'), ("true", '"true"'), ("", '""'), ("ü", '"\\u00fc"'), (2**53 + 1, "9007199254740993"),
    (1e15, "1000000000000000"),
    (2**62, "4611686018427387904"), ('a"b', '"a\\"b"'),
]  # fmt: skip


@pytest.mark.parametrize(("label", "expected"), TEXTS)
def test_a_label_has_one_text_in_python_and_in_sql(macro: duckdb.DuckDBPyConnection, label: Label, expected: str) -> None:
    """Whole numbers without a fraction, words in quotes, truth values by name; from any JSON that means the same."""
    assert label_text(label) == expected
    assert macro.execute("select label_text(?)", [json.dumps(label)]).fetchall() == [(expected,)]


LABELS = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.text(max_size=8), st.integers(-(10**9), 10**9).map(float),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: abs(value) < 1e30),
)  # fmt: skip


@given(one=LABELS, other=LABELS)
def test_labels_are_one_where_python_and_json_agree_that_they_are(
    macro: duckdb.DuckDBPyConnection, one: Label, other: Label
) -> None:
    """Equal texts exactly where the values are equal and both or neither are truth values; SQL says the same."""
    same = one == other and isinstance(one, bool) == isinstance(other, bool)
    assert (label_text(one) == label_text(other)) == same
    found = macro.execute("select label_text(?), label_text(?)", [json.dumps(one), json.dumps(other)]).fetchall()[0]
    assert (found[0] == found[1]) == same


PAIRS: list[tuple[tuple[Label, Label], tuple[Label, Label]]] = [
    ((0, 1), (0.0, 1.0)),
    ((0.0, 1.0), (0, 1)),
    ((1, 2), (2.0, 1.0)),
    ((False, True), (False, True)),
    (("0", "1"), ("1", "0")),
]


@pytest.mark.parametrize(("classes", "answered"), PAIRS)
def test_an_answer_of_1_0_is_right_where_the_class_is_1(
    stored: Stored, classes: tuple[Label, Label], answered: tuple[Label, Label]
) -> None:
    """Whatever JSON made of a label on its way, both roles are measured on all rows and by the same truth."""
    schema, theirs = binary(*classes), binary(*answered)
    ids = stored.main(ref(1), [Answer(label, [0.4, 0.6]) for label in answered])
    stored.challenger(ref(2), ids, [Answer(label, [0.4, 0.6]) for label in reversed(answered)])
    stored.label(ids, list(answered))
    with stored.index.current(NAME) as connection:
        newest = measure(connection, NAME, lambda model, version, digest: schema if version == 1 else theirs).newest
    assert newest is not None
    assert newest.challenger is not None
    assert (newest.rows, newest.main.accuracy, newest.challenger.accuracy) == (2, 1.0, 0.0)


@pytest.mark.parametrize(("answer", "truth"), [(True, 1), (1, True), ("1", 1), (1, "1"), ("true", True)])
def test_true_is_not_1_and_no_word_is_a_number(stored: Stored, answer: Label, truth: Label) -> None:
    """An answer of another kind is wrong, and a truth of another kind is no class of this model."""
    schema = binary(0 if not isinstance(truth, str) else "0", truth) if truth is not True else binary(False, True)
    ids = stored.main(ref(1), [Answer(answer, [0.4, 0.6])])
    stored.label(ids, [truth])
    with stored.index.current(NAME) as connection:
        newest = measure(connection, NAME, lambda model, version, digest: schema).newest
    assert newest is not None
    assert newest.main.accuracy == 0.0


DIFFERENT: list[tuple[Schema, Schema, bool]] = [
    (binary(0, 1), binary(0.0, 1.0), False),
    (binary(0, 1), binary(1, 0), False),
    (binary(0, 1), binary(False, True), True),
    (binary(0, 1), binary("0", "1"), True),
    (binary("no", "yes"), binary("No", "yes"), True),
]


@pytest.mark.parametrize(("main", "challenger", "differ"), DIFFERENT)
def test_a_pair_speaks_of_the_same_classes(main: Schema, challenger: Schema, differ: bool) -> None:
    """Python thinks that True is 1; a challenger that answers true or false is no challenger of one that answers 1 or 0."""
    assert ("class labels differ" in schema_difference(main, challenger)) == differ


SENT: list[tuple[Schema, Label, str | None]] = [
    (binary(0, 1), 1.0, "1"), (binary(0.0, 1.0), 1, "1"), (binary(0, 1), True, None), (binary(False, True), True, "true"),
    (binary(False, True), 1, None), (binary("0", "1"), 1, None), (binary("0", "1"), "1", '"1"'),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "sent", "kept"), SENT)
def test_feedback_is_kept_under_the_one_text(stored: Stored, schema: Schema, sent: Label, kept: str | None) -> None:
    """The same truth in another spelling is no correction; of another kind it is no label of this model."""
    ids = stored.main(ref(1), [Answer(schema.classes[0], [0.6, 0.4])])
    given = FeedbackInput.model_validate({"labels": [{"row_id": ids[0], "value": sent}]})
    if kept is None:
        with pytest.raises(InvalidInput) as caught:
            take(NAME, given, schema, stored.index, stored.database.writing)
        assert caught.value.code == "invalid-label"
        return
    assert take(NAME, given, schema, stored.index, stored.database.writing).replaced == 0
    with stored.index.current(NAME) as connection:
        assert connection.execute("select value from labels").fetchall() == [(kept,)]
    again = FeedbackInput.model_validate({"labels": [{"row_id": ids[0], "value": float(sent) if kept == "1" else sent}]})
    assert take(NAME, again, schema, stored.index, stored.database.writing).replaced == 0


def test_a_version_known_by_another_digest_is_not_known(stored: Stored) -> None:
    """Records outlive a registry that was set up anew: the same number may be another package, with other classes."""
    ids = stored.main(ref(1), [Answer("yes", [0.4, 0.6])])
    stored.label(ids, ["yes"])
    asked = []

    def schema_of(model: str, version: int, digest: str) -> Schema | None:
        asked.append((model, version, digest))
        return None

    with stored.index.current(NAME) as connection:
        assert measure(connection, NAME, schema_of).newest is None
    assert asked == [("late-flights", 1, ref(1).digest)]


def one_file(stored: Stored) -> tuple[str, bytes]:
    """Key and bytes of the one main file that is stored."""
    key = next(iter(keys(stored.storage, NAME, "main")))
    return key, stored.storage.get(key)


def damaged(data: bytes, seed: int) -> bytes:
    """The file with a few bytes flipped, or cut."""
    chance = random.Random(seed)
    if seed % 5 == 0:
        return data[: chance.randrange(len(data))]
    found = bytearray(data)
    for _ in range(chance.choice([1, 3, 40])):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def test_no_damage_to_a_file_hides_the_others(stored: Stored) -> None:
    """Sixty files with flipped bits or cut ends beside a whole one: pages stand, the whole one counts."""
    stored.main(ref(1), [Answer("yes", [0.4, 0.6])] * 50)
    key, data = one_file(stored)
    for seed in range(60):
        stored.storage.put(key.replace(".parquet", f"-{seed}.parquet"), damaged(data, seed))
    ledger = stored.index.ledger(NAME)
    assert ledger.records >= 50
    assert 10 <= ledger.unreadable_files <= 60
    assert len(stored.index.newest(NAME, 10)) == 10


FOREIGN = [("version", pa.string()), ("scores", pa.string()), ("ts", pa.string()), ("latency_us", pa.list_(pa.int32()))]


@pytest.mark.parametrize(("column", "kind"), FOREIGN)
def test_a_file_with_our_columns_and_other_types_is_counted_as_unreadable(stored: Stored, column: str, kind: pa.DataType) -> None:
    """It fits beside no other file; left alone it would stop every page of the deployment."""
    stored.main(ref(1), [Answer("yes", [0.4, 0.6])])
    key, data = one_file(stored)
    table = pq.read_table(io.BytesIO(data))
    value = [["x"]] if pa.types.is_list(kind) else ["x"]
    strange = pa.array([[1]] if pa.types.is_list(kind) else value, kind)
    sink = io.BytesIO()
    pq.write_table(table.set_column(table.column_names.index(column), column, strange), sink)
    stored.storage.put(key.replace(".parquet", "-strange.parquet"), sink.getvalue())
    ledger = stored.index.ledger(NAME)
    assert (ledger.records, ledger.unreadable_files) == (1, 1)


def test_a_failure_while_labels_are_taken_over_is_over_with_the_request(stored: Stored) -> None:
    """The next request finds the index as usable as before, and reads the labels then."""
    ids = stored.main(ref(1), [Answer("yes", [0.4, 0.6])])
    stored.label(ids, ["yes"])
    with stored.index.current(NAME) as connection:
        connection.execute("delete from labels")
        connection.execute("alter table labels rename to away")
    with pytest.raises(duckdb.Error):
        stored.index.ledger(NAME)
    connection.execute("alter table away rename to labels")
    assert stored.index.ledger(NAME).labelled == 1


def test_rows_of_one_request_stand_in_their_order(stored: Stored) -> None:
    """Row 10 comes after row 9, not after row 1."""
    ids = stored.main(ref(1), [Answer("yes", [0.4, 0.6])] * 12)
    assert [row.row_id for row in stored.index.newest(NAME, 12)] == ids[::-1]
