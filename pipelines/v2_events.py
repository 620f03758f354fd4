"""Events as Open Inference Protocol requests, for the command line's own calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import CATALOGUE


def request_body(batch: EventBatch, request_id: str) -> dict[str, Any]:
    """The V2 request that scores a batch: one tensor per field that any of its events carries."""
    n = len(batch)
    inputs = []
    for name, spec in CATALOGUE.fields.items():
        present = batch.present[name]
        if not present.any():
            continue
        values = batch[name].tolist()
        if spec.v2_datatype == "FP64":
            # JSON has no NaN; an absent number travels as 0 beside its mask.
            values = [v if p else 0.0 for v, p in zip(values, present, strict=True)]
        inputs.append({"name": name, "datatype": spec.v2_datatype, "shape": [n], "data": values})
        if not present.all() and spec.v2_datatype in {"INT64", "BOOL", "FP64"}:
            mask = {"name": f"{name}_present", "datatype": "BOOL", "shape": [n], "data": present.tolist()}
            inputs.append(mask)
    return {"id": request_id, "inputs": inputs}


def outputs(answer: dict[str, Any]) -> dict[str, list[Any]]:
    """The output tensors of a V2 answer by name."""
    return {tensor["name"]: np.asarray(tensor["data"]).reshape(-1).tolist() for tensor in answer["outputs"]}
