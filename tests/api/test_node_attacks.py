"""Requests made to cost more than they are worth: each is refused before it does, and the node answers on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from quarterdeck_node.doors.oip_request import MAX_INPUTS, MAX_OUTPUTS, MAX_PARAMETERS
from quarterdeck_node.limits import DEFAULT
from tests.nodes import JSON, LocalNode, deployment, encoding, key, local_node

QUOTES = b'\\"' * 200_000
TENSOR: dict[str, Any] = {"name": "number", "shape": [1], "datatype": "FP64", "data": [1.0]}
INFER = "/v2/models/numbers/infer"
PREDICT = "/deployments/numbers/predict"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """One public deployment and one that asks for a key."""
    with local_node(tmp_path_factory.mktemp("node")) as node:
        one = node.holds(encoding(1), 1)
        node.serves(deployment(one), deployment(one, name="closed", access="instance"), keys=(key("mine"),))
        yield node


def infer(node: LocalNode, document: Any) -> Any:
    """POST an inference request, as bytes or as a document."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return node.request("POST", INFER, content=body, headers=JSON)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 33 + b'"' + QUOTES,
        b"[" * 33 + b'"' + QUOTES + b"\\",
        b"[" * 33 + b"NaN" + b'"' + QUOTES,
        b"{" * 33 + b'"' + b"\\" * 400_001,
        b"[" * 33 + b'""' * 100_000 + b'"',
    ],
    ids=["escaped quotes", "a last backslash", "on the slow road", "backslashes", "empty strings"],
)
@pytest.mark.parametrize("path", [PREDICT, INFER])
def test_strings_that_never_end_are_looked_at_once(node: LocalNode, path: str, body: bytes) -> None:
    """A search that began anew at each quote would take minutes for these and hours for the largest that is let in."""
    answer = node.request("POST", path, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"] in ("malformed", "too-deep")) == (400, True)


def test_an_output_is_answered_once(node: LocalNode) -> None:
    """Each mention would be a copy of the data: 20 bytes in, a thousand rows out."""
    twice = infer(node, {"inputs": [TENSOR], "outputs": [{"name": "prediction"}, {"name": "prediction"}]})
    assert (twice.status_code, twice.json()["code"]) == (400, "duplicate-name")
    assert len(infer(node, {"inputs": [TENSOR], "outputs": [{"name": "prediction"}]}).json()["outputs"]) == 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b'{"inputs":[' + b"{}," * 300_000 + b"{}]}", "inputs"),
        ({"inputs": [TENSOR] * (MAX_INPUTS + 1)}, "inputs"),
        ({"inputs": [TENSOR], "outputs": [{"name": "prediction"}] * (MAX_OUTPUTS + 1)}, "outputs"),
        ({"inputs": [TENSOR], "parameters": {str(number): [] for number in range(100_000)}}, "parameters"),
        ({"inputs": [{**TENSOR, "parameters": {str(number): [] for number in range(100_000)}}]}, "parameters"),
        (
            {"inputs": [TENSOR], "outputs": [{"name": "prediction", "parameters": dict.fromkeys(map(str, range(65)), 1)}]},
            "parameters",
        ),
    ],
    ids=["empty inputs", "inputs", "outputs", "parameters", "an input's parameters", "an output's parameters"],
)
def test_what_comes_in_crowds_is_refused_as_a_crowd(node: LocalNode, document: Any, said: str) -> None:
    """Every misfit would be an error of its own, with a copy of its place: gigabytes for 8 MiB."""
    answer = infer(node, document)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert len(answer.content) < 1_000


def test_as_many_parameters_as_may_be_are_ignored(node: LocalNode) -> None:
    """They say nothing to this server, and do no harm."""
    few = {str(number): number for number in range(MAX_PARAMETERS)}
    answer = infer(node, {"inputs": [{**TENSOR, "parameters": few}], "parameters": few})
    assert answer.json()["outputs"][0]["data"] == [1.0]


def test_unknown_names_are_listed_up_to_a_point(node: LocalNode) -> None:
    """A few are told by name; hundreds of thousands are too many to be told one by one."""
    few = node.predict(json.dumps({"number": 1.0, **{f"x{number}": 1 for number in range(50)}}).encode())
    assert (few.status_code, len(few.json()["problems"])) == (422, 10)
    many = node.predict(b"{" + b",".join(b'"%x":1' % number for number in range(300_000)) + b"}")
    assert (many.status_code, many.json()["code"]) == (413, "too-many-values")


def test_colons_inside_strings_are_no_names(node: LocalNode) -> None:
    """A long text full of them is judged as the text it is."""
    answer = node.predict({"number": ":" * 60_000})
    assert (answer.status_code, answer.json()["problems"][0]["column"]) == (422, "number")


def status(sent: list[dict[str, Any]]) -> int:
    """Of what was answered."""
    return int(sent[0]["status"])


def test_bodies_may_come_in_any_pieces(node: LocalNode) -> None:
    """Cut at every place, with empty pieces in between: the same rows, and no byte stays accounted for."""
    body = b'{"number": 1.5}'
    for cut in range(len(body) + 1):
        sent = node.raw("POST", PREDICT, body[:cut], b"", body[cut:])
        assert (status(sent), json.loads(sent[1]["body"])["predictions"]) == (200, [{"prediction": 1.0}])
    assert (node.node.receiving, node.node.inflight) == (0, 0)


def test_a_body_is_counted_whatever_was_declared(node: LocalNode) -> None:
    """Too large by its declaration: not read. Too large in truth: read up to the limit."""
    declared = node.raw("POST", PREDICT, b"{}", content_length=str(DEFAULT.body_bytes + 1))
    lied = node.raw("POST", PREDICT, *[b" " * 2**20] * 9, content_length="2")
    assert (status(declared), status(lied)) == (413, 413)
    for sent in (declared, lied):
        # What is left of the body would be taken for the next request.
        assert (b"connection", b"close") in sent[0]["headers"]
    assert node.node.receiving == 0


def test_all_bodies_together_are_bounded(node: LocalNode) -> None:
    """Large ones in many pieces are shed while too much is on its way; what comes in one piece is answered."""
    node.node.receiving = DEFAULT.bodies_bytes
    try:
        shed = node.raw("POST", PREDICT, b'{"number":', b" 1}")
        assert (status(shed), json.loads(shed[1]["body"])["code"]) == (503, "overloaded")
        assert (b"retry-after", b"1") in shed[0]["headers"]
        assert status(node.raw("POST", PREDICT, b'{"number": 1}')) == 200
        assert node.node.receiving == DEFAULT.bodies_bytes
    finally:
        node.node.receiving = 0


def test_a_caller_that_leaves_is_not_answered(node: LocalNode) -> None:
    """Nothing is sent, nothing stays accounted for, and it is counted as cancelled."""
    before = cancelled(node)
    assert node.raw("POST", PREDICT, b'{"number":', None) == []
    assert node.raw("POST", PREDICT, None) == []
    assert (node.node.receiving, node.node.inflight) == (0, 0)
    assert cancelled(node) == before + 2


def cancelled(node: LocalNode) -> float:
    """The counter of requests whose caller left."""
    [line] = [
        line
        for line in node.get("/metrics").text.splitlines()
        if line.startswith("quarterdeck_requests_total{")
        and 'deployment="numbers"' in line
        and 'outcome="cancelled",protocol="plain"' in line
    ]
    return float(line.rpartition(" ")[2])


def test_a_form_is_small_since_its_key_is_in_it(node: LocalNode) -> None:
    """Read before its sender is known: a megabyte at most, for strangers and friends alike."""
    large = b"key=mine&feature%3Anumber=" + b"1" * 2**20
    answer = node.request("POST", "/deployments/closed/form", content=large, headers={"content-type": FORM})
    assert answer.status_code == 413
    assert "1 MiB" in answer.text
    small = node.request(
        "POST", "/deployments/closed/form", content=b"key=mine&feature%3Anumber=1", headers={"content-type": FORM}
    )
    assert small.status_code == 200


def test_strangers_are_refused_before_their_body_is_read(node: LocalNode) -> None:
    """No byte of it is asked for."""
    sent = node.raw("POST", "/deployments/closed/predict")
    assert status(sent) == 401
    assert (b"www-authenticate", b"Bearer") in sent[0]["headers"]
    assert (b"connection", b"close") in sent[0]["headers"]


def test_of_two_headers_of_one_name_the_first_counts(node: LocalNode) -> None:
    """So nothing that is added behind a caller's key can replace it."""
    url = "/deployments/closed/predict"
    for keys, expected in ((("mine", "unknown"), 200), (("unknown", "mine"), 401)):
        headers = [("content-type", "application/json"), *(("x-api-key", one) for one in keys)]
        assert node.request("POST", url, content=b'{"number": 1}', headers=headers).status_code == expected
