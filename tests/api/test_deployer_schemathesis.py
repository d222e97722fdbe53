"""The OpenAPI document is what the deployer does: complete, with examples, and no request makes a server error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from quarterdeck_deployer.access import access_of
from tests.campaigns.api_fuzz import fuzz, operations, prepared
from tests.deployer_world import World

EXAMPLES = 4
NOTHING_TWICE = {
    # A file lies under the digest of its bytes, and a label under its row: sent again they are what they were.
    "PUT /api/models/{model}/blobs/{sha256}",
    "POST /api/deployments/{name}/feedback",
    # These only look.
    "POST /api/deployments/{name}/test-queries/run",
}
"""Routes that do nothing more when a request comes again, key or not."""
WHOLE = {"/api/models/{model}/versions/{version}/uses"}
"""Lists that are one answer: half of what a version is needed for would read as if it could be deleted."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One deployer for all that is sent here."""
    with prepared(tmp_path_factory.mktemp("fuzz")) as found:
        yield found


@pytest.fixture(scope="module")
def document(here: World) -> dict[str, Any]:
    """The document as anybody reads it."""
    return here.ok(here.http.get("/openapi.json"))


def every(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and operation of each route in the document."""
    return [(method.upper(), path, one) for path, methods in document["paths"].items() for method, one in methods.items()]


def test_no_request_makes_a_server_error(here: World) -> None:
    """A few requests of every operation, the same ones each time; the campaign sends many (tests/campaigns/api_fuzz.py)."""
    statuses = {operation.label: fuzz(here, operation, EXAMPLES) for operation in operations(here)}
    assert len(statuses) > 20
    assert all(counted.total() for counted in statuses.values())


def test_every_route_is_described(document: dict[str, Any]) -> None:
    """A summary, a sentence, and the refusals that it may answer."""
    bare = [
        f"{method} {path}"
        for method, path, one in every(document)
        if not one.get("summary") or not one.get("description") or not {"4XX", "5XX"} & set(one["responses"])
    ]
    assert bare == []


def test_every_body_comes_with_an_example(document: dict[str, Any]) -> None:
    """Somebody who reads the document can send what it shows."""
    bare = []
    for method, path, one in every(document):
        for kind, media in one.get("requestBody", {}).get("content", {}).items():
            if kind == "application/json" and not _examples(document, media):
                bare.append(f"{method} {path}")
    assert bare == []


def test_every_change_may_be_repeated(document: dict[str, Any]) -> None:
    """Each route that changes something for people takes an Idempotency-Key."""
    without = [
        f"{method} {path}"
        for method, path, one in every(document)
        if method != "GET" and path.startswith("/api/") and f"{method} {path}" not in NOTHING_TWICE
        and "idempotency-key" not in {parameter["name"] for parameter in one.get("parameters", [])}
    ]  # fmt: skip
    assert without == []


def test_every_list_has_pages(document: dict[str, Any]) -> None:
    """A route that answers a list takes `limit` and `after`."""
    without = []
    for method, path, one in every(document):
        content = one["responses"].get("200", {}).get("content", {}).get("application/json", {})
        if method == "GET" and content.get("schema", {}).get("type") == "array":
            names = {parameter["name"] for parameter in one.get("parameters", [])}
            if not {"limit", "after"} <= names and path not in WHOLE:
                without.append(path)
    assert without == []


def test_every_route_names_its_access(document: dict[str, Any]) -> None:
    """A path that no row names would be the admin's alone, silently."""
    assert [f"{method} {path}" for method, path, _ in every(document) if access_of(method, path) is None] == []


def _examples(document: dict[str, Any], media: dict[str, Any]) -> bool:
    """Whether a body has an example, its own or its members'."""
    if {"example", "examples"} & set(media):
        return True
    schema = media["schema"]
    for option in [schema, *schema.get("anyOf", [])]:
        found = option
        if "$ref" in option:
            found = {**document["components"]["schemas"][option["$ref"].rpartition("/")[2]], **option}
        if {"example", "examples"} & set(found):
            return True
        # A body whose every member may be left out is shown by its members' descriptions.
        if found.get("type") == "object" and not found.get("required"):
            return True
    return False
