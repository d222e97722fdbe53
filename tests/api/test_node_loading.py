"""Loading: what is refused and how it is named, what goes on serving meanwhile, and swaps under load."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.build import BuiltPackage
from quarterdeck.errors import StorageError
from quarterdeck.manifest import Environment, GoldenRow
from quarterdeck.plan import VersionReport
from quarterdeck.schema import Prediction
from quarterdeck_node.runtimes.process import ModelProcess
from tests.nodes import LocalNode, deployment, encoding, local_node, ref, rewritten, touchy
from tests.support import eventually

Change = Callable[[BuiltPackage], dict[str, Any]]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LocalNode]:
    """A node that holds nothing yet."""
    with local_node(tmp_path / "node") as node:
        yield node


def state(node: LocalNode, version: int, name: str = "numbers") -> VersionReport:
    """What the node reports of one version."""
    [found] = [
        one for report in node.report().deployments if report.name == name for one in report.versions if one.version == version
    ]
    return found


def environment(built: BuiltPackage, **changes: Any) -> dict[str, Any]:
    """A change of what a package needs."""
    return {"environment": Environment.model_validate({**built.manifest.environment.model_dump(), **changes})}


def wrong_golden(built: BuiltPackage) -> dict[str, Any]:
    """A golden row whose expected answer no model gives."""
    row = built.manifest.golden[0].row
    return {"golden": [GoldenRow(row=row, expected=Prediction(prediction=-5.0))]}


@pytest.mark.parametrize(
    ("form", "change", "code", "place"),
    [
        ("skops", lambda built: environment(built, python="3.1.4"), "environment-mismatch", "python"),
        ("skops", lambda built: environment(built, libraries={"scikit-learn": "0.1"}), "environment-mismatch", "scikit-learn"),
        (
            "compiled",
            lambda built: environment(built, variables=["NOT_SET_ANYWHERE"]),
            "variable-missing",
            "NOT_SET_ANYWHERE",
        ),
        ("compiled", wrong_golden, "golden-mismatch", "golden row 0"),
        ("skops", wrong_golden, "golden-mismatch", "golden row 0"),
    ],
    ids=["interpreter", "library", "variable", "golden in process", "golden in a process of its own"],
)
def test_a_refused_version_is_named_and_the_old_one_serves_on(
    node: LocalNode, tmp_path: Path, form: Any, change: Change, code: str, place: str
) -> None:
    """The report says what and where; answers still come from version 1, under its own revision."""
    one = node.holds(encoding(1), 1)
    node.serves(deployment(one, revision=1))
    folder, manifest = rewritten(encoding(2, form), tmp_path / "two", **change(encoding(2, form)))
    node.agent.packages[manifest.digest] = folder
    node.apply(deployment(ref(manifest, 2), one, revision=2))
    eventually(lambda: state(node, 2).state == "failed", 90)
    failed = state(node, 2)
    assert (failed.code, failed.place) == (code, place)
    assert failed.reason
    answer = node.predict({"number": 1.0})
    assert (answer.json()["version"], answer.json()["revision"]) == (1, 1)
    assert node.get("/ready").status_code == 200


def test_a_tampered_file_is_never_loaded(node: LocalNode, tmp_path: Path) -> None:
    """One byte changed after the agent verified it: refused with the file's name."""
    folder = encoding(1).write(tmp_path / "one")
    file = folder / encoding(1).manifest.files[0].path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    node.agent.packages[encoding(1).manifest.digest] = folder
    node.apply(deployment(ref(encoding(1), 1)))
    eventually(lambda: state(node, 1).state == "failed")
    assert (state(node, 1).code, state(node, 1).place) == ("digest-mismatch", encoding(1).manifest.files[0].path)
    assert node.get("/ready").status_code == 503
    assert node.predict({"number": 1.0}).status_code == 503


def test_a_package_that_runs_code_needs_trust(node: LocalNode) -> None:
    """The plan's trust counts, not the package's own word."""
    found = node.holds(touchy(), 1).model_copy(update={"trust": "data"})
    node.apply(deployment(found))
    eventually(lambda: state(node, 1).state == "failed", 90)
    assert state(node, 1).code == "trust-required"


def test_a_store_that_fails_is_retried_and_seen(node: LocalNode) -> None:
    """While it fails the version is `fetching` with the reason; once it works the version becomes ready by itself."""
    one = node.holds(encoding(1), 1)
    node.agent.failures[one.digest] = StorageError("The store does not answer.", code="unreachable", extra={"place": "model.txt"})
    node.apply(deployment(one))
    eventually(lambda: state(node, 1).code == "unreachable")
    assert (state(node, 1).state, state(node, 1).place) == ("fetching", "model.txt")
    assert "number" not in node.get("/ready").json()["missing"][0].removeprefix("numbers")
    del node.agent.failures[one.digest]
    eventually(lambda: node.get("/ready").status_code == 200)
    assert state(node, 1).code == ""


def test_a_store_error_that_a_person_must_mend_is_seen_and_not_given_up(node: LocalNode) -> None:
    """The version stays `fetching` with the reason; a newer wish for it does not wait for the long pause."""
    one = node.holds(encoding(1), 1)
    node.agent.failures[one.digest] = StorageError("There is no such bucket.", code="no-such-bucket", retryable=False)
    node.apply(deployment(one, generation=1))
    eventually(lambda: state(node, 1).code == "no-such-bucket")
    assert state(node, 1).state == "fetching"
    del node.agent.failures[one.digest]
    node.serves(deployment(one, generation=2))


def test_nothing_is_ready_without_a_plan_or_an_active_version(node: LocalNode) -> None:
    """And /ready says what is missing."""
    assert node.get("/ready").json()["missing"] == ["No plan has arrived yet."]
    node.apply()
    assert node.get("/ready").json()["missing"] == ["No deployment has an active version."]
    node.apply(deployment(None, node.holds(encoding(1), 1)))
    assert node.get("/ready").status_code == 503
    assert node.predict({"number": 1.0}).json()["code"] == "not-ready"
    assert node.get("/live").status_code == 200


def test_what_a_plan_no_longer_names_is_unloaded(node: LocalNode) -> None:
    """Process and memory of a version go when nothing names it any more, and its paths with it."""
    found = node.holds(touchy(), 1)
    one = node.holds(encoding(1), 1)
    node.serves(deployment(found, name="touchy"))
    runtime = node.node.predictor.slots["touchy"].versions[1].runtime
    assert isinstance(runtime, ModelProcess)
    pid = runtime.pid
    assert pid is not None
    node.serves(deployment(one))
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert node.predict({"number": 1.0}, "touchy").status_code == 404


def test_a_stopped_deployment_answers_503_and_starts_again_at_once(node: LocalNode) -> None:
    """`active` None with the version still resident."""
    one = node.holds(encoding(1), 1)
    node.serves(deployment(one))
    node.serves(deployment(None, one, revision=2))
    assert node.predict({"number": 1.0}).status_code == 503
    node.serves(deployment(one, revision=3))
    assert node.predict({"number": 1.0}).json()["revision"] == 3


def test_probes_prove_what_is_active_and_are_not_counted(node: LocalNode) -> None:
    """A golden row goes through the active version; neither counters nor records know of it."""
    node.serves(deployment(node.holds(encoding(1), 1)))
    eventually(lambda: node.report().deployments[0].probe_age_seconds is not None)
    assert node.report().deployments[0].answered == {}
    assert node.report().spool_rows == 0
    assert 'quarterdeck_node_running{deployment="numbers",role="main",stage="dev"} 1.0' in node.get("/metrics").text


def rows_answered(node: LocalNode) -> int:
    """By all versions together."""
    return sum(count.answered for count in list(node.node.predictor.counts.values()))


def hammer(node: LocalNode, stop: threading.Event, revisions: dict[int, int], form: Any) -> Counter[str]:
    """Ask until told to stop; counts what came back, and everything that does not fit together by its own name."""
    seen: Counter[str] = Counter()
    turn = 0
    while not stop.is_set():
        turn += 1
        rows = [{"number": float(turn)}] * (1 + turn % 3)
        answer = node.predict(rows)
        if answer.status_code != 200:
            seen[f"status {answer.status_code}"] += 1
            continue
        body = answer.json()
        values = {one["prediction"] for one in body["predictions"]}
        fits = (
            values == {float(body["version"])}
            and len(body["predictions"]) == len(rows)
            and body["digest"] == encoding(body["version"], form).manifest.digest
            and body["version"] == revisions[body["revision"]]
            and answer.headers["quarterdeck-revision"] == str(body["revision"])
        )
        seen["right" if fits else "mixed"] += 1
    return seen


@pytest.mark.parametrize(("form", "swaps"), [("compiled", 100), ("skops", 25)])
def test_swaps_under_load_lose_and_mix_nothing(node: LocalNode, form: Any, swaps: int) -> None:
    """Eight clients while main is switched to and fro: every answer is one version's, under that version's revision."""
    versions = {number: node.holds(encoding(number, form), number) for number in (1, 2)}
    revisions = {revision: 1 + revision % 2 for revision in range(swaps + 2)}
    node.serves(deployment(versions[revisions[1]], *versions.values(), revision=1))
    eventually(lambda: state(node, 1).state == state(node, 2).state == "ready", 90)
    stop = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(hammer, node, stop, revisions, form) for _ in range(8)]
        for revision in range(2, swaps + 2):
            before = rows_answered(node)
            node.apply(deployment(versions[revisions[revision]], *versions.values(), revision=revision))
            eventually(lambda: rows_answered(node) > before)  # noqa: B023
        stop.set()
        seen = sum((client.result() for client in clients), Counter[str]())
    assert set(seen) == {"right"}
    assert seen["right"] >= swaps
