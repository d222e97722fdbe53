"""docs/reference/grpc-node.md: every method of the node's gRPC door, from the protocol's own file and the door's table."""

from __future__ import annotations

import re

from quarterdeck_node.grpc_door import open_inference_pb2
from quarterdeck_node.grpc_door.service import SERVICE, STATUS
from tools import protocol
from tools.reference.tables import cell, table

METHOD = re.compile(r"((?: *//.*\n)*) *rpc (\w+)\(")
PAGE = """\
# gRPC: node

The Open Inference Protocol V2 over gRPC, on the port that [`QUARTERDECK_GRPC_PORT`](settings.md) names; without it there
is no such port. Keys go into the metadata, `authorization: Bearer KEY` or `x-api-key: KEY`. Messages are those of
`api_node/quarterdeck_node/grpc_door/open_inference.proto`, with the field numbers that clients of Triton and KServe know.

## `{service}`

Methods that name a deployment ask for a key where it is not public: one that may predict, and for readiness and metadata
one that may read will do.

{methods}
Tensors come with typed contents or raw (never both at once), and answers go the same way. Every answer carries
`x-request-id`, `quarterdeck-model`, `quarterdeck-version`, `quarterdeck-digest` and `quarterdeck-revision` in its metadata.

## Other services

| service | what it does |
| --- | --- |
| `grpc.health.v1.Health` | `Check` and `Watch` of the node (empty name), and of each deployment by its name |
| `grpc.reflection.v1alpha.ServerReflection` | lists the services and their messages, for clients without the file |

## Refusals

The message is what is wrong and the next step; the trailing metadata has `quarterdeck-code`, a code of
[the list](errors.md). The status follows from the code's HTTP status; whatever is not in this table is `INTERNAL`. What comes
later than the call's deadline is refused before the model is asked.

{statuses}"""


def methods() -> dict[str, str]:
    """Each method of the protocol with the comment above it; empty where it has none."""
    text = (protocol.FOLDER / protocol.SOURCE).read_text(encoding="utf-8")
    return {name: cell(comment.replace("//", " ")) for comment, name in METHOD.findall(text)}


def served() -> list[str]:
    """The methods that the compiled protocol has."""
    return [method.name for method in open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]


def page() -> str:
    """The page."""
    rows = [[f"`{name}`", words] for name, words in methods().items()]
    statuses = [[str(status), f"`{said.name}`"] for status, said in STATUS.items()]
    return PAGE.format(
        service=SERVICE,
        methods=table(["method", "what it does"], rows),
        statuses=table(["status over HTTP", "status over gRPC"], statuses),
    )
