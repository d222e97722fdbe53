"""docs/reference/http-node.md and http-deployer.md: every route, from the applications themselves."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quarterdeck.storage.memory import MemoryStorage
from quarterdeck_deployer.app import create_app as create_deployer
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.settings import Settings, Tokens
from quarterdeck_node.app import DOORS
from tools.reference.tables import first_line, table, type_words

Json = dict[str, Any]
ACCESS = {
    "open": "anybody",
    "caller": "anybody; shows what the key may ask",
    "read": "a key that may read or predict, where the deployment is not public",
    "predict": "a key that may predict, where the deployment is not public",
    "sole": "a key that may predict, where the node's only deployment is not public",
    "mirror": "main nodes (mirroring token)",
}
NODE = """\
# HTTP: node

One port, 8401 for the main node and 8402 for the challenger node of a local system; [gRPC](grpc-node.md) has one of its
own. Keys go into `Authorization: Bearer KEY`, into `X-API-Key: KEY`, or into the user name of the Basic scheme. Refusals are
problem documents, in the dialects with the members of their own form beside: see [errors](errors.md).

Every answer carries `x-request-id`, and where a deployment answered `quarterdeck-model`, `quarterdeck-version`,
`quarterdeck-digest` and `quarterdeck-revision`. A request's own `x-request-id` (at most 128 printable characters) is
kept as the caller's id of its records. `Quarterdeck-Timeout: SECONDS` is how long the caller waits: what would come later
is refused before the model is asked. A valid `traceparent` is sent back.

`GET /openapi.json` describes the deployments that the caller may ask, with their schemas and examples; `GET /docs`
shows it.

"""
DEPLOYER = """\
# HTTP: deployer

One port, 8400 of a local system. Programs send the admin token as `Authorization: Bearer TOKEN`; the console's
browser has a session that `/login?token=…` begins. Refusals are problem documents: see [errors](errors.md).
`?wait=SECONDS` on an action waits until the nodes are seen to follow. `GET /openapi.json` has every schema and
example; `GET /docs` shows it.

"""


def node_page() -> str:
    """The node's routes, in the order of its table of doors."""
    rows = [[f"`{door.method} {door.path}`", first_line(door.answer), ACCESS[door.access]] for door in DOORS]
    return NODE + table(["route", "what it does", "who may"], rows)


def deployer_openapi() -> Json:
    """The deployer's own description of its API."""
    with TemporaryDirectory() as folder:
        token = "0" * 32
        deployer = Deployer(Settings(data=Path(folder)), Tokens(admin=token, node=token, mirror=token), MemoryStorage())
        try:
            document: Json = create_deployer(deployer).openapi()
        finally:
            deployer.database.close()
        return document


def deployer_page() -> str:
    """The deployer's routes by path."""
    document = deployer_openapi()
    schemas = document.get("components", {}).get("schemas", {})
    parts = [DEPLOYER]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            parts.append(_route(method.upper(), path, route, schemas))
    return "".join(parts)


def _route(method: str, path: str, route: Json, schemas: Json) -> str:
    about = " ".join(str(route.get("description", "")).split("\n\n")[0].split())
    text = f"## `{method} {path}`\n\n{about}\n\n"
    query = [each for each in route.get("parameters", []) if each["in"] == "query"]
    fields = [(each["name"], "query", each["schema"], each.get("required", False), each.get("description", "")) for each in query]
    body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    model = schemas.get(body.get("$ref", "").rpartition("/")[2], {})
    required = model.get("required", [])
    fields += [
        (name, "body", one, name in required, one.get("description", "")) for name, one in model.get("properties", {}).items()
    ]
    if fields:
        header = ["field", "in", "type", "", "meaning"]
        rows = [[f"`{name}`", place, _plain(one), "required" if must else "", words] for name, place, one, must, words in fields]
        text += table(header, rows) + "\n"
    return text


def _plain(schema: Json) -> str:
    """A type in words; schemas are named, not linked, for they have no table on this page."""
    words = type_words(schema)
    return words.replace("[", "").replace("]", "").partition("(#")[0] if "(#" in words else words
