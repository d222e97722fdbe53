"""Run by the clients' own Python: asks a node's gRPC door with NVIDIA's tritonclient."""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

DTYPES = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}


def main() -> None:
    """Print what the node answered."""
    told = json.load(sys.stdin)
    client = triton.InferenceServerClient(told["url"])
    name, version = told["name"], told["version"]
    metadata = client.get_model_metadata(name, version)
    inputs = []
    for one in metadata.inputs:
        values: np.ndarray[Any, Any] = np.array(told["columns"][one.name], DTYPES[one.datatype])
        inputs.append(triton.InferInput(one.name, list(values.shape), one.datatype))
        inputs[-1].set_data_from_numpy(values)
    result = client.infer(name, inputs, model_version=version, request_id="abc")
    said = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready() and client.is_model_ready(name, version),
        "inputs": [one.name for one in metadata.inputs],
        "found": {output.name: _texts(result.as_numpy(output.name).tolist()) for output in metadata.outputs},
    }
    said["found"]["id"] = result.get_response().id
    try:
        client.infer(name, inputs[1:])
    except InferenceServerException as error:
        said["refused"] = [error.status(), error.message()]
    print(json.dumps(said))


def _texts(values: list[Any]) -> list[Any]:
    # The client gives elements of BYTES as bytes.
    return [value.decode() if isinstance(value, bytes) else value for value in values]


if __name__ == "__main__":
    main()
