"""The doors of a node: right answers in each protocol, and never a 5xx whatever arrives."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

from quarterdeck.records import MainRecord, decode
from tests.nodes import JSON, LocalNode, binary, deployment, encoding, local_node

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with a classifier and a regression, both public."""
    with local_node(tmp_path_factory.mktemp("node")) as node:
        late, one, two = node.holds(binary(), 3), node.holds(encoding(1), 1), node.holds(encoding(2), 2)
        node.serves(deployment(late, name="late", revision=7), deployment(one, two, name="numbers", revision=4))
        node.waits_for("numbers", 2)
        yield node


def good() -> dict[str, Any]:
    """A record of the classifier, and what must come out."""
    return cast("dict[str, Any]", dict(binary().manifest.golden[0].row))


def tensors(**changes: Any) -> dict[str, Any]:
    """An inference request for one golden row."""
    kinds = {"float": "FP64", "int": "INT64", "boolean": "BOOL", "string": "BYTES"}
    features = binary().manifest.data_schema.features
    inputs = [{"name": one.name, "shape": [1], "datatype": kinds[one.type], "data": [good()[one.name]]} for one in features]
    return {"id": "abc", "inputs": inputs, **changes}


def infer(node: LocalNode, document: Any, path: str = "/v2/models/late/infer") -> Any:
    """POST an inference request."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return node.request("POST", path, content=body, headers=JSON)


def test_plain_records_answer_with_what_gave_them(node: LocalNode) -> None:
    """Every golden row comes out as the manifest says, and body and headers name model, version, digest and revision."""
    golden = binary().manifest.golden
    answer = node.predict([one.row for one in golden], "late")
    body = answer.json()
    assert answer.status_code == 200
    assert [one["prediction"] for one in body["predictions"]] == [one.expected.prediction for one in golden]
    assert [list(one["scores"].values()) for one in body["predictions"]] == [one.expected.scores for one in golden]
    named = {name: body[name] for name in ("model", "version", "digest", "revision")}
    assert named == {"model": "late", "version": 3, "digest": binary().manifest.digest, "revision": 7}
    assert {name: answer.headers[f"quarterdeck-{name}"] for name in named} == {name: str(value) for name, value in named.items()}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", body["request_id"])


def test_regressions_answer_a_number(node: LocalNode) -> None:
    """No scores, and one object for one object."""
    assert node.predict({"number": 4.0}).json()["predictions"] == [{"prediction": 1.0}]


def test_tensors_answer_as_plain_records_do(node: LocalNode) -> None:
    """One input per feature, as [n] or as [n, 1]; the caller's id comes back."""
    expected = binary().manifest.golden[0].expected
    for shape in ([1], [1, 1]):
        request = tensors()
        request["inputs"] = [
            {**one, "shape": shape, "data": one["data"] if len(shape) == 1 else [one["data"]]} for one in request["inputs"]
        ]
        body = infer(node, request).json()
        assert (body["model_name"], body["model_version"], body["id"]) == ("late", "3", "abc")
        outputs = {output["name"]: output for output in body["outputs"]}
        assert outputs["prediction"] == {"name": "prediction", "shape": [1], "datatype": "BOOL", "data": [expected.prediction]}
        assert outputs["scores"] == {"name": "scores", "shape": [1, 2], "datatype": "FP64", "data": expected.scores}


@pytest.mark.parametrize("data", [[1.0, 2.0, 3.0], [[1.0], [2.0], [3.0]]])
def test_one_tensor_serves_a_model_of_numbers(node: LocalNode, data: list[Any]) -> None:
    """Flat and nested data, and only the outputs that were asked for."""
    request = {"inputs": [{"name": "x", "shape": [3, 1], "datatype": "FP64", "data": data}], "outputs": [{"name": "prediction"}]}
    body = infer(node, request, "/v2/models/numbers/infer").json()
    assert body["outputs"] == [{"name": "prediction", "shape": [3], "datatype": "FP64", "data": [1.0, 1.0, 1.0]}]


def test_versioned_paths_reach_any_resident_version(node: LocalNode) -> None:
    """A version that is not active answers there, and is not recorded."""
    before = node.report().spool_rows
    tensor = {"name": "number", "shape": [1], "datatype": "FP64", "data": [1.0]}
    answer = infer(node, {"inputs": [tensor]}, "/v2/models/numbers/versions/2/infer")
    assert answer.json()["outputs"][0]["data"] == [2.0]
    assert answer.headers["quarterdeck-version"] == "2"
    assert node.report().spool_rows == before


def test_metadata_describes_what_infer_takes(node: LocalNode) -> None:
    """Names, datatypes and shapes of inputs and outputs, and the versions that are here."""
    body = node.get("/v2/models/numbers").json()
    assert body["versions"] == ["1", "2"]
    assert body["inputs"] == [{"name": "number", "datatype": "FP64", "shape": [-1]}]
    assert body["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    assert node.get("/v2/models").json() == {"models": ["late", "numbers"]}
    assert node.get("/v2/models/numbers/versions/2/ready").json() == {"name": "numbers", "ready": True}
    assert node.get("/v2/health/ready").json() == {"ready": True, "live": True}
    assert node.get("/v2/health/live").json() == {"live": True}


def test_a_served_request_is_recorded_before_it_is_answered(node: LocalNode) -> None:
    """Row, answer, version and the caller's own id are in the spool's file when the answer is here."""
    answer = node.predict([good()], "late", **{"x-request-id": "order-17"})
    frames = [frame for file in sorted((node.node.settings.folder / "spool").iterdir()) for frame in decode(file.read_bytes())]
    record = frames[-1].record
    assert isinstance(record, MainRecord)
    assert (record.request_id, record.caller_id) == (answer.json()["request_id"], "order-17")
    assert (record.rows, record.version, record.revision, record.door) == ([good()], 3, 7, "plain")


def _broken() -> list[tuple[str, bytes, int]]:
    """(what, body, status) of documents that the plain door must refuse."""
    row, text = good(), json.dumps(good())
    changes: dict[str, Any] = {
        "number as text": {"distance": "1.5"},
        "bool as number": {"distance": True},
        "null": {"distance": None},
        "list": {"distance": [1]},
        "object": {"distance": {}},
        "float as int": {"hour": 1.5},
        "huge int": {"hour": 10**400},
        "65 bits": {"hour": 2**64},
        "number as bool": {"holiday": 1},
        "text as bool": {"holiday": "true"},
        "number as text column": {"carrier": 3},
        "unknown feature": {"wnd": 1},
        "empty name": {"": 1},
        "long text": {"carrier": "x" * 70_000},
        "markup": {"<script>": 1},
    }
    refused = [(what, json.dumps({**row, **change}).encode(), 422) for what, change in changes.items()]
    missing = [
        (f"missing {name}", json.dumps({key: value for key, value in row.items() if key != name}).encode(), 422) for name in row
    ]
    raw = {
        "empty": (b"", 400),
        "half": (text[:-5].encode(), 400),
        "two documents": ((text + text).encode(), 400),
        "word": (b"hello", 400),
        "byte order mark": (b"\xef\xbb\xbf" + text.encode(), 400),
        "utf-16": (text.encode("utf-16"), 400),
        "latin-1": (b'{"\xe9": 1}', 400),
        "lone surrogate": (b'{"\\ud800": 1}', 400),
        "nul": (b"\0" * 50, 400),
        "pickle": (pickle.dumps(row), 400),
        "form": (b"distance=1&hour=2", 400),
        "deep list": (b"[" * 200_000, 400),
        "deep object": (b'{"a":' * 200_000, 400),
        "32 levels": (b"[" * 32 + b"]" * 32, 422),
        "33 levels": (b"[" * 33 + b"]" * 33, 400),
        "1e999": (text.replace("}", ', "x": 1e999}').encode(), 422),
        "infinity": (b'{"distance": Infinity}', 422),
        "minus infinity": (b'{"distance": -Infinity}', 422),
        "400 digits": (b'{"distance": ' + b"9" * 400 + b"}", 422),
        "5,000 digits": (b'{"distance": ' + b"9" * 5000 + b"}", 400),
        "duplicate": (b'{"hour": 1, ' + text[1:].encode(), 422),
        "null": (b"null", 422),
        "number": (b"12", 422),
        "text": (b'"a"', 422),
        "no rows": (b"[]", 422),
        "rows of numbers": (b"[1, 2]", 422),
        "rows of lists": (b"[[1], [2]]", 422),
        "object": (b"{}", 422),
        "1,001 rows": (json.dumps([row] * 1001).encode(), 413),
        "9 MiB": (b" " * (9 * 2**20), 413),
        "two million values": (b"[" + b"0," * 2_000_000 + b"0]", 413),
        "mixed rows": (f"[{text}, 3, null]".encode(), 422),
        "nan where no null is": (text.replace(json.dumps(row["distance"]), "NaN", 1).encode(), 422),
        "comment": (b"/* */" + text.encode(), 400),
    }
    return [*refused, *missing, *((what, body, status) for what, (body, status) in raw.items())]


@pytest.mark.parametrize(("body", "status"), [pytest.param(body, status, id=what) for what, body, status in _broken()])
def test_bad_records_are_refused_as_problems(node: LocalNode, body: bytes, status: int) -> None:
    """The right 4xx, as problem+json with a code and a request id, on every door that reads JSON."""
    answer = node.predict(body, "late")
    problem = answer.json()
    assert answer.status_code == status, problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["code"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    for path in ("/v2/models/late/infer", "/mirror/late"):
        assert 400 <= node.request("POST", path, content=body, headers=JSON).status_code < 500
    # To the form most of them are fields that it does not know, so it shows itself.
    assert node.request("POST", "/deployments/late/form", content=body, headers=FORM).status_code < 500


def _broken_tensors() -> list[tuple[str, Any]]:
    first = tensors()["inputs"][0]
    rest = tensors()["inputs"][1:]
    changes: dict[str, dict[str, Any]] = {
        "wrong datatype": {"datatype": "BYTES"},
        "unknown datatype": {"datatype": "COMPLEX"},
        "too few": {"data": []},
        "too many": {"data": [1.0, 2.0]},
        "shape too long": {"shape": [1, 1, 1]},
        "shape of two": {"shape": [1, 2], "data": [1.0, 2.0]},
        "negative shape": {"shape": [-1]},
        "no shape": {"shape": []},
        "text shape": {"shape": ["1"]},
        "huge shape": {"shape": [10**12]},
        "unknown input": {"name": "nothing"},
        "another length": {"shape": [2], "data": [1.0, 2.0]},
        "data no list": {"data": 1.0},
        "nested too deep": {"data": [[[1.0]]]},
        "null data": {"data": [None]},
        "name no text": {"name": 1},
        "extra": {"more": 1},
        "ragged": {"shape": [2, 1], "data": [[1.0], 2.0, 3.0]},
    }
    found: list[tuple[str, Any]] = [(what, {"inputs": [{**first, **change}, *rest]}) for what, change in changes.items()]
    return [
        *found,
        ("an input twice", {"inputs": [first, first, *rest]}),
        ("an input missing", {"inputs": rest}),
        ("no inputs", {"inputs": []}),
        ("empty", {}),
        ("a list", []),
        ("id no text", tensors(id=3)),
        ("null", None),
        ("unknown output", tensors(outputs=[{"name": "what"}])),
        ("matrix of texts", {"inputs": [{**first, "shape": [1, 5], "data": [1.0] * 5}]}),
        ("unknown member", tensors(model="x")),
        ("parameters", tensors(parameters={"a": [1]})),
    ]


@pytest.mark.parametrize("document", [pytest.param(document, id=what) for what, document in _broken_tensors()])
def test_bad_tensors_are_refused_in_the_protocols_form(node: LocalNode, document: Any) -> None:
    """400 with `error` as text, and the members of a problem beside it."""
    answer = infer(node, document)
    assert answer.status_code == 400, answer.text
    assert isinstance(answer.json()["error"], str)
    assert answer.json()["code"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": media}, 415)
        for media in (
            "text/plain",
            "application/x-pickle",
            "application/octet-stream",
            "text/tab-separated-values",
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/jsonp",
            "image/png",
        )
    ]
    + [
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": "Application/JSON"}, 200),
        ({}, 200),
        ({**JSON, "content-encoding": "gzip"}, 415),
        ({**JSON, "content-encoding": "identity"}, 200),
        ({**JSON, "x-request-id": "x" * 128}, 200),
        ({**JSON, "x-request-id": "x" * 129}, 422),
        ({**JSON, "x-request-id": "a\tb"}, 422),
        ({**JSON, "x-long": "x" * 17_000}, 413),
        ({**JSON, **{f"x-{number}": "1" for number in range(70)}}, 413),
    ],
)
def test_headers_are_checked(node: LocalNode, headers: dict[str, str], status: int) -> None:
    """Content type and encoding, the caller's id, and how much there is of them."""
    answer = node.request("POST", "/deployments/late/predict", content=json.dumps(good()).encode(), headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/predict",
        "/deployments/nothing/predict",
        "/deployments/../late/predict",
        "/deployments/%2e%2e/predict",
        "/deployments/late%00/predict",
        "/v2/models/nothing/infer",
        "/v2/models/late/versions/9/infer",
        "/v2/models/late/versions/x/infer",
        "/v2/models/late/versions/-3/infer",
        "/v2/models/late/versions/99999999999/infer",
        "/v2/models/late/versions/３/infer",
        "/openapi.yaml",
        "/deployments//predict",
        "/deployments/" + "x" * 3000 + "/predict",
    ],
)
def test_unknown_places_are_404(node: LocalNode, path: str) -> None:
    """Whatever is not there is not found, with a hint about what is."""
    answer = node.request("POST", path, content=json.dumps(good()).encode(), headers=JSON)
    assert answer.status_code == 404
    assert answer.json()["hint"]


def test_an_unknown_route_names_what_exists(node: LocalNode) -> None:
    """And a known one for another method names the method."""
    assert "/deployments/{name}/predict" in node.get("/nothing").json()["hint"]
    wrong = node.get("/deployments/late/predict")
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["hint"]) == (405, "method-not-allowed", "Use POST.")


def test_the_challengers_door_is_not_open_on_main(node: LocalNode) -> None:
    """Without the mirror key nobody gets as far as that."""
    assert node.request("POST", "/mirror/late", json={"rows": [good()]}).status_code == 401


def test_metrics_count_each_request_once(node: LocalNode) -> None:
    """Outcomes by version and protocol, rows, and 0 for what has not happened."""

    def series(name: str, **labels: str) -> float:
        wanted = {"deployment": "numbers", "version": "1", **labels}
        for line in node.get("/metrics").text.splitlines():
            if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in wanted.items()):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no series {name} {wanted}")

    before = series("quarterdeck_requests_total", protocol="plain", outcome="ok"), series("quarterdeck_rows_total")
    refused = series("quarterdeck_requests_total", protocol="plain", outcome="rejected")
    node.predict([{"number": 1.0}, {"number": 2.0}])
    node.predict(b"nothing")
    assert series("quarterdeck_requests_total", protocol="plain", outcome="ok") == before[0] + 1
    assert series("quarterdeck_rows_total") == before[1] + 2
    assert series("quarterdeck_requests_total", protocol="plain", outcome="rejected") == refused + 1
    assert series("quarterdeck_requests_total", protocol="oip", outcome="shed") == 0
    text = node.get("/metrics").text
    assert f'digest="{encoding(1).manifest.digest}"' in text
    assert 'quarterdeck_rejections_total{reason="format"}' in text
    assert "_created" not in text
