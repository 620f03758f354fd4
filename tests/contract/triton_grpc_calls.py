"""Calls services with tritonclient's gRPC client: a line of JSON in, a line of JSON out.

A process of its own, because tritonclient and kserve both register the V2 protocol's messages under the same names: one
process cannot import both.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

DTYPES = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}


def infer(client: Any, model: str, request: dict[str, Any]) -> dict[str, Any]:
    """Sends a request that is given in V2's JSON form."""
    inputs = []
    for given in request["inputs"]:
        dtype = DTYPES[given["datatype"]]
        tensor = tritonclient.grpc.InferInput(given["name"], given["shape"], given["datatype"])
        tensor.set_data_from_numpy(np.array(given["data"], dtype).reshape(given["shape"]))
        inputs.append(tensor)
    outputs = [tritonclient.grpc.InferRequestedOutput(output["name"]) for output in request.get("outputs", ())]
    answer = client.infer(model, inputs, outputs=outputs or None, request_id=request.get("id", ""))
    told = answer.get_response()
    found = {}
    for output in told.outputs:
        values = answer.as_numpy(output.name).tolist()
        found[output.name] = [v.decode() if isinstance(v, bytes) else v for v in values]
    return {"id": told.id, "model_name": told.model_name, "model_version": told.model_version, "outputs": found}


def call(line: dict[str, Any]) -> Any:
    with tritonclient.grpc.InferenceServerClient(line["address"]) as client:
        arguments = line["arguments"]
        if line["method"] == "infer":
            return infer(client, **arguments)
        as_json = {"as_json": True} if "metadata" in line["method"] else {}
        return getattr(client, line["method"])(**arguments, **as_json)


if __name__ == "__main__":
    for text in sys.stdin:
        try:
            print(json.dumps({"result": call(json.loads(text))}), flush=True)  # noqa: T201
        except InferenceServerException as error:
            print(json.dumps({"status": error.status(), "message": error.message()}), flush=True)  # noqa: T201
