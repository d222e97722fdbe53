"""The doors of a node behind the real server: one answer whatever the protocol, and refusals that name row and column."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from quarterdeck.schema import Row, Task
from tests.local.shared import Shared, rows, tensors

SECRET = "s3cr3t-of-a-caller"
NAMES = ("model", "version", "digest", "revision")
TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
DOORS = [f"doors-{task}" for task in TASKS]


@pytest.fixture(scope="module")
def doors(shared: Shared) -> Shared:
    """A public deployment for each task, and one whose main has another version beside it."""
    for task in TASKS:
        shared.deploy(f"doors-{task}", shared.task(task))
    shared.deploy("doors-versions", shared.version(1))
    shared.deploy("doors-versions", shared.version(2))
    return shared


def plain(shared: Shared, name: str, given: Any) -> list[dict[str, Any]]:
    """The answers of the plain door; they are there."""
    answer = shared.ask(name, given)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


def outputs(body: dict[str, Any]) -> dict[str, list[Any]]:
    """Data by the output's name."""
    return {one["name"]: one["data"] for one in body["outputs"]}


@pytest.mark.parametrize("name", DOORS)
def test_many_rows_are_answered_as_each_by_itself(doors: Shared, name: str) -> None:
    """One record or an array of them: the same predictions and scores, in the order of the rows."""
    given = rows(12)
    together = plain(doors, name, given)
    assert together == [plain(doors, name, row)[0] for row in given]
    assert plain(doors, name, given[::-1]) == together[::-1]


@pytest.mark.parametrize("name", DOORS)
def test_tensors_are_answered_as_records_are(doors: Shared, name: str) -> None:
    """Per-column inputs of the Open Inference Protocol, flat and as columns, give the very numbers of the plain door."""
    manifest = doors.manifest(name.removeprefix("doors-"))
    given = rows(12)
    expected = plain(doors, name, given)
    flat = tensors(manifest, given)
    nested = {
        "inputs": [{**one, "shape": [12, 1], "data": [[value] for value in one["data"]]} for one in reversed(flat["inputs"])]
    }
    for document in (flat, nested):
        found = outputs(doors.infer(name, document).json())
        assert found["prediction"] == [one["prediction"] for one in expected]
        if manifest.data_schema.classes:
            assert found["scores"] == [score for one in expected for score in one["scores"].values()]


@pytest.mark.parametrize("name", DOORS)
def test_the_form_shows_what_programs_get(doors: Shared, name: str) -> None:
    """The heading is the prediction, the table the scores with six digits; an empty field is null."""
    for row, (expected,) in ((row, plain(doors, name, row)) for row in rows(6)):
        page = doors.form(name, row).text
        (said,) = re.findall(r'role="status"><h2>([^<]*)</h2>', page)
        shown = expected["prediction"] if isinstance(expected["prediction"], str) else json.dumps(expected["prediction"])
        assert said == shown
        scores = [float(score) for score in re.findall(r"<td>([0-9.e-]+)</td>", page.partition("</section>")[0])]
        assert scores == pytest.approx(list(expected.get("scores", {}).values()), rel=1e-5)


@pytest.mark.parametrize("name", DOORS)
def test_golden_rows_of_the_description_come_out_as_they_say(doors: Shared, name: str) -> None:
    """The examples of GET /deployments/{name} are true, and the schema there names the features in order."""
    described = doors.http.get(f"/deployments/{name}").json()
    assert [one["name"] for one in described["schema"]["features"]] == list(rows(1)[0])
    assert len(described["examples"]) == 3
    for example in described["examples"]:
        assert plain(doors, name, example["record"]) == [example["answer"]]


def test_headers_and_body_agree_on_what_answered(doors: Shared) -> None:
    """Model, version, digest and revision are the same in plain body, protocol body, headers and the deployer's view."""
    manifest = doors.manifest("binary")
    given = rows(1)
    ref, revision = doors.refs["binary"], doors.client.deployment("doors-binary")["wish"]["number"]
    truth = {"model": ref.model, "version": ref.version, "digest": ref.digest, "revision": revision}
    asked = doors.ask("doors-binary", given)
    inferred = doors.infer("doors-binary", tensors(manifest, given))
    submitted = doors.form("doors-binary", given[0])
    for answer in (asked, inferred, submitted):
        assert {name: answer.headers[f"quarterdeck-{name}"] for name in NAMES} == {
            key: str(value) for key, value in truth.items()
        }
    assert {name: asked.json()[name] for name in NAMES} == truth
    assert asked.json()["request_id"] == asked.headers["x-request-id"]
    assert inferred.json()["parameters"] == {"digest": ref.digest, "revision": revision}
    assert (inferred.json()["model_name"], inferred.json()["model_version"]) == ("doors-binary", str(ref.version))
    assert submitted.headers["x-request-id"] in submitted.text
    assert manifest.digest == ref.digest


def test_ids_and_parameters_of_the_protocol(doors: Shared) -> None:
    """A given id comes back, a missing one is the request's; unknown parameters are let be; outputs come as asked for."""
    document = tensors(doors.manifest("multiclass"), rows(2), parameters={"trace": True, "note": "x"})
    answer = doors.infer("doors-multiclass", document)
    assert answer.json()["id"] == answer.headers["x-request-id"]
    asked = {**document, "id": "order-17", "outputs": [{"name": "scores"}, {"name": "prediction"}]}
    answer = doors.infer("doors-multiclass", asked)
    assert answer.json()["id"] == "order-17"
    assert [(one["name"], one["shape"], one["datatype"]) for one in answer.json()["outputs"]] == [
        ("scores", [2, 3], "FP64"),
        ("prediction", [2], "BYTES"),
    ]


@pytest.mark.parametrize(("version", "prediction"), [(0, 2.0), (1, 1.0), (2, 2.0)])
def test_versioned_paths_reach_what_is_in_memory(doors: Shared, version: int, prediction: float) -> None:
    """Without a version the active one answers; the one before is still there under its number."""
    answer = doors.infer("doors-versions", {"inputs": [numbers([1.0, 2.0])]}, version=version)
    assert outputs(answer.json())["prediction"] == [prediction] * 2
    assert answer.headers["quarterdeck-version"] == f"{prediction:.0f}"


def test_a_version_that_is_not_in_memory_is_not_found(doors: Shared) -> None:
    """404, in the protocol's own form."""
    answer = doors.infer("doors-versions", {"inputs": [numbers([1.0])]}, version=3)
    assert (answer.status_code, answer.json()["error"]) == (404, answer.json()["detail"])


@pytest.mark.parametrize(
    "tensor",
    [
        {"name": "number", "shape": [3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]},
        {"name": "number", "shape": [3, 1], "datatype": "FP64", "data": [[1.0], [2.0], [3.0]]},
        {"name": "anything", "shape": [3, 1], "datatype": "INT32", "data": [1, 2, 3]},
    ],
)
def test_a_model_of_numbers_takes_one_tensor(doors: Shared, tensor: dict[str, Any]) -> None:
    """By name, as a column, or as a matrix whose name does not matter."""
    assert outputs(doors.infer("doors-versions", {"inputs": [tensor]}).json()) == {"prediction": [2.0, 2.0, 2.0]}


def numbers(data: list[float]) -> dict[str, Any]:
    """The one input of `doors-versions`."""
    return {"name": "number", "shape": [len(data)], "datatype": "FP64", "data": data}


def references(document: Any) -> set[str]:
    """Every `$ref` below."""
    if isinstance(document, dict):
        here = {document["$ref"]} if isinstance(document.get("$ref"), str) else set()
        return here.union(*map(references, document.values()))
    return set().union(*map(references, document)) if isinstance(document, list) else set()


def resolved(document: dict[str, Any], reference: str) -> Any:
    """What a local `$ref` points to; KeyError where there is nothing."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_the_openapi_document_is_whole(doors: Shared) -> None:
    """Every reference leads somewhere, ids are unique, bodies have a schema, and every answer a description."""
    document = doors.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"]
    assert document["info"]["version"]
    assert document["servers"] == [{"url": doors.system.main_url}]
    for reference in references(document):
        assert resolved(document, reference)
    operations = [(path, operation) for path, methods in document["paths"].items() for operation in methods.values()]
    ids = [operation["operationId"] for _, operation in operations if "operationId" in operation]
    assert len(ids) == len(set(ids))
    for path, operation in operations:
        assert "{" not in path
        assert all(answer["description"] for answer in operation["responses"].values())
        for content in operation.get("requestBody", {"content": {}})["content"].values():
            assert content["schema"]


def test_the_openapi_document_tells_the_truth(doors: Shared) -> None:
    """Each deployment has its two doors there; examples are answered, required features are, and answers have what is said."""
    document = doors.http.get("/openapi.json").json()
    for name in (*DOORS, "doors-versions"):
        assert f"/v2/models/{name}/infer" in document["paths"]
        operation = document["paths"][f"/deployments/{name}/predict"]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        answer = doors.ask(name, content["example"])
        said = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert sorted(answer.json()) == sorted(said["required"])
        record = resolved(document, content["schema"]["oneOf"][0]["$ref"])
        for feature in record["required"]:
            refused = doors.ask(name, {key: value for key, value in content["example"].items() if key != feature})
            assert (refused.status_code, refused.json()["column"]) == (422, feature)
        nullable = {key for key, value in record["properties"].items() if "null" in value["type"]}
        for feature in record["properties"]:
            accepted = doors.ask(name, {**content["example"], feature: None}).status_code == 200
            assert accepted is (feature in nullable)
    for path in ("/live", "/ready", "/metrics", "/deployments"):
        assert doors.http.get(path).is_success
        assert path in document["paths"]


def changed(**changes: Any) -> bytes:
    """Three rows of which the second one is spoilt."""
    given: list[Row] = rows(3)
    return json.dumps([given[0], {**given[1], **changes}, given[2]]).encode()


def without(name: str) -> bytes:
    """Three rows of which the second one lacks a feature."""
    given: list[Row] = rows(3)
    return json.dumps([given[0], {key: value for key, value in given[1].items() if key != name}, given[2]]).encode()


PLACED = {
    "text where a number is": (changed(distance=SECRET), "distance"),
    "a number as text": (changed(distance="77.125"), "distance"),
    "true where a number is": (changed(wind=True), "wind"),
    "null where none may be": (changed(distance=None), "distance"),
    "a list": (changed(distance=[77.125]), "distance"),
    "an object": (changed(carrier={SECRET: 1}), "carrier"),
    "a fraction where a whole number is": (changed(hour=77.125), "hour"),
    "65 bits": (changed(hour=2**64), "hour"),
    "null for a whole number": (changed(hour=None), "hour"),
    "a number where a boolean is": (changed(holiday=1), "holiday"),
    "text where a boolean is": (changed(holiday=SECRET), "holiday"),
    "null for a boolean": (changed(holiday=None), "holiday"),
    "a number where text is": (changed(carrier=77.125), "carrier"),
    "long text": (changed(carrier=SECRET * 4_000), "carrier"),
    "an unknown feature": (changed(wnd=SECRET), "wnd"),
    "an infinite number": (changed(distance=1.0).replace(b'"distance": 1.0', b'"distance": 1e999'), "distance"),
    "a NaN where no null may be": (changed(distance=1.0).replace(b'"distance": 1.0', b'"distance": NaN'), "distance"),
    **{f"no {name}": (without(name), name) for name in rows(1)[0]},
}


@pytest.mark.parametrize(("body", "column"), PLACED.values(), ids=PLACED)
def test_a_bad_value_is_named_by_row_and_column(doors: Shared, body: bytes, column: str) -> None:
    """422 as problem+json, with the place in the words and in members of its own, and without the value."""
    answer = doors.ask("doors-binary", body)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (422, 422, "invalid-input")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["row"], problem["column"]) == (1, column)
    assert problem["detail"].startswith(f"Row 1, column {column}: ")
    assert problem["problems"][0] == {"row": 1, "column": column, "problem": problem["problems"][0]["problem"]}
    assert SECRET not in answer.text
    assert "77.125" not in answer.text
    assert problem["hint"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["quarterdeck-digest"] == doors.refs["binary"].digest


ROW = json.dumps(rows(1)[0]).encode()
WHOLE = {
    "nothing": (b"", 400, "malformed"),
    "half a document": (ROW[:-3], 400, "malformed"),
    "two documents": (ROW + ROW, 400, "malformed"),
    "a word": (SECRET.encode(), 400, "malformed"),
    "utf-16": (ROW.decode().encode("utf-16"), 400, "malformed"),
    "a form": (b"distance=1&carrier=" + SECRET.encode(), 400, "malformed"),
    "deep nesting": (b"[" * 100_000, 400, "too-deep"),
    "no rows": (b"[]", 422, "no-rows"),
    "a number": (b"12", 422, "invalid-input"),
    "null": (b"null", 422, "invalid-input"),
    "rows of numbers": (b"[1, 2]", 422, "invalid-input"),
    "a name twice": (b'{"hour": 3, ' + ROW[1:], 422, "duplicate-name"),
    "1,001 rows": (json.dumps(rows(1) * 1_001).encode(), 413, "too-many-rows"),
    "more than 8 MiB": (b" " * (8 * 2**20 + 1), 413, "too-large"),
    "a million values": (b"[" + b"0," * 1_000_001 + b"0]", 413, "too-many-values"),
}


@pytest.mark.parametrize(("body", "status", "code"), WHOLE.values(), ids=WHOLE)
def test_a_bad_document_is_told_by_code(doors: Shared, body: bytes, status: int, code: str) -> None:
    """Not JSON, not records, or too much: each has its status and code, and none is echoed."""
    answer = doors.ask("doors-binary", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.text


def test_the_largest_request_is_answered(doors: Shared) -> None:
    """1,000 rows are inside the limit, and every one of them gets its answer."""
    given = rows(250) * 4
    found = plain(doors, "doors-binary", given)
    assert found == found[:250] * 4


UNSEEN = {
    "an unseen category": {"carrier": "ZZ"},
    "an empty text": {"carrier": ""},
    "no category": {"carrier": None},
    "no number": {"wind": None},
    "a whole number for a float": {"distance": 500},
    "a negative number": {"distance": -1.5},
    "an hour outside training": {"hour": 99},
}


@pytest.mark.parametrize("change", UNSEEN.values(), ids=UNSEEN)
def test_what_is_legal_is_answered_alike_by_every_door(doors: Shared, change: Row) -> None:
    """Unseen categories, nulls and values outside the training data are no errors."""
    row = {**rows(1)[0], **change}
    (expected,) = plain(doors, "doors-binary", row)
    inferred = doors.infer("doors-binary", tensors(doors.manifest("binary"), [row]))
    assert outputs(inferred.json())["scores"] == list(expected["scores"].values())


@pytest.mark.parametrize("place", ["/nowhere", "/predict", "/deployments/doors-none/predict", "/deployments/Doors-Binary/predict",
    "/deployments/doors-binary/predict/", "/deployments//predict", "/v2/models/doors-none/infer",
    "/v2/models/doors-binary/versions/x/infer", "/v2/models/doors-binary/infer/more", "/api/deployments"])  # fmt: skip
def test_unknown_places_are_not_found(doors: Shared, place: str) -> None:
    """404 with a hint; the case of a name and a slash at its end count."""
    answer = doors.http.post(place, content=ROW, headers={"content-type": "application/json"})
    # A door of a dialect refuses in the dialect's form; its clients read the message of that media type only.
    media = "application/json" if place.startswith("/v2/") and place.endswith("/infer") else "application/problem+json"
    assert (answer.status_code, answer.headers["content-type"]) == (404, media)
    assert answer.json()["hint"]


def test_a_node_names_itself_nowhere(doors: Shared) -> None:
    """No answer carries a server header or a path of the machine."""
    answers = [
        doors.ask("doors-binary", ROW),
        doors.ask("doors-binary", b"x"),
        doors.http.get("/nothing"),
        doors.http.get("/live"),
    ]
    for answer in answers:
        assert "server" not in answer.headers
        assert str(doors.system.folder) not in answer.text + str(answer.headers)


def test_a_request_id_of_the_callers_is_checked(doors: Shared) -> None:
    """128 printable characters are taken, more are refused by name; the answer's id is always the node's own."""
    taken = doors.ask("doors-binary", ROW, {"x-request-id": "x" * 128})
    refused = doors.ask("doors-binary", ROW, {"x-request-id": "x" * 129})
    assert taken.status_code == 200
    assert taken.headers["x-request-id"] != "x" * 128
    assert (refused.status_code, refused.json()["code"], refused.json()["name"]) == (422, "request-id-invalid", "x-request-id")
