"""The client: requests that it makes, answers that it reads, errors that it turns into ours. The transport is a twin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck import errors
from quarterdeck.client import Client, connect
from quarterdeck.errors import NotFound, NotReady, QuarterdeckError
from quarterdeck.plan import VersionRef
from quarterdeck.resources import read

DIGEST = "sha256:" + 64 * "a"
DONE = {"deployment": "late", "revision": 3, "changed": True, "applied": True, "note": ""}
YAML = """\
apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata: {name: late}
spec:
  model: {name: flights, version: 1}
  challenger: {version: 2}
"""


class Deployer:
    """A twin of the deployer: answers by a table, and keeps what it was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[httpx.Headers] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One exchange."""
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.method, str(request.url), body))
        self.headers.append(request.headers)
        return httpx.Response(200, json=self.answers[request.url.path])

    def client(self) -> Client:
        """A client that speaks to this twin."""
        return Client("http://deployer", "secret", transport=httpx.MockTransport(self))


@pytest.mark.parametrize(
    ("act", "method", "path", "body"),
    [
        (lambda client: client.swap("late", "better", 5), "POST", "/late/swap?wait=5", {"why": "better"}),
        (lambda client: client.rollback("late"), "POST", "/late/rollback", {"why": ""}),
        (
            lambda client: client.rollback("late", 2, DIGEST),
            "POST",
            "/late/rollback",
            {"revision": 2, "leaving": DIGEST, "why": ""},
        ),
        (lambda client: client.set_challenger("late", 2), "POST", "/late/challenger", {"version": 2, "trust": "data", "why": ""}),
        (lambda client: client.clear_challenger("late", "enough"), "DELETE", "/late/challenger?why=enough", None),
        (lambda client: client.start("late"), "POST", "/late/run", {"why": ""}),
        (lambda client: client.stop("late"), "POST", "/late/stop", {"why": ""}),
        (lambda client: client.delete("late"), "DELETE", "/late", None),
    ],
)
def test_an_action_is_one_request(act: Callable[[Client], Any], method: str, path: str, body: Any) -> None:
    """Method, path, wait and body as the API takes them; the answer as it comes."""
    twin = Deployer({f"/api/deployments{path.partition('?')[0]}": DONE})
    assert act(twin.client()) == DONE
    assert twin.asked == [(method, f"http://deployer/api/deployments{path}", body)]
    assert twin.headers[0]["authorization"] == "Bearer secret"


def test_apply_sends_the_whole_wish() -> None:
    """The challenger's model is main's where the file leaves it out."""
    twin = Deployer({"/api/deployments/late": DONE})
    twin.client().apply(read(YAML)[0], "first")
    body = twin.asked[0][2]
    assert body["main"] == {"model": "flights", "version": 1, "trust": "data", "accelerator": "none"}
    assert body["challenger"] == {"model": "flights", "version": 2, "trust": "data", "accelerator": "none"}
    assert (body["access"], body["running"], body["why"]) == ("instance", True, "first")


def test_apply_finds_the_version_of_a_digest() -> None:
    """The API speaks of numbers; a digest that no version has is not found."""
    twin = Deployer({"/api/deployments/late": DONE, "/api/models/flights": {"items": [{"version": 7, "digest": DIGEST}]}})
    twin.client().apply(read(YAML.replace("version: 1", f"digest: '{DIGEST}'"))[0])
    assert twin.asked[-1][2]["main"]["version"] == 7
    with pytest.raises(NotFound, match="flights has no version"):
        twin.client().apply(read(YAML.replace("version: 1", f"version: 8, digest: '{DIGEST}'"))[0])


def test_apply_of_a_pin_sends_the_pinned_version_and_its_reason() -> None:
    """It stands in for main while the file has it, run in main's way; a reason of one's own comes before the pin's."""
    twin = Deployer({"/api/deployments/late": DONE})
    pinned = read(YAML + "  pin: {version: 3, reason: too many alarms}\n")[0]
    twin.client().apply(pinned)
    twin.client().apply(pinned, "as agreed")
    assert [body["why"] for _, _, body in twin.asked] == ["too many alarms", "as agreed"]
    assert twin.asked[0][2]["main"] == {"model": "flights", "version": 3, "trust": "data", "accelerator": "none"}


def test_apply_leaves_out_what_only_a_cluster_has() -> None:
    """The API would refuse what it does not know."""
    twin = Deployer({"/api/deployments/late": DONE})
    more = "  nodes: {replicas: 3}\n  store: {url: 's3://b'}\n  keyring: ours\n"
    wanted = read(YAML + more)[0]
    twin.client().apply(wanted)
    assert not {"nodes", "store", "keyring", "pin"} & set(twin.asked[0][2])
    assert wanted.spec.for_clusters() == ["nodes", "store", "keyring"]
    assert read(YAML + "  nodes: {replicas: 1}\n")[0].spec.for_clusters() == []


def test_register_names_the_run() -> None:
    """Version, digest and run; the run is left out where there is none."""
    twin = Deployer({"/api/models/flights/versions": {}})
    ref = VersionRef(model="flights", version=2, digest=DIGEST)
    twin.client().register(ref)
    twin.client().register(ref, "monday")
    assert [asked[2] for asked in twin.asked] == [
        {"version": 2, "digest": DIGEST},
        {"version": 2, "digest": DIGEST, "run": {"name": "monday"}},
    ]


def test_predict_asks_the_node_without_the_admin_token() -> None:
    """The deployment's address comes from the deployer, once; a key goes to the node, the token never."""
    urls = {"predict": "http://node/deployments/late/predict"}
    twin = Deployer({"/api/deployments/late": {"urls": urls}, "/deployments/late/predict": {"version": 1}})
    client = twin.client()
    client.predict("late", [{"month": 1}], key="qdk", request_id="mine")
    client.predict("late", [{"month": 2}])
    assert [asked[1] for asked in twin.asked] == ["http://deployer/api/deployments/late", *[urls["predict"]] * 2]
    assert twin.headers[1]["authorization"] == "Bearer qdk"
    assert twin.headers[1]["x-request-id"] == "mine"
    assert "authorization" not in twin.headers[2]


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidInput("x"),
        errors.Malformed("x"),
        errors.Unauthenticated("x"),
        errors.Forbidden("x"),
        errors.NotFound("x"),
        errors.Conflict("x"),
        errors.TooLarge("x"),
        errors.Unsupported("x"),
        errors.Overloaded("x"),
        errors.NotReady("x"),
        errors.PackageRefused("x", code="golden-mismatch"),
        errors.StorageError("x", code="unreachable"),
        errors.ModelFailed("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_the_wire(error: QuarterdeckError) -> None:
    """Class, code, words, hint, thing and extras arrive as the server raised them, with the request's id."""
    error.hint, error.kind, error.name, error.extra = "do this", "deployment", "late", {"row": 3}
    answer = httpx.Response(error.status, json=error.problem(), headers={"x-request-id": "r1"})
    client = Client("http://deployer", transport=httpx.MockTransport(lambda request: answer))
    with pytest.raises(type(error)) as caught:
        client.models()
    assert type(caught.value) is type(error)
    assert (caught.value.code, caught.value.detail, caught.value.hint) == (error.code, "x", "do this")
    assert (caught.value.kind, caught.value.name) == ("deployment", "late")
    assert caught.value.extra == {"row": 3, "request_id": "r1"}


def test_an_answer_that_is_no_problem_document_still_names_its_status() -> None:
    """A proxy in between answers in its own words."""
    client = Client("http://deployer", transport=httpx.MockTransport(lambda request: httpx.Response(502, text="<html>")))
    with pytest.raises(errors.StorageError, match="answered 502"):
        client.models()


@pytest.mark.parametrize(
    ("raised", "code"), [(httpx.ConnectError("refused"), "unreachable"), (httpx.ReadTimeout("late"), "timed-out")]
)
def test_silence_is_told_apart(raised: Exception, code: str) -> None:
    """Nobody there, or nobody answering in time."""

    def silent(request: httpx.Request) -> httpx.Response:
        raise raised

    with pytest.raises(NotReady) as caught:
        Client("http://deployer", transport=httpx.MockTransport(silent)).models()
    assert caught.value.code == code


def test_connect_finds_the_system_of_a_folder(tmp_path: Path) -> None:
    """By the note and the token that its supervisor left; without one the next step is named."""
    home = tmp_path / ".quarterdeck"
    home.mkdir()
    with pytest.raises(NotReady, match="quarterdeck up"):
        connect(tmp_path)
    (home / "supervisor.json").write_text(json.dumps({"urls": {"console": "http://127.0.0.1:9"}}))
    (home / "token").write_text("secret\n")
    with connect(tmp_path) as client:
        assert client.url == "http://127.0.0.1:9"


def test_connect_prefers_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system elsewhere is named by its URL and token."""
    monkeypatch.setenv("QUARTERDECK_URL", "http://elsewhere/")
    monkeypatch.setenv("QUARTERDECK_TOKEN", "secret")
    with connect() as client:
        assert client.url == "http://elsewhere"
