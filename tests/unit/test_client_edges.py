"""The client at its edges: hostile names, answers that are no JSON, bodies that JSON cannot say, and whom it asks."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck import errors
from quarterdeck.client import Client, connect
from quarterdeck.errors import InvalidInput, Malformed, NotReady, QuarterdeckError
from quarterdeck.plan import VersionRef

TOKEN = "admin-token-of-this-test"
REF = VersionRef(model="flights", version=1, digest="sha256:" + 64 * "a")


class Wire:
    """A twin of everything behind the network: keeps each request, answers what it was told."""

    def __init__(self, status: int = 200, content: bytes = b"{}", **headers: str) -> None:
        self.asked: list[httpx.Request] = []
        self._answer = (status, content, headers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One exchange."""
        self.asked.append(request)
        if request.url.path == "/api/deployments/late" and request.method == "GET":
            return httpx.Response(200, json={"urls": {"predict": "http://main/deployments/late/predict"}})
        status, content, headers = self._answer
        return httpx.Response(status, content=content, headers=headers)

    def client(self, url: str = "http://deployer/") -> Client:
        """A client that speaks to this twin."""
        return Client(url, TOKEN, transport=httpx.MockTransport(self))


def asked_by(act: Callable[[Client], Any]) -> httpx.Request:
    """The one request that a call makes."""
    wire = Wire(content=b"[]")
    with wire.client() as client:
        act(client)
    return wire.asked[-1]


NAMED: list[Callable[[Client, str], Any]] = [
    lambda client, name: client.deployment(name),
    lambda client, name: client.delete(name),
    lambda client, name: client.clear_challenger(name),
    lambda client, name: client.revisions(name),
    lambda client, name: client.performance(name),
    lambda client, name: client.ledger(name),
    lambda client, name: client.send_feedback(name, []),
    lambda client, name: client.swap(name),
    lambda client, name: client.put_deployment(name, {}),
    lambda client, name: client.model(name),
    lambda client, name: client.version(name, 1),
    lambda client, name: client.activate(name, 1),
    lambda client, name: client.revoke_key(name),
]


@pytest.mark.parametrize("name", ["a/b", "x?wait=9", "x#y", "%2e%2e", "a b", "ü"])
@pytest.mark.parametrize("act", NAMED)
def test_a_name_stays_one_segment_of_the_path(act: Callable[[Client, str], Any], name: str) -> None:
    """Whatever is given as a name, the request is about that one thing and carries no further parameters."""
    plain, odd = asked_by(lambda client: act(client, "x")), asked_by(lambda client: act(client, name))
    assert odd.url.raw_path.count(b"/") == plain.url.raw_path.count(b"/")
    assert (odd.method, odd.url.query, odd.url.fragment) == (plain.method, plain.url.query, "")


def test_an_address_that_one_call_names_counts_for_that_call_alone() -> None:
    """Asking the challenger's node once does not make it the main node."""
    wire = Wire()
    with wire.client() as client:
        client.predict("late", [{"a": 1}], url="http://challenger/")
        client.predict("late", [{"a": 1}])
        client.predict("late", [{"a": 1}])
    assert [(request.method, request.url.host) for request in wire.asked] == [
        ("POST", "challenger"), ("GET", "deployer"), ("POST", "main"), ("POST", "main"),
    ]  # fmt: skip
    assert {request.url.path for request in wire.asked if request.method == "POST"} == {"/deployments/late/predict"}


def test_the_admin_token_goes_to_the_deployer_only() -> None:
    """Nodes get the caller's key, or nothing; the caller's own request id goes along."""
    wire = Wire()
    with wire.client() as client:
        client.predict("late", [], key="qdk_key", request_id="mine-7")
        client.predict("late", [], url="http://elsewhere")
    first, second = [request for request in wire.asked if request.method == "POST"]
    assert (first.headers["authorization"], first.headers["x-request-id"]) == ("Bearer qdk_key", "mine-7")
    assert not {"authorization", "x-request-id"} & set(second.headers)
    assert not any(TOKEN in str(request.headers.raw) for request in (first, second))


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32(1), np.int64(1), object(), {1, 2}])
def test_rows_that_json_cannot_say_are_refused_before_they_are_sent(value: Any) -> None:
    """What pandas users send most often by mistake, NaN and numpy's numbers, is told apart from a broken connection."""
    wire = Wire()
    with wire.client() as client, pytest.raises(InvalidInput) as caught:
        client.predict("late", [{"wind": value}], url="http://main")
    assert wire.asked == []
    assert "None instead of NaN" in caught.value.hint
    assert "wind" not in str(caught.value)


@pytest.mark.parametrize("content", [b"<html>Sign in</html>", b"{", b"\xff\xfe"])
def test_a_success_that_is_not_json_is_malformed(content: bytes) -> None:
    """A proxy's sign-in page with status 200 is no answer; its text is not repeated."""
    with Wire(200, content).client() as client, pytest.raises(Malformed) as caught:
        client.models()
    assert (caught.value.kind, caught.value.name) == ("url", "http://deployer/api/models")
    assert "Sign in" not in str(caught.value)
    assert caught.value.hint


def test_an_empty_success_is_none() -> None:
    """Deletions answer 204."""
    with Wire(204, b"").client() as client:
        assert client.call("DELETE", "/api/keys/k1") is None


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (400, b"{}", errors.Malformed),
        (401, b"{}", errors.Unauthenticated),
        (403, b"{}", errors.Forbidden),
        (404, b"{}", errors.NotFound),
        (409, b"{}", errors.Conflict),
        (413, b"{}", errors.TooLarge),
        (415, b"{}", errors.Unsupported),
        (422, b"{}", errors.InvalidInput),
        (502, b"{}", errors.StorageError),
        (503, b"{}", errors.NotReady),
        (503, b'{"code": "overloaded"}', errors.Overloaded),
        (500, b'{"code": "model-failed"}', errors.ModelFailed),
        (422, b'{"code": "value-refused"}', errors.ValueRefused),
        (422, b'{"code": "golden-mismatch"}', errors.PackageRefused),
        (500, b"{}", QuarterdeckError),
        (418, b"null", QuarterdeckError),
        (429, b"[1]", QuarterdeckError),
        (404, b'{"code": 7, "hint": null, "detail": ["x"]}', errors.NotFound),
    ],
)
def test_every_refusal_becomes_an_error_of_ours(status: int, content: bytes, kind: type[QuarterdeckError]) -> None:
    """By its code where the status is shared, by its status otherwise; never anything else, whatever the body holds."""
    with Wire(status, content).client() as client, pytest.raises(QuarterdeckError) as caught:
        client.models()
    assert type(caught.value) is kind
    assert caught.value.detail
    assert caught.value.code


def test_a_refusal_keeps_its_request_id_and_further_members() -> None:
    """What the server adds, row and column say, arrives; the id in the header counts where the body names none."""
    content = b'{"type": "urn:x", "title": "t", "status": 422, "detail": "d", "code": "c", "row": 3, "column": "wind"}'
    with Wire(422, content, **{"x-request-id": "r1"}).client() as client, pytest.raises(InvalidInput) as caught:
        client.models()
    assert caught.value.extra == {"row": 3, "column": "wind", "request_id": "r1"}


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.UnsupportedProtocol])
def test_a_broken_connection_says_whom_and_what_next(failure: type[httpx.TransportError]) -> None:
    """Whichever way the network fails, the address is named and the token is not."""

    def broken(request: httpx.Request) -> httpx.Response:
        raise failure(TOKEN, request=request)

    with Client("http://deployer", TOKEN, transport=httpx.MockTransport(broken)) as client, pytest.raises(NotReady) as caught:
        client.instance()
    assert (caught.value.code, caught.value.name) == ("unreachable", "http://deployer/api/instance")
    assert caught.value.hint
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(("wait", "seconds"), [(None, 30.0), (0, 30.0), (12, 42.0), (0.5, 30.5)])
def test_a_wait_comes_on_top_of_the_timeout(wait: float | None, seconds: float) -> None:
    """A server that is asked to wait may take that long without being given up."""
    request = asked_by(lambda client: client.swap("late", wait=wait))
    assert request.extensions["timeout"]["read"] == seconds
    assert ("wait" in dict(request.url.params)) is (wait is not None)


@pytest.mark.parametrize(
    "note", ["", "[]", "{}", '{"urls": 3}', '{"urls": {}}', '"text"', "{", '{"urls": {"console": "http://x"}}']
)
def test_a_damaged_note_of_the_supervisor_is_not_running(note: str, tmp_path: Path) -> None:
    """Cut, foreign and half-removed files lead to one error with the next step, never to a traceback."""
    (tmp_path / ".quarterdeck").mkdir()
    (tmp_path / ".quarterdeck/supervisor.json").write_text(note)
    with pytest.raises(NotReady) as caught:
        connect(tmp_path)
    assert caught.value.code == "not-running"
    assert "quarterdeck up" in caught.value.hint


def test_register_and_activate_speak_of_numbers_and_digests() -> None:
    """Registering names number and digest, activating the number."""
    register = asked_by(lambda client: client.register(REF))
    assert (register.url.path, register.content) == (
        "/api/models/flights/versions", b'{"version":1,"digest":"sha256:' + 64 * b"a" + b'"}',
    )  # fmt: skip
    assert asked_by(lambda client: client.activate("flights", 2)).content == b'{"version":2}'


words = st.text(max_size=20)


@given(words, words, words, words, st.dictionaries(words.filter(lambda key: key not in ("detail", "code")), st.integers()))
def test_errors_survive_pickling(detail: str, code: str, hint: str, name: str, extra: dict[str, int]) -> None:
    """An error that crosses to another process is the same error there."""
    for kind in (errors.InvalidInput, errors.StorageError, errors.PackageRefused):
        error = kind(detail, code=code, hint=hint, name=name, extra=extra)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), vars(again), str(again)) == (kind, vars(error), str(error))


def test_problem_documents_leave_out_what_is_empty() -> None:
    """The stable members are always there; hint, kind and name where they say something."""
    assert errors.NotFound("There is none.").problem() == {
        "type": "urn:quarterdeck:not-found",
        "title": "not found",
        "status": 404,
        "detail": "There is none.",
        "code": "not-found",
    }
    full = errors.NotFound("There is none.", hint="Look.", kind="model", name="m", extra={"row": 1}).problem()
    assert (full["hint"], full["kind"], full["name"], full["row"]) == ("Look.", "model", "m", 1)
