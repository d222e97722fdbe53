"""What becomes of an answer: its record, the challenger's beside it, the truth about it, and the figures over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quarterdeck.client import Label
from quarterdeck.errors import InvalidInput
from quarterdeck.record_files import pairs, read_challenger, read_main
from tests.local.shared import FEATURES, Shared, rows, stored, tensors
from tests.models import lightgbm_model, table
from tests.support import eventually

NUMBER: dict[str, Any] = {"name": "number", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}


def ask(shared: Shared, name: str, count: int, caller: str = "") -> list[str]:
    """Predict `count` rows of a `versions` model in one request; their row ids."""
    given = [{"number": float(number)} for number in range(count)]
    answer = shared.ask(name, given, {"x-request-id": caller} if caller else None)
    assert answer.status_code == 200, answer.text
    return [f"{answer.json()['request_id']}-{place}" for place in range(count)]


def labelled(shared: Shared, name: str, ids: Sequence[str], value: float) -> dict[str, Any]:
    """Tell the truth about rows; the answer."""
    labels: list[Label] = [{"row_id": row_id, "value": value} for row_id in ids]
    return shared.client.send_feedback(name, labels)


def ledger(shared: Shared, name: str, **expected: int) -> dict[str, Any]:
    """The ledger, once it says what is expected."""

    def found() -> dict[str, Any]:
        now = shared.client.ledger(name)
        assert {key: now[key] for key in expected} == expected
        return now

    return eventually(found, every=0.2)


def test_every_answered_row_is_stored_exactly_once(shared: Shared) -> None:
    """Eight callers at three doors at once: the row ids in the files are those of the answers, no more, no less, none twice."""
    name = "records-once"
    shared.deploy(name, shared.version(1))

    def call(number: int) -> list[str]:
        door, count = number % 3, 2
        if door == 0:
            return ask(shared, name, count := 1 + number % 5)
        if door == 1:
            answer = shared.infer(name, {"inputs": [NUMBER]})
        else:
            answer, count = shared.form(name, {"number": 1.0}), 1
        assert answer.status_code == 200
        return [f"{answer.headers['x-request-id']}-{place}" for place in range(count)]

    with ThreadPoolExecutor(8) as callers:
        answered = [row_id for ids in callers.map(call, range(120)) for row_id in ids]
    found = shared.records(name, len(answered))
    assert Counter(found["row_id"].to_pylist()) == Counter(answered)
    assert len(set(answered)) == len(answered)
    assert Counter(found["door"].to_pylist()).keys() == {"plain", "oip", "form"}
    ledger(shared, name, records=len(answered), unreadable_files=0)


def test_a_record_says_what_the_answer_said(shared: Shared) -> None:
    """Version, digest, revision, scores, the caller's id and the features; the time is that of the call."""
    name = "records-said"
    revision = shared.deploy(name, shared.task("multiclass"))
    before, given = datetime.now(UTC), rows(5)
    answer = shared.ask(name, given, {"x-request-id": "order-1"}).json()
    after = datetime.now(UTC)
    shared.records(name, 5)
    found = read_main(shared.storage, name).sort_by("row").to_pylist()
    for place, (row, said) in enumerate(zip(found, answer["predictions"], strict=True)):
        assert row["row_id"] == f"{answer['request_id']}-{place}"
        assert row["features"] == given[place]
        assert (row["prediction"], row["scores"]) == (f'"{said["prediction"]}"', list(said["scores"].values()))
        assert (row["model"], row["version"], row["digest"]) == (answer["model"], answer["version"], answer["digest"])
        assert (row["deployment"], row["project"], row["revision"]) == (name, "default", revision)
        assert (row["request_id"], row["row"], row["caller_id"]) == (answer["request_id"], place, "order-1")
        assert before - timedelta(seconds=1) <= row["ts"] <= after + timedelta(seconds=1)
        assert 0 < row["latency_us"] < 30_000_000


def test_what_was_not_answered_is_not_recorded(shared: Shared) -> None:
    """Refused requests leave nothing, and neither does a version that was asked for by its number alone."""
    name = "records-refused"
    shared.deploy(name, shared.version(1))
    shared.deploy(name, shared.version(2))
    assert shared.ask(name, {"number": "x"}).status_code == 422
    assert shared.ask(name, b"nothing").status_code == 400
    assert shared.form(name, {"number": "x"}).status_code == 422
    assert shared.infer(name, {"inputs": []}).status_code == 400
    assert shared.infer(name, {"inputs": [NUMBER]}, version=1).status_code == 200
    last = ask(shared, name, 1)
    assert shared.records(name, 1)["row_id"].to_pylist() == last


def test_records_can_be_off(shared: Shared) -> None:
    """Neither main's rows nor the challenger's reach the store, answers are as ever; switched on, they do from then on."""
    name = "records-off"
    shared.deploy(name, shared.version(1), shared.version(2), records="off")
    shared.mirroring(name)
    for _ in range(5):
        ask(shared, name, 3)
    # The mirror still works: it has counted what it sent.
    eventually(lambda: shared.observed(name)["mirror"]["answered"] == 15, every=0.2)
    shared.deploy(name, shared.version(1), shared.version(2), records="spooled")
    shared.mirroring(name)
    last = ask(shared, name, 2)
    ledger(shared, name, records=2, pairs=2)
    assert sorted(stored(shared.storage, name)["row_id"].to_pylist()) == sorted(last)
    assert sorted(read_challenger(shared.storage, name)["row_id"].to_pylist()) == sorted(last)


def test_the_challenger_answers_the_very_same_rows(shared: Shared) -> None:
    """Each row of main has one of the challenger's beside it, with its own answer; the ledgers of node and store agree."""
    name = "records-paired"
    shared.deploy(name, shared.version(1), shared.version(2))
    shared.mirroring(name)
    asked = [row_id for count in (1, 7, 30, 2) for row_id in ask(shared, name, count)]
    assert shared.infer(name, {"inputs": [NUMBER]}).status_code == 200
    assert shared.form(name, {"number": 1.0}).status_code == 200
    ledger(shared, name, records=43, pairs=43, challenger_answered=43, challenger_failed=0, challenger_dropped=0, labelled=0)
    main, challenger = read_main(shared.storage, name), read_challenger(shared.storage, name)
    joined = pairs(main, challenger)
    assert joined.num_rows == main.num_rows == challenger.num_rows == 43
    assert set(asked) <= set(joined["row_id"].to_pylist())
    assert {float(value) for value in joined["main_prediction"].to_pylist()} == {1.0}
    assert {float(value) for value in joined["challenger_prediction"].to_pylist()} == {2.0}
    eventually(lambda: shared.observed(name)["mirror"]["answered"] == 43, every=0.2)
    mirror = shared.observed(name)["mirror"]
    assert (mirror["mirrored"], mirror["pending"], mirror["last_error"]) == (43, 0, "")
    shown = shared.client.predictions(name, 43)
    assert [one["challenger"]["prediction"] for one in shown] == [2.0] * 43
    assert {one["door"] for one in shown} == {"plain", "oip", "form"}


def test_a_swap_keeps_pairs_apart(shared: Shared) -> None:
    """Rows of before and after the swap are measured for themselves, each version on what it answered as main and beside."""
    name = "records-swapped"
    shared.deploy(name, shared.version(1), shared.version(2))
    shared.mirroring(name)
    before = ask(shared, name, 6)
    ledger(shared, name, pairs=6)
    assert shared.client.swap(name, wait=60)["applied"]
    shared.mirroring(name)
    after = ask(shared, name, 4)
    ledger(shared, name, records=10, pairs=10)
    labelled(shared, name, before + after, 1.0)
    measured = shared.client.performance(name)
    (other,) = measured["others"]
    for pair, main, count in ((measured, 2, 4), (other, 1, 6)):
        assert (pair["rows"], pair["main"]["version"], pair["challenger"]["version"]) == (count, main, 3 - main)
        assert (pair["main"]["mae"], pair["challenger"]["mae"]) == (main - 1.0, 2.0 - main)
    assert shared.client.rollback(name, wait=60)["applied"]
    shared.mirroring(name)
    labelled(shared, name, ask(shared, name, 3), 1.0)
    # The pair of before the swap is back: its rows go on where they ended.
    ledger(shared, name, labelled=13, pairs=13)
    measured = shared.client.performance(name)
    assert (measured["rows"], measured["main"]["version"], len(measured["others"])) == (9, 1, 1)


def test_feedback_may_name_rows_by_the_callers_own_ids(shared: Shared) -> None:
    """The caller's id and the row's place in that request; what nobody sent and what was sent twice is refused by place."""
    name = "records-callers"
    shared.deploy(name, shared.version(1))
    first, twice = ask(shared, name, 3, "order-4711"), ask(shared, name, 1, "again") + ask(shared, name, 1, "again")
    ledger(shared, name, records=5)
    labels: list[Label] = [{"caller_id": "order-4711", "row": 2, "value": 1.5}, {"caller_id": "order-4711", "value": 2.5}]
    assert shared.client.send_feedback(name, labels) == {"accepted": 2, "replaced": 0, "waiting": 0}
    known = {one["row_id"]: one["label"] for one in shared.client.predictions(name)}
    assert known == {first[0]: 2.5, first[1]: None, first[2]: 1.5, **dict.fromkeys(twice)}
    refused: dict[str, list[Label]] = {
        "unknown-row": [labels[0], {"caller_id": "order-9999", "value": 1.0}],
        "ambiguous-row": [labels[0], {"caller_id": "again", "value": 1.0}],
        "repeated-row": [labels[0], {"row_id": first[2], "value": 1.0}],
    }
    for code, given in refused.items():
        with pytest.raises(InvalidInput, match="Label 1") as error:
            shared.client.send_feedback(name, given)
        assert error.value.code == code
    beyond: list[Label] = [{"caller_id": "order-4711", "row": 3, "value": 1.0}]
    with pytest.raises(InvalidInput):
        shared.client.send_feedback(name, beyond)
    assert {one["row_id"]: one["label"] for one in shared.client.predictions(name)} == known


def test_a_corrected_label_replaces_the_first(shared: Shared) -> None:
    """The same one again is no correction; performance follows the newest truth; rows are never counted twice."""
    name = "records-corrected"
    shared.deploy(name, shared.version(1))
    ids = ask(shared, name, 4)
    ledger(shared, name, records=4)
    for value, replaced, mae in ((3.0, 0, 2.0), (3.0, 0, 2.0), (1.0, 4, 0.0), (2.0, 4, 1.0)):
        assert labelled(shared, name, ids, value) == {"accepted": 4, "replaced": replaced, "waiting": 0}
        measured = shared.client.performance(name)
        assert (measured["rows"], measured["main"]["mae"]) == (4, mae)
    assert labelled(shared, name, ids[:1], 1.0)["replaced"] == 1
    assert shared.client.performance(name)["main"]["mae"] == 0.75
    ledger(shared, name, labelled=4)


def test_the_truth_may_come_before_the_record(shared: Shared) -> None:
    """A label of a row that is not stored yet waits, and counts as soon as the record is there."""
    name = "records-early"
    shared.deploy(name, shared.version(1))
    ids = ask(shared, name, 1)
    told = labelled(shared, name, [*ids, f"{'0' * 31}1-0"], 1.0)
    assert told["accepted"] == 2
    assert told["waiting"] in (1, 2)
    ledger(shared, name, records=1, labelled=1)
    assert shared.client.performance(name)["rows"] == 1


def test_records_outlive_stop_and_delete(shared: Shared) -> None:
    """A stopped deployment's rows can be labelled; those of a deleted one stay in the store."""
    name = "records-kept"
    shared.deploy(name, shared.version(1))
    ids = ask(shared, name, 2)
    assert shared.client.stop(name, wait=60)["applied"]
    assert shared.ask(name, {"number": 1.0}).status_code == 503
    ledger(shared, name, records=2)
    assert labelled(shared, name, ids, 1.0)["accepted"] == 2
    shared.client.delete(name, wait=60)
    eventually(lambda: shared.ask(name, {"number": 1.0}).status_code == 404)
    assert stored(shared.storage, name)["row_id"].to_pylist() == ids


def test_scores_of_two_models_stand_side_by_side(shared: Shared) -> None:
    """A challenger of another model with the same schema: both models' scores, in the order of the classes, and their digests."""
    name = "records-classes"
    main = shared.task("binary")
    beside = shared.publish("binary-small", lightgbm_model("binary", 3).package("binary-small"))
    shared.deploy(name, main, beside)
    shared.mirroring(name)
    given = rows(8)
    assert shared.infer(name, tensors(shared.manifest("binary"), given)).status_code == 200
    ledger(shared, name, pairs=8)
    frame = table()[FEATURES].assign(carrier=table().carrier.astype("category")).head(8)
    by_row = {int(one["row_id"].rpartition("-")[2]): one for one in shared.client.predictions(name)}
    for role, ref, trees in (("main", main, 8), ("challenger", beside, 3)):
        expected = lightgbm_model("binary", trees).model.predict_proba(frame).tolist()
        assert [by_row[place][role]["scores"] for place in range(8)] == expected
        assert {one[role]["digest"] for one in by_row.values()} == {ref.digest}
