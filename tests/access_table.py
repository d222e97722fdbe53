"""Who gets in, as one table: callers × access modes × every dialect that predicts; nodes anywhere are asked the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import httpx

from quarterdeck.client import Client
from quarterdeck.plan import AccessMode
from quarterdeck.schema import Row, Schema
from quarterdeck_node.grpc_door import open_inference_pb2 as pb
from quarterdeck_node.grpc_door.service import SERVICE
from tests.dialects import DIALECTS

CALLERS = ("none", "other-project", "good", "expired", "revoked", "token", "member-token")
"""No key, another project's, the project's, one past its end, one taken back; tokens of people outside and inside it."""
MODES: tuple[AccessMode, ...] = ("public", "instance", "project")
_KNOWN = {"other-project": 200, "good": 200, "token": 200, "member-token": 200}
_INSTANCE = {caller: _KNOWN.get(caller, 401) for caller in CALLERS}
EXPECTED: dict[str, dict[str, int]] = {
    "public": dict.fromkeys(CALLERS, 200),
    "instance": _INSTANCE,
    "project": {**_INSTANCE, "other-project": 403, "token": 403},
}
"""Mode → caller → HTTP status of every door that predicts."""
_GRPC = {grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.PERMISSION_DENIED: 403, grpc.StatusCode.RESOURCE_EXHAUSTED: 429}


def made(client: Client, project: str, other: str) -> dict[str, dict[str, Any]]:
    """The callers with a credential, as the deployer made them; none is expired or revoked yet.

    Args:
        client: an admin's.
        project: whose deployments they ask; it is there.
        other: another project; it is there too.
    """
    projects = {"other-project": other, "good": project, "expired": project, "revoked": project}
    found = {name: client.create_key({"name": name, "project": its}) for name, its in projects.items()}
    for name, its in (("token", other), ("member-token", project)):
        person = client.create_person({"name": name, "email": f"{name}@{project}.example.org", "projects": [its]})
        found[name] = {"secret": client.create_token(30, person["id"])["token"]}
    return found


def statuses(
    http: httpx.Client, deployment: str, schema: Schema, rows: Sequence[Row], secret: str, channel: grpc.Channel | None = None
) -> dict[str, int]:
    """What each dialect answers this caller; gRPC's codes are given as the HTTP status that they stand for.

    Args:
        http: a client of the node or its Service.
        secret: key or token; empty: none is sent.
        channel: to the gRPC door, where it is reached.
    """
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    found: dict[str, int] = {}
    for name, dialect in DIALECTS.items():
        request = dialect.request(deployment, schema, rows)
        found[name] = http.post(request.path, content=request.body, headers={**request.headers, **headers}).status_code
    form = {f"feature:{name}": str(rows[0][name]) for name in schema.names}
    found["form"] = http.post(f"/deployments/{deployment}/form", data=form, headers=headers).status_code
    if channel is not None:
        found["grpc"] = _grpc(channel, deployment, schema, rows, headers)
    return found


def _grpc(channel: grpc.Channel, deployment: str, schema: Schema, rows: Sequence[Row], headers: dict[str, str]) -> int:
    request = pb.ModelInferRequest(model_name=deployment)
    for name in schema.names:
        values = [float(str(row[name])) for row in rows]
        request.inputs.add(name=name, datatype="FP64", shape=[len(rows)], contents={"fp64_contents": values})
    ask = channel.unary_unary(f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
    try:
        ask(request, timeout=60, metadata=tuple(headers.items()))
    except grpc.RpcError as error:
        return _GRPC.get(error.code(), 500)
    return 200
