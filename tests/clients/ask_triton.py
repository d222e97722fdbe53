"""Run by the clients' own Python: asks a node with NVIDIA's tritonclient over HTTP, as JSON and as bytes."""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

DTYPES = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}


def main() -> None:
    """Print what the node answered."""
    told = json.load(sys.stdin)
    client = triton.InferenceServerClient(told["url"].removeprefix("http://"))
    name, version = told["name"], told["version"]
    metadata = client.get_model_metadata(name, version)
    said = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready() and client.is_model_ready(name) and client.is_model_ready(name, version),
        "server": client.get_server_metadata(),
        "index": client.get_model_repository_index(),
        "inputs": metadata["inputs"],
    }
    for binary in (True, False):
        inputs = []
        for one in metadata["inputs"]:
            values: np.ndarray[Any, Any] = np.array(told["columns"][one["name"]], DTYPES[one["datatype"]])
            inputs.append(triton.InferInput(one["name"], list(values.shape), one["datatype"]))
            inputs[-1].set_data_from_numpy(values, binary_data=binary)
        wanted = [triton.InferRequestedOutput(output["name"], binary_data=binary) for output in metadata["outputs"]]
        # Without a list of outputs the client asks for all of them as bytes.
        for outputs in (wanted, None):
            result = client.infer(name, inputs, model_version=version, outputs=outputs, request_id="abc")
            found = {output["name"]: result.as_numpy(output["name"]).tolist() for output in metadata["outputs"]}
            said[f"{'binary' if binary else 'json'}{'' if outputs else '-all'}"] = {**found, "id": result.get_response()["id"]}
    try:
        client.infer(name, inputs[1:])
    except InferenceServerException as error:
        said["refused"] = error.message()
    print(json.dumps(said))


main()
