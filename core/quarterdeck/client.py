"""The deployer's API and the nodes' doors for Python programs; the command line and the demo use nothing else.

    with connect() as client:                 # finds the system that `quarterdeck up` started in this folder or above
        client.swap("late-flights", why="the challenger is better")
        client.predict("late-flights", [{"month": 1, "carrier": "UA"}])

Answers are the API's own JSON documents; errors are those of `quarterdeck.errors`, with the server's words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict
from urllib.parse import quote

import httpx

from quarterdeck import errors
from quarterdeck.errors import InvalidInput, NotFound, NotReady, QuarterdeckError
from quarterdeck.plan import VersionRef
from quarterdeck.resources import ModelDeployment
from quarterdeck.schema import Row

HOME, STATE, TOKEN = ".quarterdeck", "supervisor.json", "token"
URL_VARIABLE, TOKEN_VARIABLE = "QUARTERDECK_URL", "QUARTERDECK_TOKEN"

Json = dict[str, Any]
"""A JSON object of the API, complete as it came."""

_WISH = {"project", "description", "access", "records", "running", "rollback", "progress_seconds"}
"""Fields of a resource that mean the same to a deployer without a cluster."""


class Done(TypedDict):
    """What an action answers.

    `revision` is the newest one and `changed` whether this action made it; `applied` tells whether the nodes were seen to do
    what it says, and `note` why nothing changed or what is still waited for.
    """

    deployment: str
    revision: int
    changed: bool
    applied: bool
    note: str


class Predicted(TypedDict):
    """One answered request. `digest` and `revision` tell exactly what computed it."""

    request_id: str
    deployment: str
    model: str
    version: int
    digest: str
    revision: int
    predictions: list[Json]


class Label(TypedDict):
    """The truth about one predicted row, named by its `row_id` or by the caller's own id and the row's number (from 0)."""

    value: Any
    row_id: NotRequired[str]
    caller_id: NotRequired[str]
    row: NotRequired[int]
    observed_at: NotRequired[str]


class Client:
    """One deployer. Safe to share between threads; close it, or use it in a `with` block.

    Args:
        url: base URL of the deployer, e.g. ``http://127.0.0.1:8400``.
        token: admin token; empty where nothing but open doors is used.
        timeout: seconds to wait for an answer; waits that a call asks for come on top.
        transport: a replacement of the network, for tests.
    """

    def __init__(self, url: str, token: str = "", *, timeout: float = 30.0, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._timeout = timeout
        # Reading the certificate authorities takes longer than a call; both clients share one reading.
        trusted = httpx.create_ssl_context()
        self._api = httpx.Client(headers=headers, timeout=timeout, transport=transport, verify=trusted, trust_env=False)
        # Doors get a client of their own: the admin token is nothing for nodes.
        self._doors = httpx.Client(timeout=timeout, transport=transport, verify=trusted, trust_env=False)
        self._main_url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._api.close()
        self._doors.close()

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One call of the API; the parsed JSON answer, None where it is empty.

        Args:
            method: HTTP method.
            path: below the base URL, with its leading slash.
            body: anything that is JSON; None sends no body.
            query: query parameters; those that are None are left out.

        Raises:
            QuarterdeckError: the class and code that the server named; NotReady ``unreachable`` where nothing answers.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return _answer(self._api, method, self.url + path, body, given, {}, self._timeout + float(given.get("wait", 0)))

    def instance(self) -> Json:
        """Name, version, store and URLs of the system."""
        return _object(self.call("GET", "/api/instance"))

    def models(self) -> list[Json]:
        """All models, each with its newest and its active version."""
        return _list(self.call("GET", "/api/models"))

    def model(self, model: str) -> Json:
        """One model: versions, runs, and which version is active."""
        return _object(self.call("GET", f"/api/models/{_part(model)}"))

    def version(self, model: str, version: int) -> Json:
        """One version: its manifest, golden rows among it."""
        return _object(self.call("GET", f"/api/models/{_part(model)}/versions/{version}"))

    def register(self, ref: VersionRef, run: str = "") -> Json:
        """Make a version known that lies in the system's store. Registering it again changes nothing."""
        body = {"version": ref.version, "digest": ref.digest, **({"run": {"name": run}} if run else {})}
        return _object(self.call("POST", f"/api/models/{_part(ref.model)}/versions", body))

    def activate(self, model: str, version: int) -> Json:
        """Make a version the one that batches and evaluations use unless told otherwise."""
        return _object(self.call("PUT", f"/api/models/{_part(model)}/active", {"version": version}))

    def deployments(self) -> list[Json]:
        """All deployments: wish and observed state."""
        return _list(self.call("GET", "/api/deployments"))

    def deployment(self, name: str) -> Json:
        """One deployment: wish, observed state with its age, conditions, versions with digests, the mirror's ledger, URLs."""
        return _object(self.call("GET", f"/api/deployments/{_part(name)}"))

    def apply(self, resource: ModelDeployment, why: str = "", wait: float | None = None) -> Done:
        """Make a deployment what the resource says. Nothing changes where it is so already.

        Args:
            resource: the whole wish.
            why: reason for the audit log.
            wait: seconds to wait until the nodes are seen to follow; None: do not wait.

        Raises:
            NotFound: no version has the digest that the resource names.
        """
        return self.put_deployment(resource.metadata.name, self.wish(resource, why), wait)

    def wish(self, resource: ModelDeployment, why: str = "") -> Json:
        """The API's form of a resource, with the digest of main resolved to its version."""
        spec = resource.spec
        # A pin is the main version for as long as it is there; where and on how many nodes it runs is a cluster's business.
        main = {"model": spec.model.name, "version": self._number(resource), "trust": spec.model.trust}
        main["accelerator"] = spec.model.accelerator
        body = spec.model_dump(mode="json", include=_WISH)
        if spec.challenger:
            body["challenger"] = {**spec.challenger.model_dump(mode="json"), "model": spec.challenger.model or spec.model.name}
        # A pin says itself why it is there.
        return {**body, "main": main, "why": why or (spec.pin.reason if spec.pin else "")}

    def _number(self, resource: ModelDeployment) -> int:
        main = resource.spec.model
        if resource.spec.pin:
            main = main.model_copy(update={"version": resource.spec.pin.version, "digest": resource.spec.pin.digest})
        if main.digest is None and main.version is not None:
            return main.version
        for each in self.model(main.name)["items"]:
            if each["digest"] == main.digest and main.version in (None, each["version"]):
                return int(each["version"])
        raise NotFound(
            f"{main.name} has no version {main.version or ''} with the digest that {resource.metadata.name} names.".replace(
                "  ", " "
            ),
            kind="version",
            name=main.name,
            hint=f"See `quarterdeck model show {main.name}`.",
        )

    def put_deployment(self, name: str, body: Mapping[str, Any], wait: float | None = None) -> Done:
        """Create or change a deployment by the API's own document."""
        return _done(self.call("PUT", f"/api/deployments/{_part(name)}", dict(body), wait=wait))

    def delete(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Delete a deployment. Its history, versions and records stay."""
        return _done(self.call("DELETE", f"/api/deployments/{_part(name)}", why=why or None, wait=wait))

    def set_challenger(
        self, name: str, version: int, model: str | None = None, why: str = "", wait: float | None = None, *, trust: str = "data"
    ) -> Done:
        """Send copies of the traffic to a version; of main's model where none is named."""
        body = {"version": version, "trust": trust, "why": why, **({"model": model} if model else {})}
        return self._act(name, "challenger", body, wait)

    def clear_challenger(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Stop mirroring."""
        return _done(self.call("DELETE", f"/api/deployments/{_part(name)}/challenger", why=why or None, wait=wait))

    def swap(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Main and challenger change places."""
        return self._act(name, "swap", {"why": why}, wait)

    def rollback(
        self, name: str, revision: int | None = None, leaving: str | None = None, why: str = "", wait: float | None = None
    ) -> Done:
        """Restore main and challenger of an earlier revision.

        Args:
            name: the deployment.
            revision: which one; None: the one before.
            leaving: digest of the version that is to be left; where another one answers by now, nothing is changed.
            why: reason for the audit log.
            wait: seconds to wait until the nodes are seen to follow; None: do not wait.
        """
        body = {"revision": revision, "leaving": leaving, "why": why}
        return self._act(name, "rollback", {key: value for key, value in body.items() if value is not None}, wait)

    def start(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Let a deployment answer requests."""
        return self._act(name, "run", {"why": why}, wait)

    def stop(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Let a deployment answer nothing; its versions stay where they are."""
        return self._act(name, "stop", {"why": why}, wait)

    def _act(self, name: str, verb: str, body: Json, wait: float | None) -> Done:
        return _done(self.call("POST", f"/api/deployments/{_part(name)}/{verb}", body, wait=wait))

    def revisions(self, name: str) -> list[Json]:
        """The revisions of a deployment, newest first."""
        return _list(self.call("GET", f"/api/deployments/{_part(name)}/revisions"))

    def send_feedback(self, name: str, labels: Sequence[Label]) -> Json:
        """Tell the truth about predicted rows; how many were ``accepted``, and how many of these ``replaced`` an earlier one."""
        return _object(self.call("POST", f"/api/deployments/{_part(name)}/feedback", {"labels": list(labels)}))

    def performance(self, name: str) -> Json:
        """Scores of main and challenger on the same labelled rows."""
        return _object(self.call("GET", f"/api/deployments/{_part(name)}/performance"))

    def predictions(self, name: str, limit: int = 50) -> list[Json]:
        """The newest records with both answers and the label."""
        return _list(self.call("GET", f"/api/deployments/{_part(name)}/predictions", limit=limit)["predictions"])

    def ledger(self, name: str) -> Json:
        """How many rows have a record, an answer of the challenger, both, and a label."""
        return _object(self.call("GET", f"/api/deployments/{_part(name)}/ledger"))

    def keys(self) -> list[Json]:
        """All API keys, without their secrets."""
        return _list(self.call("GET", "/api/keys"))

    def create_key(self, body: Mapping[str, Any]) -> Json:
        """Create a key; the answer holds its secret, this once."""
        return _object(self.call("POST", "/api/keys", dict(body)))

    def revoke_key(self, key: str) -> None:
        """Make a key worthless."""
        self.call("DELETE", f"/api/keys/{_part(key)}")

    def audit(self, limit: int | None = None) -> list[Json]:
        """Who did what and when, newest first."""
        return _list(self.call("GET", "/api/audit", limit=limit))

    def predict(self, deployment: str, rows: Sequence[Row], *, key: str = "", request_id: str = "", url: str = "") -> Predicted:
        """Ask the main node.

        Args:
            deployment: which one.
            rows: records; feature name → value.
            key: API key, where the deployment asks for one.
            request_id: an id of the caller's own, to name the rows by later.
            url: base URL of a node; empty: the main node that the deployer names.
        """
        # The main node's address is asked for once; an address that a call names counts for that call alone.
        if not url and not self._main_url:
            self._main_url = str(self.instance()["main_url"])
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if request_id:
            headers["x-request-id"] = request_id
        place = f"{(url or self._main_url).rstrip('/')}/deployments/{_part(deployment)}/predict"
        found: Predicted = _answer(self._doors, "POST", place, list(rows), {}, headers, self._timeout)
        return found


def connect(folder: Path | None = None, *, timeout: float = 30.0) -> Client:
    """A client of the running system.

    Args:
        folder: where `quarterdeck up` runs; None: what QUARTERDECK_URL and QUARTERDECK_TOKEN name, else this folder or one above.
        timeout: seconds to wait for an answer.

    Raises:
        NotReady: ``not-running``: no system runs there.
    """
    url = os.environ.get(URL_VARIABLE, "")
    if folder is None and url:
        return Client(url, os.environ.get(TOKEN_VARIABLE, ""), timeout=timeout)
    start = (folder or Path()).resolve()
    # As git does: commands work in every folder below the one where the system was brought up.
    for place in [start] if folder else [start, *start.parents]:
        home = place / HOME
        if (home / STATE).is_file():
            return _client_of(home, timeout)
    raise NotReady(
        f"No system runs in {start}{'' if folder else ' or above'}.",
        code="not-running",
        kind="folder",
        hint=f"Start one with `quarterdeck up`, or set {URL_VARIABLE} and {TOKEN_VARIABLE}.",
    )


def _client_of(home: Path, timeout: float) -> Client:
    try:
        note = json.loads((home / STATE).read_bytes())
        return Client(note["urls"]["console"], (home / TOKEN).read_text().strip(), timeout=timeout)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotReady(
            f"{home} cannot be read: {type(error).__name__}.",
            code="not-running",
            kind="folder",
            hint="Start the system again with `quarterdeck up`.",
        ) from error


def _answer(
    client: httpx.Client, method: str, url: str, body: Any, query: Json, headers: Mapping[str, str], timeout: float
) -> Any:
    try:
        response = client.request(method, url, params=query, json=body, headers=dict(headers), timeout=timeout)
    except httpx.TimeoutException as error:
        raise NotReady(
            f"{url} did not answer within {timeout:g} s.",
            code="timed-out",
            kind="url",
            name=url,
            hint="Ask again; `quarterdeck status` shows what the system does.",
        ) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise NotReady(
            f"{url} cannot be reached.", code="unreachable", kind="url", name=url, hint="Check that `quarterdeck up` runs."
        ) from error
    except (TypeError, ValueError) as error:
        # Raised while the body is put into words, before anything is sent; the reason may quote a row, so it is not repeated.
        raise InvalidInput(
            f"What was to be sent to {url} holds a value that JSON does not know.",
            kind="argument",
            hint="Give plain numbers, strings, booleans and None; None instead of NaN.",
        ) from error
    if not response.is_success:
        raise _error(response)
    try:
        return response.json() if response.content else None
    except ValueError as error:
        # Sign-in pages of proxies come with status 200.
        raise errors.Malformed(
            f"{url} answered {response.status_code} with something that is not JSON.",
            kind="url",
            name=url,
            hint="Check that the URL is the deployer's or the node's own.",
        ) from error


_BY_STATUS: dict[int, type[QuarterdeckError]] = {
    each.status: each
    for each in (
        errors.Malformed,
        errors.Unauthenticated,
        errors.Forbidden,
        NotFound,
        errors.Conflict,
        errors.TooLarge,
        errors.Unsupported,
        InvalidInput,
        errors.StorageError,
        NotReady,
    )
}
# Where several classes share a status the code tells them apart.
_BY_CODE: dict[str, type[QuarterdeckError]] = {
    **dict.fromkeys(("overloaded", "queue-full", "deadline-exceeded"), errors.Overloaded),
    **dict.fromkeys(("model-failed", "model-died", "model-timeout", "model-out-of-memory"), errors.ModelFailed),
    "value-refused": errors.ValueRefused,
    **dict.fromkeys(
        (
            "digest-mismatch",
            "file-missing",
            "manifest-invalid",
            "environment-mismatch",
            "variable-missing",
            "golden-mismatch",
            "trust-required",
            "form-unknown",
            "load-failed",
            "untrusted-types",
            "package-refused",
        ),
        errors.PackageRefused,
    ),
}
_OWN_MEMBERS = ("type", "title", "status", "detail", "code", "hint", "kind", "name")


def _error(response: httpx.Response) -> QuarterdeckError:
    """The error that a problem+json answer tells of; a plain one where the answer is something else."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {
            "detail": f"{response.request.url} answered {response.status_code}.",
            "hint": "Look into the logs of the system.",
        }
    # A stranger's JSON may have any type in these members.
    code = str(problem.get("code", ""))
    kind = _BY_CODE.get(code) or _BY_STATUS.get(response.status_code, QuarterdeckError)
    extra = {name: value for name, value in problem.items() if name not in _OWN_MEMBERS}
    if request := response.headers.get("x-request-id"):
        extra.setdefault("request_id", request)
    named = {name: str(problem.get(name, "")) for name in ("code", "hint", "kind", "name")}
    return kind(str(problem.get("detail") or problem.get("title") or response.reason_phrase), **named, extra=extra)


def _part(name: object) -> str:
    """One segment of a path: a slash or question mark in a name must not lead to another resource."""
    return quote(str(name), safe="")


def _object(found: Any) -> Json:
    return dict(found)


def _done(found: Any) -> Done:
    done: Done = found
    return done


def _list(found: Any) -> list[Json]:
    return list(found)
