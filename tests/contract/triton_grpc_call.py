"""Calls a predictor with tritonclient's gRPC client and prints one output as JSON.

A script of its own, because tritonclient and kserve both register the V2 protocol's messages under the same names: one
process cannot import both.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc

if __name__ == "__main__":
    address, model, columns_json, wanted = sys.argv[1:]
    inputs = []
    for name, values in json.loads(columns_json).items():
        array = np.array(values, object if isinstance(values[0], str) else np.float64)
        tensor = tritonclient.grpc.InferInput(name, [len(array)], "BYTES" if array.dtype == object else "FP64")
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    with tritonclient.grpc.InferenceServerClient(address) as client:
        print(json.dumps(client.infer(model, inputs).as_numpy(wanted).tolist()))  # noqa: T201
