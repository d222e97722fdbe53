"""Run by the clients' own Python: asks a node's gRPC door with KServe's client."""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

DTYPES = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}


async def main() -> None:
    """Print what the node answered."""
    told = json.load(sys.stdin)
    client = InferenceGRPCClient(told["url"], retries=0)
    inputs = []
    for feature, datatype in told["datatypes"].items():
        values: np.ndarray[Any, Any] = np.array(told["columns"][feature], DTYPES[datatype])
        inputs.append(InferInput(feature, list(values.shape), datatype))
        inputs[-1].set_data_from_numpy(values, binary_data=True)
    answer = await client.infer(InferRequest(told["name"], inputs, request_id="abc"))
    found = {output.name: _texts(output.as_numpy().tolist()) for output in answer.outputs}
    ready = await client.is_model_ready(told["name"])
    print(json.dumps({"found": {**found, "id": answer.id}, "ready": bool(getattr(ready, "ready", ready))}))


def _texts(values: list[Any]) -> list[Any]:
    # The client gives elements of BYTES as bytes.
    return [value.decode() if isinstance(value, bytes) else value for value in values]


if __name__ == "__main__":
    asyncio.run(main())
