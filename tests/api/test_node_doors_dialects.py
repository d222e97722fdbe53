"""What is particular to KServe V1, TensorFlow Serving, MLflow and Dataiku: their paths, forms, names and errors."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from quarterdeck.records import MainRecord, decode
from quarterdeck_node.app import DOORS
from tests.nodes import LocalNode, binary, deployment, encoding, key, local_node

SECRET = "s3cr3t-of-a-caller"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with a classifier in a service, and a regression of two versions."""
    with local_node(tmp_path_factory.mktemp("node")) as node:
        late, one, two = node.holds(binary(), 3), node.holds(encoding(1), 1), node.holds(encoding(2), 2)
        node.serves(
            deployment(late, name="late", service="flights", stage="prod"), deployment(one, two, name="numbers", revision=4)
        )
        node.waits_for("numbers", 2)
        yield node


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with the classifier alone."""
    with local_node(tmp_path_factory.mktemp("alone")) as node:
        node.serves(deployment(node.holds(binary(), 3), name="late"))
        yield node


def good(**changes: Any) -> dict[str, Any]:
    """A record of the classifier."""
    return {**cast("dict[str, Any]", binary().manifest.golden[0].row), **changes}


def post(node: LocalNode, path: str, document: Any, **headers: str) -> httpx.Response:
    """POST a document as JSON; text goes as it is."""
    content = document if isinstance(document, str) else json.dumps(document)
    return node.request("POST", path, content=content.encode(), headers={"content-type": "application/json", **headers})


def test_v1_status_is_that_of_both_dialects(node: LocalNode) -> None:
    """KServe's name and ready beside TensorFlow Serving's versions, for a deployment, a version and a label."""
    body = node.get("/v1/models/numbers").json()
    assert (body["name"], body["ready"]) == ("numbers", True)
    assert [(one["version"], one["state"], one["status"]["error_code"]) for one in body["model_version_status"]] == [
        ("1", "AVAILABLE", "OK"),
        ("2", "AVAILABLE", "OK"),
    ]
    for path, version in (("versions/2", "2"), ("labels/main", "1"), ("labels/dev", "1"), ("labels/previous", "2")):
        found = node.get(f"/v1/models/numbers/{path}").json()["model_version_status"]
        assert [one["version"] for one in found] == [version], path
    assert node.get("/v1/models").json() == {"models": ["late", "numbers"]}


def test_v1_metadata_shows_the_schema(node: LocalNode) -> None:
    """And the signatures that a request may name."""
    body = node.get("/v1/models/late/metadata").json()
    assert body["model_spec"] == {"name": "late", "version": "3", "signature_name": "serving_default"}
    assert body["metadata"]["signatures"] == ["serving_default", "prediction", "scores"]
    assert [one["name"] for one in body["metadata"]["schema"]["features"]] == list(good())


@pytest.mark.parametrize(
    ("path", "answer"), [("", 1.0), ("/versions/2", 2.0), ("/versions/1", 1.0), ("/labels/main", 1.0), ("/labels/previous", 2.0)]
)
def test_v1_paths_name_versions_by_number_and_label(node: LocalNode, path: str, answer: float) -> None:
    """Rows of single values are enough for a model of one feature."""
    body = post(node, f"/v1/models/numbers{path}:predict", {"instances": [1.0, [2.0], {"number": 3.0}]}).json()
    assert body == {"predictions": [answer] * 3}


def test_v1_signatures_pick_an_output(node: LocalNode) -> None:
    """Labels alone or scores alone, by row and by column."""
    expected = binary().manifest.golden[0].expected
    document: dict[str, Any] = {"instances": [good()], "signature_name": "prediction"}
    assert post(node, "/v1/models/late:predict", document).json() == {"predictions": [expected.prediction]}
    document = {"inputs": {name: [[value]] for name, value in good().items()}, "signature_name": "scores"}
    assert post(node, "/v1/models/late:predict", document).json() == {"outputs": [expected.scores]}


def _text(**changes: Any) -> str:
    return json.dumps({"instances": [good(**changes)]})


def test_v1_reads_texts_in_base64(node: LocalNode) -> None:
    """As TensorFlow Serving writes strings: in rows and in columns, for features that are texts."""
    plain = post(node, "/v1/models/late:predict", {"instances": [good(carrier="AA")]}).json()["predictions"]
    encoded = good(carrier={"b64": base64.b64encode(b"AA").decode()})
    by_row = [{"instances": [encoded]}, {"instances": [list(encoded.values())]}]
    assert [post(node, "/v1/models/late:predict", document).json()["predictions"] for document in by_row] == [plain] * 2
    by_column = {"inputs": {name: [value] for name, value in encoded.items()}, "signature_name": "scores"}
    assert post(node, "/v1/models/late:predict", by_column).json() == {"outputs": [plain[0]["scores"]]}


@pytest.mark.parametrize("word", ["Infinity", "-Infinity", "1e400", "NaN"])
def test_v1_refuses_what_is_not_finite_by_row_and_column(node: LocalNode, word: str) -> None:
    """Whatever JSON's grammar says of such words."""
    said = post(node, "/v1/models/late:predict", _text().replace(json.dumps(good()["distance"]), word, 1)).json()
    assert (said["status"], said["code"], said["row"], said["column"]) == (400, "invalid-input", 0, "distance")


def test_v1_has_kserves_liveness(node: LocalNode) -> None:
    """At the root, for everybody."""
    assert node.get("/").json() == {"status": "alive"}


V1_BAD = {
    "no rows": ({}, 400),
    "both": ({"instances": [], "inputs": []}, 400),
    "an empty list": ({"instances": []}, 400),
    "a number": ({"instances": 3}, 400),
    "null": ("null", 400),
    "a list": ("[]", 400),
    "half a document": ('{"instances": [', 400),
    "an unknown member": ({"instances": [good()], "context": {}}, 400),
    "an unknown signature": ({"instances": [good()], "signature_name": "classify"}, 400),
    "a short row": ({"instances": [[1.0, 2]]}, 400),
    "text for a number": ({"instances": [good(distance=SECRET)]}, 400),
    "a truth for a number": ({"instances": [good(distance=True)]}, 400),
    "a list for a number": ({"instances": [good(distance=[1.0, 2.0])]}, 400),
    "an unknown feature": ({"instances": [good(wnd=1)]}, 400),
    "bytes that are no text": ({"instances": [good(carrier={"b64": "/w=="})]}, 400),
    "bytes that are no base64": ({"instances": [good(carrier={"b64": "*"})]}, 400),
    "bytes and more": ({"instances": [good(carrier={"b64": "QUE=", "more": 1})]}, 400),
    "bytes for a number": ({"inputs": {**{name: [value] for name, value in good().items()}, "hour": [{"b64": "QUE="}]}}, 400),
    "columns of two lengths": ({"inputs": {**{name: [value] for name, value in good().items()}, "hour": [1, 2]}}, 400),
    "a column that is none": ({"inputs": {**{name: [value] for name, value in good().items()}, "hour": 1}}, 400),
    "no columns": ({"inputs": {}}, 400),
    "NaN where no null may be": (_text(distance=float("nan")), 400),
    "Infinity": (_text(distance=float("inf")), 400),
    "1,001 rows": ({"instances": [good()] * 1001}, 413),
}


@pytest.mark.parametrize(("document", "status"), V1_BAD.values(), ids=V1_BAD)
def test_v1_refuses_in_the_dialects_form(node: LocalNode, document: Any, status: int) -> None:
    """`error` as text, with code and request id beside it, and no value."""
    answer = post(node, "/v1/models/late:predict", document)
    body = answer.json()
    assert answer.status_code == status, body
    assert isinstance(body["error"], str)
    assert body["code"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert SECRET not in answer.text


def test_v1_reads_nan_as_null_and_unknown_places_are_404(node: LocalNode) -> None:
    """Where null is legal; versions and labels that are not here have hints."""
    assert post(node, "/v1/models/late:predict", _text(wind=float("nan"))).status_code == 200
    for place in ("nothing", "late/versions/9", "late/versions/x", "late/labels/challenger", "late/labels/previous"):
        answer = post(node, f"/v1/models/{place}:predict", {"instances": [good()]})
        assert (answer.status_code, isinstance(answer.json()["error"], str)) == (404, True), place


MLFLOW = {
    "split": {"dataframe_split": {"columns": list(good()), "data": [list(good().values())]}},
    "split with an index": {
        "dataframe_split": {"columns": list(good())[::-1], "index": ["a"], "data": [list(good().values())[::-1]]}
    },
    "records": {"dataframe_records": [good()]},
    "instances": {"instances": [good()]},
    "instances as lists": {"instances": [list(good().values())]},
    "inputs as records": {"inputs": [good()]},
    "inputs as columns": {"inputs": {name: [value] for name, value in good().items()}},
}


@pytest.mark.parametrize("document", MLFLOW.values(), ids=MLFLOW)
def test_mlflow_takes_each_of_its_forms(alone: LocalNode, document: dict[str, Any]) -> None:
    """Labels by default, scores where predict_proba is asked for; with a name in the path and without."""
    expected = binary().manifest.golden[0].expected
    for path in ("/invocations", "/deployments/late/invocations"):
        assert post(alone, path, document).json() == {"predictions": [expected.prediction]}
    with_params = {**document, "params": {"predict_method": "predict_proba"}}
    assert post(alone, "/invocations", with_params).json() == {"predictions": [expected.scores]}


def test_mlflow_without_a_name_needs_a_single_deployment(node: LocalNode) -> None:
    """Else the paths that work are named, in MLflow's form of an error."""
    answer = post(node, "/invocations", {"dataframe_records": [good()]})
    body = answer.json()
    assert (answer.status_code, body["error_code"], body["code"]) == (404, "RESOURCE_DOES_NOT_EXIST", "deployment-unnamed")
    assert body["deployments"] == ["late", "numbers"]
    assert post(node, "/deployments/late/invocations", {"dataframe_records": [good()]}).status_code == 200


def test_mlflow_says_that_it_is_there(alone: LocalNode) -> None:
    """`/ping` and `/health` answer a line end, `/version` a version."""
    for path in ("/ping", "/health"):
        assert (alone.get(path).status_code, alone.get(path).text) == (200, "\n")
    assert alone.get("/version").text


MLFLOW_BAD = {
    "a list": ([good()], 400),
    "two forms": ({"instances": [good()], "inputs": [good()]}, 400),
    "no form": ({"params": {}}, 400),
    "an unknown member": ({"instances": [good()], "more": 1}, 400),
    "unknown params": ({"instances": [good()], "params": {"temperature": 1}}, 400),
    "an unknown method": ({"instances": [good()], "params": {"predict_method": SECRET}}, 400),
    "params that are none": ({"instances": [good()], "params": [1]}, 400),
    "a column twice": ({"dataframe_split": {"columns": ["hour"] * 5, "data": [list(good().values())]}}, 400),
    "a short row": ({"dataframe_split": {"columns": list(good()), "data": [[1]]}}, 400),
    "no columns": ({"dataframe_split": {"data": [[1]]}}, 400),
    "split that is a list": ({"dataframe_split": [1]}, 400),
    "text for a number": ({"dataframe_records": [good(distance=SECRET)]}, 400),
    "no rows": ({"dataframe_records": []}, 400),
    "half": ('{"dataframe_records', 400),
}


@pytest.mark.parametrize(("document", "status"), MLFLOW_BAD.values(), ids=MLFLOW_BAD)
def test_mlflow_refuses_in_the_dialects_form(alone: LocalNode, document: Any, status: int) -> None:
    """`error_code` and `message`, without a trace and without values."""
    answer = post(alone, "/invocations", document)
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (status, "BAD_REQUEST"), body
    assert body["message"]
    assert body["code"]
    assert SECRET not in answer.text


def test_mlflow_reads_utf8_only(alone: LocalNode) -> None:
    """Another charset or content type is 415."""
    for media in ("application/json; charset=latin-1", "text/html", "application/vnd.apache.parquet"):
        answer = post(alone, "/invocations", {"dataframe_records": [good()]}, **{"content-type": media})
        assert answer.status_code == 415
    assert post(alone, "/invocations", {"instances": [good()]}, **{"content-type": "application/json; charset=UTF-8"}).is_success


def test_dataiku_answers_an_endpoint_of_a_service(node: LocalNode) -> None:
    """Prediction and probabilities by class, the generation, and the headers of its answers."""
    expected = binary().manifest.golden[0].expected
    answer = post(node, "/public/api/v1/flights/late/predict", {"features": good()})
    body = answer.json()
    probas = dict(zip(("false", "true"), expected.scores, strict=True))
    assert body["result"] == {"ignored": False, "prediction": expected.prediction, "probas": probas}
    assert body["apiContext"] == {"serviceId": "flights", "endpointId": "late", "serviceGeneration": "v3"}
    assert answer.headers["dss-api-version"]
    assert answer.headers["dss-version"]
    many = post(node, "/public/api/v1/flights/late/predict-multi", {"items": [{"features": good()}] * 2}).json()
    assert many["results"] == [body["result"]] * 2


def test_dataiku_dispatches_to_a_generation(node: LocalNode) -> None:
    """By name or number; a key of the dispatch changes nothing, since there is no split."""
    path = "/public/api/v1/numbers/numbers/predict"
    for dispatch, expected in (({"forcedGeneration": "v2"}, 2.0), ({"forcedGeneration": 2}, 2.0), ({"dispatchKey": "me"}, 1.0)):
        body = post(node, path, {"features": {"number": 1.0}, "dispatch": dispatch}).json()
        assert body["result"] == {"ignored": False, "prediction": expected}


def test_dataiku_keeps_the_callers_id(node: LocalNode) -> None:
    """`context.id`, unless a header names the request."""
    for headers, kept in (({}, "order-17"), ({"x-request-id": "mine"}, "mine")):
        document = {"features": good(), "context": {"id": "order-17", "shop": "x"}}
        assert post(node, "/public/api/v1/flights/late/predict", document, **headers).is_success
        spool = sorted((Path(node.node.settings.folder) / "spool").iterdir())
        record = [frame for file in spool for frame in decode(file.read_bytes())][-1].record
        assert isinstance(record, MainRecord)
        assert (record.caller_id, record.door) == (kept, "dataiku")


def test_dataiku_keys_are_basic_user_names(tmp_path: Path) -> None:
    """With an empty password; a Bearer token is a key as everywhere."""
    with local_node(tmp_path) as node:
        late = node.holds(binary(), 1)
        node.serves(deployment(late, name="late", access="instance"), keys=(key(SECRET),))
        basic = base64.b64encode(f"{SECRET}:".encode()).decode()
        wrong = base64.b64encode(b"other:").decode()
        for header, status in ((f"Basic {basic}", 200), (f"Bearer {SECRET}", 200), (f"Basic {wrong}", 401), ("Basic ?", 401)):
            answer = post(node, "/public/api/v1/late/late/predict", {"features": good()}, authorization=header)
            assert answer.status_code == status, header
        assert post(node, "/public/api/v1/late/late/predict", {"features": good()}).json()["errorType"] == "unauthenticated"


DATAIKU_BAD = {
    "no features": ("predict", {}, 400),
    "an unknown member": ("predict", {"features": good(), "more": 1}, 400),
    "text for a number": ("predict", {"features": good(distance=SECRET)}, 400),
    "context that is none": ("predict", {"features": good(), "context": 3}, 400),
    "dispatch that is none": ("predict", {"features": good(), "dispatch": 3}, 400),
    "an unknown generation": ("predict", {"features": good(), "dispatch": {"forcedGeneration": "v9"}}, 404),
    "a generation that is none": ("predict", {"features": good(), "dispatch": {"forcedGeneration": SECRET}}, 404),
    "explanations that are none": ("predict", {"features": good(), "explanations": [1]}, 400),
    "another method": ("predict", {"features": good(), "explanations": {"enabled": True, "method": "ICE"}}, 501),
    "no number of explanations": ("predict", {"features": good(), "explanations": {"enabled": True, "nExplanations": -1}}, 400),
    "no items": ("predict-multi", {"items": []}, 400),
    "items that are none": ("predict-multi", {"items": 3}, 400),
    "an item that is none": ("predict-multi", {"items": [3]}, 400),
}


@pytest.mark.parametrize(("verb", "document", "status"), DATAIKU_BAD.values(), ids=DATAIKU_BAD)
def test_dataiku_refuses_in_the_dialects_form(node: LocalNode, verb: str, document: Any, status: int) -> None:
    """`errorType` and `message`, which its client shows."""
    answer = post(node, f"/public/api/v1/flights/late/{verb}", document)
    body = answer.json()
    assert answer.status_code == status, body
    assert body["errorType"] == body["code"]
    assert body["message"]
    assert SECRET not in answer.text
    assert answer.headers["dss-api-version"]


def test_dataiku_endpoints_belong_to_one_service(node: LocalNode) -> None:
    """A deployment of a service is not reached by another one's path."""
    for service, name in (("late", "late"), ("flights", "numbers"), ("x", "numbers")):
        assert post(node, f"/public/api/v1/{service}/{name}/predict", {"features": good()}).status_code == 404


def test_the_openapi_examples_answer(node: LocalNode) -> None:
    """Every example of a request body, in each dialect and media type, is answered well."""
    described = node.get("/openapi.json").json()["paths"]
    asked = 0
    for path, methods in described.items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        for media, body in content.items():
            if "example" in body:
                text = body["example"] if isinstance(body["example"], str) else json.dumps(body["example"])
                answer = node.request("POST", path, content=text.encode(), headers={"content-type": media})
                assert answer.status_code == 200, (path, media, answer.text)
                asked += 1
    assert asked >= 18


def test_the_openapi_document_has_every_dialect(node: LocalNode) -> None:
    """Each door that predicts or explains, by the name of each deployment."""
    described = node.get("/openapi.json").json()["paths"]
    named = {"name": "late", "version": "3", "label": "main", "service": "flights"}
    doors = [door for door in DOORS if door.method == "POST" and door.access == "predict" and "/form" not in door.path]
    assert [door.path for door in doors if door.path.format(**named) not in described] == []
