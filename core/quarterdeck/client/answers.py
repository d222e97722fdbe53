"""What comes over the wire: the answer parsed, or the error that the server names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from quarterdeck import errors
from quarterdeck.errors import InvalidInput, NotFound, NotReady, QuarterdeckError

Json = dict[str, Any]
"""A JSON object of the API, complete as it came."""

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


def answer(
    client: httpx.Client, method: str, url: str, body: Any, query: Json, headers: Mapping[str, str], timeout: float
) -> Any:
    """The parsed JSON of one exchange; None where the answer is empty. `query` and `timeout` (seconds) go with the request.

    Raises:
        QuarterdeckError: what the server named; NotReady where nothing answers; InvalidInput where `body` is no JSON.
    """
    return parsed(exchange(client, method, url, body, query, headers, timeout))


def exchange(
    client: httpx.Client, method: str, url: str, body: Any, query: Json, headers: Mapping[str, str], timeout: float
) -> httpx.Response:
    """The answer to one request, if it is a success; a `body` that can be read is sent as it is. Raises as `answer` does."""
    sent: dict[str, Any] = {"content" if hasattr(body, "read") else "json": body}
    try:
        response = client.request(method, url, params=query or None, headers=dict(headers), timeout=timeout, **sent)
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
    return response


def parsed(response: httpx.Response) -> Any:
    """The JSON of an answer; None where it is empty. Raises `Malformed` where it is something else."""
    try:
        return response.json() if response.content else None
    except ValueError as error:
        # Sign-in pages of proxies come with status 200.
        url = str(response.request.url.copy_with(query=None))
        raise errors.Malformed(
            f"{url} answered {response.status_code} with something that is not JSON.",
            kind="url",
            name=url,
            hint="Check that the URL is the deployer's or the node's own.",
        ) from error


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
