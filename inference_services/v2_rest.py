"""Plain V2 REST requests and their answers, as bytes: decoded by orjson, without a check that is not needed here.

A request is plain when KServe's own route would take it word for word: JSON, or JSON with binary tensors behind it, of
the types that the services use, without parameters that ask for something special. `decode` leaves every other one,
all malformed ones among them, to KServe's route, so that their answers are KServe's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from inference_services.v2 import DATATYPES, DTYPES, Array, Tensor
from inference_services.v2_model import Outputs

HEADER_LENGTH = "inference-header-content-length"
_SIZE = "binary_data_size"


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A plain request.

    Attributes:
        id: given by the caller, None when not.
        tensors: the inputs.
        wanted: names of the outputs that it asks for.
    """

    id: str | None
    tensors: Sequence[Tensor]
    wanted: Sequence[str]


def decode(body: bytes, header_length: int | None) -> RestRequest | None:
    """Reads a request.

    Args:
        body: of the HTTP request.
        header_length: bytes of JSON at its beginning; None when it is JSON as a whole.

    Returns:
        None when the request is not plain.
    """
    try:
        content = orjson.loads(body if header_length is None else memoryview(body)[:header_length])
        return _request(content, None if header_length is None else body[header_length:])
    except (orjson.JSONDecodeError, _NotPlain):
        return None


def encode(answer_id: str, model_name: str, outputs: Outputs, selected: Sequence[tuple[str, Array]]) -> bytes:
    """The JSON that KServe's route would answer with, byte for byte."""
    tensors = [
        {
            "name": name,
            "shape": values.shape,
            "datatype": DATATYPES[values.dtype],
            "parameters": None,
            "data": values.ravel().tolist(),
        }
        for name, values in selected
    ]
    return orjson.dumps(
        {
            "model_name": model_name,
            "model_version": outputs.version,
            "id": answer_id,
            "parameters": outputs.parameters or None,
            "outputs": tensors,
        }
    )


def encode_request(
    tensors: Mapping[str, Array], parameters: Mapping[str, Mapping[str, str]], outputs: Sequence[str]
) -> tuple[bytes, int]:
    """A plain request: numbers as binary tensors, text in JSON.

    Args:
        tensors: by name; object arrays are text.
        parameters: of tensors, by name.
        outputs: names to ask for; the model's usual ones when empty.

    Returns:
        The body and the length of its JSON.
    """
    inputs, parts = [], [b""]
    for name, values in tensors.items():
        given = parameters.get(name, {})
        entry: dict[str, Any] = {"name": name, "datatype": DATATYPES[values.dtype], "shape": values.shape}
        if values.dtype == object:
            entry |= {"data": values.ravel().tolist(), "parameters": given}
        else:
            parts.append(values.tobytes())
            entry["parameters"] = {**given, _SIZE: values.nbytes}
        inputs.append(entry)
    asked = {"outputs": [{"name": name} for name in outputs]} if outputs else {}
    parts[0] = orjson.dumps({"inputs": inputs, **asked})
    return b"".join(parts), len(parts[0])


class _NotPlain(Exception):
    """A request is one for KServe's own route."""


def _request(content: Any, binary: bytes | None) -> RestRequest:
    _require(isinstance(content, dict) and content.get("parameters") in ({}, None))
    request_id, inputs = content.get("id"), content.get("inputs")
    _require((request_id is None or isinstance(request_id, str)) and isinstance(inputs, list))
    tensors = []
    for entry in inputs:
        tensor = _tensor(entry, binary)
        tensors.append(tensor)
        if tensor.raw:
            binary = (binary or b"")[len(tensor.raw) :]
    _require(not binary)
    return RestRequest(request_id, tensors, _wanted(content.get("outputs")))


def _tensor(entry: Any, binary: bytes | None) -> Tensor:
    """An input tensor, whose bytes, if it has some, come first in `binary`."""
    _require(isinstance(entry, dict))
    name, datatype, shape = entry.get("name"), entry.get("datatype"), entry.get("shape")
    _require(isinstance(name, str) and isinstance(datatype, str) and datatype in DTYPES)
    # Integers, of which a truth value is none.
    _require(isinstance(shape, list) and all(type(size) is int for size in shape))
    parameters, data = entry.get("parameters"), entry.get("data")
    _require(parameters is None or isinstance(parameters, dict))
    parameters = parameters or {}
    raw = None
    if data is None:
        size = parameters.pop(_SIZE, None)
        _require(binary is not None and datatype != "BYTES" and type(size) is int)
        _require(size == math.prod(shape) * DTYPES[datatype].itemsize)
        raw = (binary or b"")[:size]
    _require(raw is not None or isinstance(data, list))
    _require(all(isinstance(value, str) for value in parameters.values()))
    return Tensor(name, datatype, shape, data, raw, parameters)


def _wanted(outputs: Any) -> Sequence[str]:
    _require(outputs is None or isinstance(outputs, list))
    for output in outputs or ():
        _require(
            isinstance(output, dict) and isinstance(output.get("name"), str) and output.get("parameters") in ({}, None)
        )
    return [output["name"] for output in outputs or ()]


def _require(plain: bool) -> None:
    if not plain:
        raise _NotPlain
