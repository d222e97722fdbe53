"""What is particular to the Open Inference Protocol: bytes, outputs, parameters, versions and the index of what is here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import httpx
import numpy as np
import pytest

from tests.dialects import DATATYPES, binary_request
from tests.nodes import JSON, LocalNode, binary, deployment, encoding, key, local_node

SCHEMA = binary().manifest.data_schema
GOOD = cast("dict[str, Any]", dict(binary().manifest.golden[0].row))
EXPECTED = binary().manifest.golden[0].expected
LENGTH = "inference-header-content-length"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A node with a classifier, and a regression of two versions."""
    with local_node(tmp_path_factory.mktemp("node")) as node:
        late, one, two = node.holds(binary(), 3), node.holds(encoding(1), 1), node.holds(encoding(2), 2)
        node.serves(deployment(late, name="late"), deployment(one, two, name="numbers"))
        node.waits_for("numbers", 2)
        yield node


def tensors() -> list[dict[str, Any]]:
    """The tensors of a good request."""
    return [
        {"name": one.name, "shape": [1], "datatype": DATATYPES[one.type], "data": [GOOD[one.name]]} for one in SCHEMA.features
    ]


def infer(node: LocalNode, document: Any, path: str = "/v2/models/late/infer") -> httpx.Response:
    """One request as JSON."""
    return node.request("POST", path, content=json.dumps(document).encode(), headers=JSON)


def send(node: LocalNode, body: bytes, length: int | str, path: str = "/v2/models/late/infer") -> httpx.Response:
    """One request with bytes behind its JSON part."""
    headers = {"content-type": "application/octet-stream", LENGTH: str(length)}
    return node.request("POST", path, content=body, headers=headers)


def outputs(answer: httpx.Response) -> dict[str, Any]:
    """Data by name."""
    assert answer.status_code == 200, answer.text
    return {one["name"]: one["data"] for one in answer.json()["outputs"]}


def test_the_server_names_what_it_speaks(node: LocalNode) -> None:
    """Only extensions that are there."""
    assert node.get("/v2").json()["extensions"] == ["binary_tensor_data", "model_repository"]


def test_the_index_lists_versions_that_the_caller_may_ask(tmp_path: Any) -> None:
    """Each with its state; deployments of others are not shown."""
    with local_node(tmp_path) as node:
        one, two = node.holds(encoding(1), 1), node.holds(encoding(2), 2)
        node.serves(
            deployment(one, two, name="numbers"),
            deployment(None, name="waiting"),
            deployment(one, name="closed", access="instance"),
            keys=(key("abc"),),
        )
        node.waits_for("numbers", 2)
        index = node.request("POST", "/v2/repository/index").json()
        assert [(entry["name"], entry.get("version"), entry["state"]) for entry in index] == [
            ("numbers", "1", "READY"),
            ("numbers", "2", "READY"),
            ("waiting", None, "UNAVAILABLE"),
        ]
        mine = node.request("POST", "/v2/repository/index", json={"ready": True}, headers={"authorization": "Bearer abc"})
        assert "closed" in {entry["name"] for entry in mine.json()}


@pytest.mark.parametrize("named", [["scores"], ["prediction"], ["scores", "prediction"]])
def test_outputs_are_those_asked_for(node: LocalNode, named: list[str]) -> None:
    """In the order of the request."""
    found = outputs(infer(node, {"inputs": tensors(), "outputs": [{"name": name} for name in named]}))
    there = {"prediction": [EXPECTED.prediction], "scores": EXPECTED.scores}
    assert list(found.items()) == [(name, there[name]) for name in named]


@pytest.mark.parametrize("wanted", [{}, {"binary_data_output": True}, {"binary_data_output": False}])
def test_outputs_come_as_bytes_where_asked(node: LocalNode, wanted: dict[str, bool]) -> None:
    """An output's own parameter counts before the request's."""
    body, length = binary_request(SCHEMA, [GOOD], parameters=wanted, outputs=[{"name": "prediction"}, {"name": "scores"}])
    answer = send(node, body, length)
    assert (LENGTH in answer.headers) == bool(wanted.get("binary_data_output"))
    mixed = {"inputs": tensors(), "outputs": [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "prediction"}]}
    answer = infer(node, mixed)
    place = int(answer.headers[LENGTH])
    scores, prediction = json.loads(answer.content[:place])["outputs"]
    assert scores["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(answer.content[place:], "<f8").tolist() == EXPECTED.scores
    assert prediction["data"] == [EXPECTED.prediction]


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", "<f2"), ("FP32", "<f4"), ("FP64", "<f8")])
def test_narrow_floats_widen_exactly(node: LocalNode, datatype: str, dtype: str) -> None:
    """As bytes and as JSON, a number of fewer bits is the same number of 64."""
    number = float(np.array([1234.56], dtype)[0])
    wide = outputs(infer(node, {"inputs": [{**tensors()[0], "data": [number]}, *tensors()[1:]]}))
    narrow = {**tensors()[0], "datatype": datatype, "data": [number]}
    assert outputs(infer(node, {"inputs": [narrow, *tensors()[1:]]})) == wide
    data = np.array([number], dtype).tobytes()
    del narrow["data"]
    narrow["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [narrow, *tensors()[1:]]}).encode()
    assert outputs(send(node, head + data, len(head))) == wide


@pytest.mark.parametrize("datatype", ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"])
def test_whole_numbers_of_every_width_are_read(node: LocalNode, datatype: str) -> None:
    """As bytes, next to tensors as JSON."""
    expected = outputs(infer(node, {"inputs": tensors()}))
    first, hour, *rest = tensors()
    data = np.array(hour.pop("data"), datatype.lower()).tobytes()
    hour |= {"datatype": datatype, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [first, hour, *rest]}).encode()
    assert outputs(send(node, head + data, len(head))) == expected


def test_one_binary_tensor_serves_a_model_of_numbers(node: LocalNode) -> None:
    """Of shape [n, features]; versioned paths take it as well."""
    data = np.array([[1.0], [2.0], [3.0]], "<f4").tobytes()
    tensor = {"name": "x", "shape": [3, 1], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    found = outputs(send(node, head + data, len(head), "/v2/models/numbers/versions/2/infer"))
    assert found == {"prediction": [2.0, 2.0, 2.0]}


def _changed(name: str, **changes: Any) -> dict[str, Any]:
    return {"inputs": [{**one, **changes} if one["name"] == name else one for one in tensors()]}


PLAIN = {
    "null as NaN": _changed("wind", data=[None]),
    "a content type": {**_changed("carrier", parameters={"content_type": "str"}), "parameters": {"content_type": "pd"}},
    "colons in a text": _changed("carrier", data=['a:"b":c']),
    "empty parameters": {**_changed("wind", parameters={}), "parameters": {}, "outputs": []},
    "shape [1, 1]": _changed("wind", shape=[1, 1], data=[[1.5]]),
    "shape [1, 1] with flat data": _changed("wind", shape=[1, 1], data=[1.5]),
    "a whole number for a float": _changed("distance", data=[500]),
}


@pytest.mark.parametrize("document", PLAIN.values(), ids=PLAIN)
def test_the_quick_road_and_the_general_one_answer_alike(node: LocalNode, document: dict[str, Any]) -> None:
    """One row by itself is answered as the first of two."""
    twice = [{**one, "shape": [2, *one["shape"][1:]], "data": [one["data"][0], one["data"][0]]} for one in document["inputs"]]
    single, double = outputs(infer(node, document)), outputs(infer(node, {**document, "inputs": twice}))
    assert double == {name: data * 2 for name, data in single.items()}


def _binary(**changes: Any) -> tuple[bytes, int]:
    body, length = binary_request(SCHEMA, [GOOD])
    document = json.loads(body[:length])
    document["inputs"][3] |= changes
    head = json.dumps(document).encode()
    return head + body[length:], len(head)


GOOD_BYTES, GOOD_LENGTH = binary_request(SCHEMA, [GOOD])
# Behind the tensors of distance, hour and holiday.
TEXT = GOOD_LENGTH + 8 + 8 + 1
BINARY_BAD: dict[str, tuple[bytes, int | str]] = {
    "a length that is none": (GOOD_BYTES, "x"),
    "a negative length": (GOOD_BYTES, "-1"),
    "a length beyond the body": (GOOD_BYTES, 10**6),
    "a length in the middle": (GOOD_BYTES, GOOD_LENGTH - 5),
    "bytes too many": (GOOD_BYTES + b"\0", GOOD_LENGTH),
    "bytes too few": (GOOD_BYTES[:-1], GOOD_LENGTH),
    "a size too small": _binary(parameters={"binary_data_size": 1}),
    "a size too large": _binary(parameters={"binary_data_size": 10**9}),
    "a negative size": _binary(parameters={"binary_data_size": -1}),
    "a size that is none": _binary(parameters={"binary_data_size": "6"}),
    "no size and no data": _binary(parameters={}),
    "both size and data": _binary(data=["AA"]),
    "an unknown datatype": _binary(datatype="COMPLEX"),
    "no whole elements": _binary(datatype="FP64"),
    "a text longer than its tensor": (GOOD_BYTES[:TEXT] + b"\xff\xff\xff\x7f" + GOOD_BYTES[TEXT + 4 :], GOOD_LENGTH),
    "a text that is none": (GOOD_BYTES[: TEXT + 4] + b"\xff" + GOOD_BYTES[TEXT + 5 :], GOOD_LENGTH),
    "a truth that is none": (GOOD_BYTES[: TEXT - 1] + b"\x02" + GOOD_BYTES[TEXT:], GOOD_LENGTH),
}


@pytest.mark.parametrize(("body", "length"), BINARY_BAD.values(), ids=BINARY_BAD)
def test_bad_bytes_are_refused(node: LocalNode, body: bytes, length: int | str) -> None:
    """400 with `error` as text and a code beside it."""
    answer = send(node, body, length)
    assert answer.status_code == 400, answer.text
    assert isinstance(answer.json()["error"], str)
    assert answer.json()["code"]


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"inputs": tensors(), "outputs": [{"name": "scores"}, {"name": "scores"}]}, 400),
        ({"inputs": tensors(), "outputs": [{"name": "scores", "parameters": {"classification": 3}}]}, 415),
        ({"inputs": tensors(), "parameters": {"sequence_id": 1}}, 415),
        ({"inputs": tensors(), "parameters": {"content_type": "base64"}}, 415),
        ({"inputs": tensors(), "parameters": {str(number): 1 for number in range(65)}}, 400),
        ({"inputs": [*tensors(), *([tensors()[0]] * 4_200)]}, 400),
    ],
)
def test_what_would_be_misunderstood_is_refused(node: LocalNode, document: dict[str, Any], status: int) -> None:
    """Parameters that change a request's meaning are not ignored."""
    answer = infer(node, document)
    assert (answer.status_code, isinstance(answer.json()["error"], str)) == (status, True), answer.text


def test_a_name_twice_is_refused(node: LocalNode) -> None:
    """JSON readers take the last one; nobody knows which was meant."""
    text = json.dumps({"inputs": tensors()}).replace('"name": "wind"', '"name": "hour", "name": "wind"')
    answer = node.request("POST", "/v2/models/late/infer", content=text.encode(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "duplicate-name")
