"""The index over stored records and labels: complete, current, and never twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.records import Answer, MirrorResult
from quarterdeck.storage.keys import records_prefix
from quarterdeck_deployer.predictions import Ledger
from tests.stored_records import Stored, ref

YES = Answer("yes", [0.2, 0.8])
NO = Answer("no", [0.9, 0.1])


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """An empty store."""
    made = Stored(tmp_path)
    yield made
    made.close()


def test_ledger_counts_what_is_stored(stored: Stored) -> None:
    """Records, the challenger's rows by result, complete pairs and labelled rows."""
    ids = stored.main(ref(1), [YES] * 6)
    stored.challenger(ref(2), ids[:3], [NO] * 3)
    results: list[MirrorResult] = ["failed", "expired", "dropped"]
    for place, result in enumerate(results, 3):
        stored.challenger(ref(2), [ids[place]], [], result=result)
    stored.label(ids[:2], ["yes", "no"])
    assert stored.index.ledger("late-flights") == Ledger(
        records=6,
        challenger_answered=3,
        challenger_failed=1,
        challenger_expired=1,
        challenger_dropped=1,
        pairs=3,
        labelled=2,
        unreadable_files=0,
    )


def test_a_deployment_of_the_same_name_in_another_namespace_is_not_counted(tmp_path: Path) -> None:
    """Given two namespaces and one store, then each index has the rows of its own."""
    shop = Stored(tmp_path / "shop", namespace="shop")
    lab = Stored(tmp_path / "lab", storage=shop.storage, namespace="lab")
    shop.main(ref(1), [YES] * 2)
    lab.main(ref(1), [NO] * 3)
    assert [one.index.ledger("late-flights").records for one in (shop, lab)] == [2, 3]
    for one in (shop, lab):
        one.close()


def test_new_files_are_read_and_old_ones_are_not_read_again(stored: Stored) -> None:
    """Asking twice counts no row twice, and what came between the two is there."""
    stored.main(ref(1), [YES] * 2)
    assert stored.index.ledger("late-flights").records == 2
    stored.main(ref(1), [YES] * 3)
    assert [stored.index.ledger("late-flights").records for _ in range(2)] == [5, 5]


def test_a_row_that_was_delivered_twice_counts_once(stored: Stored) -> None:
    """Delivery is at least once: the same rows may lie in two files, read together or one after the other."""
    stored.main(ref(1), [YES] * 3)
    (key,) = stored.storage.list("records/")
    for name in ("again", "and-again"):
        stored.storage.put(key.replace("boot", name), stored.storage.get(key))
        assert stored.index.ledger("late-flights").records == 3


def test_a_file_that_is_no_record_file_is_counted_and_passed_over(stored: Stored) -> None:
    """One bad object does not hide the others."""
    stored.main(ref(1), [YES])
    stored.storage.put(records_prefix("late-flights", "main") + "dt=2026-11-21/hh=06/broken.parquet", b"not parquet")
    found = stored.index.ledger("late-flights")
    assert (found.records, found.unreadable_files) == (1, 1)


def test_deployments_do_not_mix(stored: Stored) -> None:
    """Another deployment's ledger is empty."""
    stored.main(ref(1), [YES])
    assert stored.index.ledger("other").records == 0


def test_newest_rows_come_first_with_both_answers_and_the_truth(stored: Stored) -> None:
    """At most as many as asked for; what has not come is None, what failed says why."""
    stored.main(ref(1), [YES])
    (middle,) = stored.main(ref(1), [YES], minute=1)
    stored.challenger(ref(2), [middle], [NO])
    (last,) = stored.main(ref(1), [NO], minute=2, caller="order-7")
    stored.challenger(ref(2), [last], [], result="failed")
    stored.label([middle], ["no"])
    newest, before = stored.index.newest("late-flights", 2)
    assert (newest.row_id, newest.caller_id, newest.label, newest.main.prediction) == (last, "order-7", None, "no")
    assert newest.challenger is not None
    assert (newest.challenger.result, newest.challenger.prediction, newest.challenger.error_code) == (
        "failed",
        None,
        "model-failed",
    )
    assert before.challenger is not None
    assert (before.row_id, before.label, before.challenger.prediction) == (middle, "no", "no")
    assert before.main.scores == [0.2, 0.8]


def test_a_corrected_label_takes_the_place_of_the_first(stored: Stored) -> None:
    """One row has one truth, also when the correction bears the very same time of receipt."""
    ids = stored.main(ref(1), [YES])
    for value in ("no", "yes"):
        stored.label(ids, [value])
        assert [row.label for row in stored.index.newest("late-flights", 10)] == [value]
    assert stored.index.ledger("late-flights").labelled == 1
