"""Open Inference Protocol (V2) tensors to numpy, strictly: what does not fit is refused by name.

The same code serves REST (JSON and binary extension) and gRPC (typed and raw contents): KServe hands all of them over
as one `InferRequest`, and `v2_rest` reads plain REST requests without it. In JSON, `null` in an FP32 or FP64 tensor is
NaN.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from kserve import InferInput, InferRequest
from kserve.protocol.infer_type import deserialize_bytes_tensor
from numpy.typing import NDArray

from inference_services.errors import InvalidRequest

Array = NDArray[Any]
Datatype = Literal["FP64", "FP32", "INT64", "BOOL", "BYTES"]

MAX_BATCH = 1024
DTYPES: dict[str, Any] = {
    "FP64": np.dtype("<f8"),
    "FP32": np.dtype("<f4"),
    "INT64": np.dtype("<i8"),
    "BOOL": np.dtype(np.bool_),
    "BYTES": np.dtype(object),
}
DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
# What a JSON value may be, by datatype: an integer is a number, a truth value is not, null is NaN.
_JSON_TYPES: dict[str, frozenset[type]] = {
    "FP64": frozenset({float, int, type(None)}),
    "FP32": frozenset({float, int, type(None)}),
    "INT64": frozenset({int}),
    "BOOL": frozenset({bool}),
}


class Tensor(NamedTuple):
    """An input tensor as it came.

    Attributes:
        name: its name.
        datatype: V2 datatype in capitals.
        shape: list of integers.
        data: JSON values; unused where `raw` is there.
        raw: the bytes of a binary tensor, None for one in JSON.
        parameters: of the tensor.
    """

    name: str
    datatype: str
    shape: list[int]
    data: Any
    raw: bytes | None
    parameters: Mapping[str, Any]


class Tensors:
    """The input tensors of a request, by name."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        """Indexes the tensors.

        Raises:
            InvalidRequest: there is none, or two share a name.
        """
        self._inputs: dict[str, Tensor] = {}
        for tensor in tensors:
            if tensor.name in self._inputs:
                raise InvalidRequest(f"field {tensor.name!r} is given twice")
            self._inputs[tensor.name] = tensor
        if not self._inputs:
            raise InvalidRequest("the request has no input tensors")

    @classmethod
    def of(cls, request: InferRequest) -> Tensors:
        """The tensors of a request that KServe has decoded.

        Raises:
            InvalidRequest: as above, or one is not a tensor.
        """
        return cls(map(_tensor_of, request.inputs))

    def __contains__(self, name: str) -> bool:
        return name in self._inputs

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._inputs.values())

    def names(self) -> tuple[str, ...]:
        """The names of the given tensors, in request order."""
        return tuple(self._inputs)

    def text_parameter(self, name: str, parameter: str) -> str:
        """A parameter of a tensor.

        Raises:
            InvalidRequest: it is missing or no text.
        """
        value = self._inputs[name].parameters.get(parameter)
        if not isinstance(value, str):
            raise InvalidRequest(f"field {name!r} must have a text as parameter {parameter!r}")
        return value

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


def _tensor_of(tensor: InferInput) -> Tensor:
    name, shape = tensor.name, tensor.shape
    if not isinstance(name, str):
        raise InvalidRequest(f"a tensor's name must be a string, not {name!r:.80}")
    if not isinstance(shape, list) or not all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
        raise InvalidRequest(f"field {name!r} must have a list of integers as shape, not {shape!r:.80}")
    raw = tensor._raw_data  # kserve has no public access to binary contents
    if raw is None and not isinstance(tensor.data, list):
        raise InvalidRequest(f"field {name!r} must have a list as data")
    return Tensor(name, tensor.datatype, shape, tensor.data, raw, tensor.parameters or {})


def _flat(tensor: Tensor) -> Array:
    raw = tensor.raw
    if tensor.datatype == "BYTES":
        return _strings(tensor.name, raw, tensor.data)
    dtype = DTYPES[tensor.datatype]
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
        return np.array(data, DTYPES[datatype])
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
        text = _text(value)
        if text is None:
            reason = "not UTF-8" if isinstance(value, bytes | str) else "not a string"
            raise InvalidRequest(f"field {name!r} holds a value at row {row} that is {reason}")
        result[row] = text
    return result


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) and is_utf8(value) else None


def is_utf8(text: str) -> bool:
    """Whether a text can be sent on: JSON may escape half of a surrogate pair, which has no bytes."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
