"""Open Inference Protocol (V2) tensors to numpy and back, strictly: what does not fit is refused by name.

The same code serves REST (JSON and binary extension) and gRPC (typed and raw contents), because KServe hands all of
them over as one `InferRequest`. In JSON, `null` in an FP32 or FP64 tensor is NaN.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.protocol.infer_type import deserialize_bytes_tensor
from numpy.typing import NDArray

from inference_services.errors import InvalidRequest
from inference_services.request_context import adopt

Array = NDArray[Any]
Datatype = Literal["FP64", "FP32", "INT64", "BOOL", "BYTES"]

MAX_BATCH = 1024
_DTYPES: dict[str, Any] = {
    "FP64": np.dtype("<f8"),
    "FP32": np.dtype("<f4"),
    "INT64": np.dtype("<i8"),
    "BOOL": np.dtype(np.bool_),
    "BYTES": np.dtype(object),
}
_DATATYPES = {dtype: name for name, dtype in _DTYPES.items()}
# What a JSON value may be, by datatype: an integer is a number, a truth value is not, null is NaN.
_JSON_TYPES: dict[str, frozenset[type]] = {
    "FP64": frozenset({float, int, type(None)}),
    "FP32": frozenset({float, int, type(None)}),
    "INT64": frozenset({int}),
    "BOOL": frozenset({bool}),
}


class Tensors:
    """The input tensors of a request, by name."""

    def __init__(self, request: InferRequest) -> None:
        """Indexes the tensors.

        Raises:
            InvalidRequest: there is none, or two share a name.
        """
        self._inputs: dict[str, InferInput] = {}
        for tensor in request.inputs:
            _check_form(tensor)
            if tensor.name in self._inputs:
                raise InvalidRequest(f"field {tensor.name!r} is given twice")
            self._inputs[tensor.name] = tensor
        if not self._inputs:
            raise InvalidRequest("the request has no input tensors")

    def __contains__(self, name: str) -> bool:
        return name in self._inputs

    def names(self) -> tuple[str, ...]:
        """The names of the given tensors, in request order."""
        return tuple(self._inputs)

    def array(self, name: str, datatypes: Datatype | Sequence[Datatype], shape: Sequence[int | None]) -> Array:
        """Returns one tensor; BYTES as an object array of str, the others in their own dtype.

        Args:
            name: tensor name.
            datatypes: accepted V2 datatype or datatypes.
            shape: expected shape, None for a free dimension (which may be 0).

        Raises:
            InvalidRequest: the tensor is missing or of another datatype, shape or size.
        """
        if name not in self._inputs:
            raise InvalidRequest(f"field {name!r} is missing")
        tensor = self._inputs[name]
        accepted = (datatypes,) if isinstance(datatypes, str) else tuple(datatypes)
        if tensor.datatype not in accepted:
            raise InvalidRequest(
                f"field {name!r} must have datatype {' or '.join(accepted)}, not {tensor.datatype!r:.20}"
            )
        given = list(tensor.shape)
        if len(given) != len(shape) or any(
            g < 0 or (s is not None and g != s) for g, s in zip(given, shape, strict=True)
        ):
            wanted = ", ".join("n" if s is None else str(s) for s in shape)
            raise InvalidRequest(f"field {name!r} must have shape [{wanted}], not {given!r:.80}")
        flat = _flat(tensor)
        if flat.size != math.prod(given):
            raise InvalidRequest(f"field {name!r} has shape {given} but {flat.size} values")
        return flat.reshape(given)

    def vector(self, name: str, datatypes: Datatype | Sequence[Datatype], n: int | None = None) -> Array:
        """Returns one tensor of shape [n]; any length when n is None."""
        return self.array(name, datatypes, (n,))

    def batch_size(self, names: Sequence[str], limit: int = MAX_BATCH) -> int:
        """Returns n, the common length of those of the named tensors that are given, each of shape [n].

        Raises:
            InvalidRequest: none is given, their lengths differ, or n is not between 1 and `limit`.
        """
        first: str | None = None
        n = 0
        for name in names:
            if name not in self._inputs:
                continue
            shape = list(self._inputs[name].shape)
            if len(shape) != 1:
                raise InvalidRequest(f"field {name!r} must have shape [n], not {shape!r:.80}")
            if first is None:
                first, n = name, shape[0]
            elif shape[0] != n:
                raise InvalidRequest(f"field {name!r} has {shape[0]} rows, but field {first!r} has {n}")
        if first is None:
            raise InvalidRequest(f"field {names[0]!r} is missing")
        check_batch(first, n, limit)
        return n


def check_batch(name: str, n: int, limit: int = MAX_BATCH) -> None:
    """Raises InvalidRequest unless 1 <= n <= limit; `name` is the field that gave n."""
    if n < 1:
        raise InvalidRequest(f"field {name!r} is empty; a request carries 1 to {limit} rows")
    if n > limit:
        raise InvalidRequest(f"field {name!r} has {n} rows; a request carries 1 to {limit} rows")


def respond(
    request: InferRequest,
    model_name: str,
    outputs: Mapping[str, Array],
    version: str | None = None,
    parameters: Mapping[str, str] | None = None,
) -> InferResponse:
    """Builds the answer; without an id in the request it carries that of the context.

    Args:
        request: what is answered; its `outputs`, when given, select from `outputs`.
        model_name: name of the answering model.
        outputs: arrays by name; float64, float32, int64, bool or object (str).
        version: the answering model's version label.
        parameters: response parameters, for example the revision.

    Raises:
        InvalidRequest: the request asks for an output that is not among `outputs`.
    """
    wanted = requested_outputs(request)
    for name in wanted or ():
        if name not in outputs:
            raise InvalidRequest(f"output {name!r} does not exist; there are {', '.join(outputs)}")
    tensors = []
    for name in wanted or outputs:
        values = outputs[name]
        datatype = _DATATYPES[values.dtype]
        tensor = InferOutput(name=name, shape=list(values.shape), datatype=datatype, data=values)
        if request.from_grpc:
            # KServe 0.21 answers raw gRPC inputs with an array's truth value, an error, unless the bytes are set here.
            tensor.set_data_from_numpy(values, binary_data=True)
        tensors.append(tensor)
    return InferResponse(
        response_id=adopt(str(request.id or "")),
        model_name=model_name,
        infer_outputs=tensors,
        model_version=version,
        parameters=dict(parameters) if parameters else None,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def requested_outputs(request: InferRequest) -> tuple[str, ...]:
    """The output names that the request asks for; empty when it leaves the choice to the model."""
    return tuple(str(output.name) for output in request.request_outputs or ())


def _check_form(tensor: InferInput) -> None:
    if not isinstance(tensor.name, str):
        raise InvalidRequest(f"a tensor's name must be a string, not {tensor.name!r:.80}")
    shape = tensor.shape
    if not isinstance(shape, list) or not all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
        raise InvalidRequest(f"field {tensor.name!r} must have a list of integers as shape, not {shape!r:.80}")
    if tensor._raw_data is None and not isinstance(tensor.data, list):
        raise InvalidRequest(f"field {tensor.name!r} must have a list as data")


def _flat(tensor: InferInput) -> Array:
    raw = tensor._raw_data  # kserve has no public access to binary contents
    if tensor.datatype == "BYTES":
        return _strings(tensor.name, raw, tensor.data)
    dtype = _DTYPES[tensor.datatype]
    if raw is not None:
        if len(raw) % dtype.itemsize:
            raise InvalidRequest(f"field {tensor.name!r} has {len(raw)} bytes, not a multiple of {dtype.itemsize}")
        if dtype == np.bool_:
            truth: Array = np.frombuffer(raw, np.uint8) != 0
            return truth
        return np.frombuffer(raw, dtype)
    return _numbers(tensor.name, tensor.datatype, tensor.data)


def _numbers(name: str, datatype: str, data: list[Any]) -> Array:
    accepted = _JSON_TYPES[datatype]
    # Python's types, because numpy would take "1.5" and True for numbers.
    if not accepted.issuperset(map(type, data)):
        if any(isinstance(value, list) for value in data):
            return _numbers(name, datatype, _flatten(name, data))
        row = next(i for i, value in enumerate(data) if type(value) not in accepted)
        raise InvalidRequest(f"field {name!r} holds a value at row {row} that is not {datatype}")
    try:
        return np.array(data, _DTYPES[datatype])
    except OverflowError:
        raise InvalidRequest(f"field {name!r} holds a value that does not fit {datatype}") from None


def _flatten(name: str, data: list[Any]) -> list[Any]:
    if len({len(value) if isinstance(value, list) else -1 for value in data}) > 1:
        raise InvalidRequest(f"field {name!r} is ragged")
    return [value for row in data for value in row]


def _strings(name: str, raw: bytes | None, data: Any) -> Array:
    try:
        values = data if raw is None else deserialize_bytes_tensor(raw)
    except struct.error:
        raise InvalidRequest(f"field {name!r} is not a length-prefixed BYTES tensor") from None
    values = [] if values is None else list(values)
    result = np.empty(len(values), object)
    for row, value in enumerate(values):
        if isinstance(value, bytes):
            try:
                result[row] = value.decode()
            except UnicodeDecodeError:
                raise InvalidRequest(f"field {name!r} is not UTF-8 at row {row}") from None
        elif isinstance(value, str):
            result[row] = value
        else:
            raise InvalidRequest(f"field {name!r} holds a value at row {row} that is not a string")
    return result
