"""The OpenAPI document: what FastAPI knows of the routes, with how they refuse, by which codes, and who may ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from quarterdeck_deployer.access import access_of
from quarterdeck_deployer.api.problems import MEDIA_TYPE

Json = dict[str, Any]
CODES = "x-problem-codes"
"""The member of an operation that lists the codes of its refusals."""
_PROBLEM = "#/components/schemas/Problem"
_ALWAYS = ("host-not-allowed", "internal", "database-busy")


def install(app: FastAPI) -> None:
    """Let an app give this document. Call it once all routes are there."""
    known: list[Json] = []

    def document() -> Json:
        if not known:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            for path, methods in made["paths"].items():
                for method, operation in methods.items():
                    _complete(method.upper(), path, operation)
            made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            known.append(made)
        return known[0]

    app.openapi = document  # type: ignore[method-assign]


def _complete(method: str, path: str, operation: Json) -> None:
    # The name of a function says little without its module; its first sentence says what the route is for.
    operation["summary"] = _first_sentence(operation["description"])
    access = access_of(method, path) or "admin"
    operation["security"] = [] if access == "public" else [{"token": []}]
    operation["x-access"] = access
    shaped = {code for rule, found in _RULES for code in found if rule(method, operation)}
    codes = sorted(shaped | set(OWN.get(f"{method} {path}", ())))
    operation[CODES] = codes
    for status in ("4XX", "5XX"):
        refusal = operation["responses"][status]
        # Refusals are problem documents, whatever a success is; pages refuse with a page.
        kind = MEDIA_TYPE if path != "/login" else "text/html"
        refusal["content"] = {kind: {"schema": {"$ref": _PROBLEM} if kind == MEDIA_TYPE else {"type": "string"}}}
    described = ", ".join(f"`{code}`" for code in codes)
    operation["responses"]["4XX"]["description"] += f" Codes of this route: {described}."


def _first_sentence(description: str) -> str:
    text = " ".join(description.split())
    ends = [text.index(end) for end in (". ", ": ", "; ") if end in text]
    return text[: min(ends, default=len(text))].removesuffix(".")


def _takes(name: str) -> Callable[[str, Json], bool]:
    return lambda _, operation: any(one["name"] == name for one in operation.get("parameters", ()))


_RULES: tuple[tuple[Callable[[str, Json], bool], tuple[str, ...]], ...] = (
    (lambda *_: True, _ALWAYS),
    (lambda method, _: method != "GET", ("cross-site", "malformed", "too-large")),
    (lambda _, operation: operation["x-access"] != "public", ("unauthenticated",)),
    (lambda _, operation: operation["x-access"] not in ("public", "node"), ("role-missing", "token-expired")),
    (lambda method, operation: method != "GET" and operation["x-access"] == "developer", ("other-project",)),
    (lambda _, operation: bool(operation.get("parameters")) or "requestBody" in operation, ("invalid-input",)),
    (lambda _, operation: any(one["in"] == "path" for one in operation.get("parameters", ())), ("not-found",)),
    (_takes("after"), ("cursor-invalid",)),
    (_takes("idempotency-key"), ("idempotency-key-reused",)),
    (_takes("if-match"), ("changed-meanwhile",)),
)
"""What a route's shape says of its refusals."""

_STORE = ("store-failed", "unreachable", "no-such-bucket", "wrong-credentials", "access-denied", "credentials-missing")
_PACKAGE = ("digest-mismatch", "manifest-invalid", "file-missing", "files-missing", "conflict", "version-deleted", *_STORE)
_PAIR = ("schema-mismatch", "trust-required", "accelerator-unsupported", "version-deleted", "manifest-invalid")
_BROUGHT = ("version-taken", "digest-mismatch", "file-missing", *_STORE)
_DEPLOYMENT, _MODEL = "/api/deployments/{name}", "/api/models/{model}"
OWN: dict[str, tuple[str, ...]] = {
    f"PUT {_DEPLOYMENT}": ("stage-fixed", *_PAIR, *_BROUGHT),
    f"POST {_DEPLOYMENT}/challenger": (*_PAIR, *_BROUGHT),
    f"POST {_DEPLOYMENT}/swap": ("no-challenger",),
    f"POST {_DEPLOYMENT}/rollback": ("nothing-to-go-back-to", "version-deleted"),
    f"POST {_DEPLOYMENT}/feedback": _STORE,
    f"GET {_DEPLOYMENT}/predictions": _STORE,
    f"GET {_DEPLOYMENT}/ledger": _STORE,
    f"GET {_DEPLOYMENT}/performance": _STORE,
    f"POST {_DEPLOYMENT}/promote": ("same-stage", "stage-fixed", "target-ambiguous", "version-deleted", "trust-required"),
    f"POST {_DEPLOYMENT}/test-queries/run": ("trust-required", "environment-mismatch", "load-failed", *_PACKAGE),
    f"PUT {_MODEL}/active": ("version-deleted",),
    f"POST {_MODEL}/versions": _PACKAGE,
    f"POST {_MODEL}/packages": _PACKAGE,
    f"PUT {_MODEL}/blobs/{{sha256}}": ("digest-mismatch", *_STORE),
    f"PATCH {_MODEL}/versions/{{version}}": ("version-deleted",),
    f"DELETE {_MODEL}/versions/{{version}}": ("version-in-use", "version-deleted", *_STORE),
    "GET /api/export": ("not-found",),
    "POST /api/promotions/{promotion}/approve": ("not-waiting", "second-person-needed"),
    "POST /api/promotions/{promotion}/reject": ("not-waiting", "second-person-needed"),
    "POST /api/keys": ("not-found", "other-project"),
    "POST /api/keys/{key}/rotate": ("key-ended", "key-rotated"),
    "PUT /api/stages/{name}": ("stage-in-use",),
    "DELETE /api/stages/{name}": ("stage-in-use",),
    "PUT /api/infrastructures/{name}": ("store-refused", "infrastructure-fixed", "infrastructure-in-use", *_STORE),
    "DELETE /api/infrastructures/{name}": ("infrastructure-fixed", "infrastructure-in-use"),
    "POST /api/nodes/tokens": ("not-found", "infrastructure-not-static"),
    "DELETE /api/nodes/{name}": ("infrastructure-not-static",),
    "POST /nodes/join": ("join-token-refused", "node-exists"),
    "GET /plans/{node}": ("other-node", "node-revoked"),
    "POST /nodes/{node}/report": ("other-node", "node-revoked"),
    "POST /api/people": ("not-found", "person-exists"),
    "PATCH /api/people/{person}": ("person-exists",),
    "POST /api/projects": ("project-exists",),
    "DELETE /api/projects/{project}": ("project-in-use",),
    "POST /api/token": ("not-found",),
}
"""Codes that a route has beside those of its shape."""
