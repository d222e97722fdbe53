"""Feedback, performance, predictions and ledger over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.records import Answer
from tests.console_world import NAME, Console, console
from tests.stored_records import Stored


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Console]:
    """Version 1 is main, 2 its challenger; nothing has been predicted."""
    with console(tmp_path / "deployer") as found:
        found.deploy()
        yield found


@pytest.fixture
def stored(here: Console, tmp_path: Path) -> Iterator[Stored]:
    """A way to put records into the deployer's store."""
    (tmp_path / "records").mkdir()
    made = Stored(tmp_path / "records", storage=here.world.deployer.storage, deployment=NAME)
    yield made
    made.close()


def get(here: Console, what: str, **query: Any) -> dict[str, Any]:
    """One of the documents of the deployment."""
    return here.world.ok(here.world.http.get(f"/api/deployments/{NAME}/{what}", params=query))


def send(here: Console, *labels: dict[str, Any]) -> Any:
    """The answer to some feedback."""
    return here.world.http.post(f"/api/deployments/{NAME}/feedback", json={"labels": labels})


def test_feedback_reaches_both_models_scores(here: Console, stored: Stored) -> None:
    """Main and challenger are measured on the labelled rows, and the ledger counts them."""
    ids = stored.main(here.ref(1), [Answer("yes", [0.2, 0.8]), Answer("no", [0.9, 0.1])], caller="order-1")
    stored.challenger(here.ref(2), ids, [Answer("yes", [0.5, 0.5]), Answer("yes", [0.4, 0.6])])
    sent = send(here, {"row_id": ids[0], "value": "yes"}, {"caller_id": "order-1", "row": 1, "value": "no"})
    assert sent.json() == {"accepted": 2, "replaced": 0, "waiting": 0}
    found = get(here, "performance")
    assert (found["task"], found["rows"], found["others"]) == ("binary", 2, [])
    assert (found["main"]["version"], found["main"]["digest"], found["main"]["accuracy"]) == (1, here.digests[1], 1.0)
    assert (found["challenger"]["version"], found["challenger"]["accuracy"]) == (2, 0.5)
    assert found["main"]["brier"] == pytest.approx((0.2**2 + 0.1**2) / 2)
    assert found["challenger"]["brier"] == pytest.approx((0.5**2 + 0.6**2) / 2)
    ledger = get(here, "ledger")
    assert [ledger[name] for name in ("records", "challenger_answered", "pairs", "labelled")] == [2, 2, 2, 2]


def test_predictions_come_newest_first(here: Console, stored: Stored) -> None:
    """With both answers and the truth where it has come."""
    ids = stored.main(here.ref(1), [Answer("yes", [0.2, 0.8])])
    last = stored.main(here.ref(1), [Answer("no", [0.9, 0.1])], minute=1)
    send(here, {"row_id": ids[0], "value": "no"})
    rows = get(here, "predictions", limit=5)["predictions"]
    assert [(row["row_id"], row["main"]["prediction"], row["challenger"], row["label"]) for row in rows] == [
        (last[0], "no", None, None),
        (ids[0], "yes", None, "no"),
    ]
    assert len(get(here, "predictions", limit=1)["predictions"]) == 1


def test_before_the_first_prediction_everything_is_empty(here: Console) -> None:
    """Nothing fails, and nothing is made up."""
    found = get(here, "performance")
    assert (found["rows"], found["main"], found["challenger"]) == (0, None, None)
    assert get(here, "predictions")["predictions"] == []
    assert set(get(here, "ledger").values()) == {0}


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ({"row_id": "0" * 32 + "-0", "value": "perhaps"}, "invalid-label"),
        ({"caller_id": "nobody", "value": "yes"}, "unknown-row"),
    ],
)
def test_a_refusal_names_the_label(here: Console, label: dict[str, Any], code: str) -> None:
    """Its place in the list, as a number that programs can read."""
    answer = send(here, {"row_id": "1" * 32 + "-0", "value": "yes"}, label)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert (answer.json()["code"], answer.json()["label"]) == (code, 1)


@pytest.mark.parametrize("what", ["performance", "predictions", "ledger"])
def test_an_unknown_deployment_is_not_found(here: Console, what: str) -> None:
    """Also where nothing was ever stored."""
    assert here.world.http.get(f"/api/deployments/nobody/{what}").status_code == 404


def test_two_pairs_are_told_apart_after_a_swap(here: Console, stored: Stored) -> None:
    """The newest pair is in front, the one before it among the others."""
    yes, no = Answer("yes", [0.2, 0.8]), Answer("no", [0.9, 0.1])
    for minute, (main, challenger) in enumerate([(1, 2), (2, 1)]):
        ids = stored.main(here.ref(main), [yes], minute=minute)
        stored.challenger(here.ref(challenger), ids, [no], minute=minute)
        send(here, {"row_id": ids[0], "value": "yes"})
    found = get(here, "performance")
    assert (found["main"]["version"], found["challenger"]["version"], found["rows"]) == (2, 1, 1)
    assert [(pair["main"]["version"], pair["challenger"]["version"]) for pair in found["others"]] == [(1, 2)]
