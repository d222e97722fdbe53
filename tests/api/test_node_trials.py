"""What a node tells about a version on trial: requests that reached it, those that it failed, and its golden row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quarterdeck.plan import DeploymentReport, VersionName
from tests.nodes import LocalNode, deployment, encoding, local_node, touchy
from tests.support import eventually
from tests.touchy import DIES, RAISES


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node that probes all the time."""
    with local_node(tmp_path_factory.mktemp("node"), probe_seconds=0.05) as node:
        yield node


def reported(node: LocalNode, name: str) -> DeploymentReport:
    """The node's word about one deployment."""
    return next(one for one in node.report().deployments if one.name == name)


def test_requests_count_by_what_became_of_them(node: LocalNode) -> None:
    """Failed by the model: both counters. A caller's mistake: neither. A request of many rows: one."""
    ref = node.holds(touchy(), 1)
    node.serves(deployment(ref, name="touchy"))
    for rows, status in (
        ({"number": 1.0}, 200),
        ([{"number": 1.0}] * 5, 200),
        ({"number": RAISES}, 500),
        ({"number": DIES}, 500),
        ({"number": "text"}, 422),
        ({"other": 1.0}, 422),
        (b"{", 400),
    ):
        eventually(lambda: node.predict(rows, "touchy").status_code == status)  # noqa: B023
    report = reported(node, "touchy")
    assert report.failures == {ref.digest: 2}
    assert report.requests == {ref.digest: 4}


def test_compiled_models_count_as_well(node: LocalNode) -> None:
    """On the short road and on the long one; by version, those that were asked by number among them."""
    one, two = node.holds(encoding(1), 1), node.holds(encoding(2), 2)
    node.serves(deployment(one, two))
    node.waits_for("numbers", 2)
    for rows in ({"number": 1.0}, [{"number": 1.0}] * 3):
        assert node.predict(rows).status_code == 200
    path = "/v2/models/numbers/versions/2/infer"
    document = {"inputs": [{"name": "number", "datatype": "FP64", "shape": [1], "data": [1.0]}]}
    assert node.request("POST", path, json=document).status_code == 200
    report = reported(node, "numbers")
    assert report.requests == {one.digest: 2, two.digest: 1}
    assert set(report.failures.values()) == {0}


def test_a_golden_row_that_is_answered_wrongly_is_told_until_it_is_right(node: LocalNode) -> None:
    """In the report of the version that is active, in words without values."""
    ref = node.holds(encoding(1), 1)
    node.serves(deployment(ref, name="golden"))
    eventually(lambda: reported(node, "golden").probe_age_seconds is not None)
    assert reported(node, "golden").probe_failure == ""
    live = node.node.predictor.slots["golden"].live
    assert live is not None
    right = live.resident.manifest
    golden = right.golden[0]
    wrong = golden.model_copy(update={"expected": golden.expected.model_copy(update={"prediction": 77.0})})
    live.resident.manifest = right.model_copy(update={"golden": [wrong, *right.golden[1:]]})

    eventually(lambda: reported(node, "golden").probe_failure == "another number than expected.")

    live.resident.manifest = right
    eventually(lambda: reported(node, "golden").probe_failure == "")


def test_a_golden_row_that_ends_in_an_error_is_told(node: LocalNode) -> None:
    """With the model's own error; the next version's report starts clean."""
    node.serves(deployment(node.holds(touchy(), 1), name="broken"))
    live = node.node.predictor.slots["broken"].live
    assert live is not None
    right = live.resident.manifest
    failing = right.golden[0].model_copy(update={"row": {"number": RAISES}})
    live.resident.manifest = right.model_copy(update={"golden": [failing]})

    eventually(lambda: "ValueError" in reported(node, "broken").probe_failure, 90)

    node.serves(deployment(node.holds(encoding(1), 2), name="broken", revision=2))
    assert reported(node, "broken").probe_failure == ""


def test_a_digest_that_the_plan_asks_for_is_in_the_report(node: LocalNode) -> None:
    """A node that holds nothing yet answers as well, and it does so for the present wish."""
    node.agent.digests["numbers v7"] = encoding(1).manifest.digest
    asked = [VersionName(model="numbers", version=number) for number in (7, 8)]
    node.apply(deployment(None, name="new", resolve=asked, generation=3))

    eventually(lambda: len(reported(node, "new").resolved) == 2)

    found, missing = reported(node, "new").resolved
    assert (found.digest, missing.digest, missing.code) == (encoding(1).manifest.digest, None, "not-found")
    assert reported(node, "new").generation == 3
