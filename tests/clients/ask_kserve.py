"""Run by the clients' own Python: asks a node with KServe's client, in both of its protocols."""

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

DTYPES = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}


async def main() -> None:
    """Print what the node answered."""
    told = json.load(sys.stdin)
    url, name = told["url"], told["name"]
    second = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    said = {
        "live": await second.is_server_live(url),
        "ready": await second.is_server_ready(url) and await second.is_model_ready(url, name),
    }
    for binary in (True, False):
        inputs = []
        for feature, datatype in told["datatypes"].items():
            values: np.ndarray[Any, Any] = np.array(told["columns"][feature], DTYPES[datatype])
            inputs.append(InferInput(feature, list(values.shape), datatype))
            inputs[-1].set_data_from_numpy(values, binary_data=binary)
        asked = InferRequest(name, inputs, request_id="abc", parameters={"binary_data_output": True} if binary else None)
        answer = await second.infer(url, asked, model_name=name)
        found = {output.name: output.as_numpy().tolist() for output in answer.outputs}
        said["binary" if binary else "json"] = {**found, "id": answer.id}
    first = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    said["v1-ready"] = await first.is_model_ready(url, name)
    said["v1"] = await first.infer(url, {"instances": told["rows"]}, model_name=name)
    said["explained"] = await first.explain(url, name, {"instances": told["rows"]})
    try:
        await first.infer(url, {"instances": [{}]}, model_name=name)
    except httpx.HTTPStatusError as error:
        said["refused"] = str(error)
    print(json.dumps(said))


asyncio.run(main())
