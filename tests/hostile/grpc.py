"""Hostile requests over gRPC."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

from tests.hostile.values import DATATYPES, OUTPUTS, Body, numbers, raw

_FIELDS = {"FP64": "fp64", "FP32": "fp32", "INT64": "int64", "BOOL": "bool", "BYTES": "bytes"}
_NAMES = ("", "x", "é" * 100, "\x00", "probability")
_SIZES = (0, -1, 1, 2**62, -(2**63))
_PARAMETERS = (("bool_param", True), ("int64_param", -(2**63)), ("string_param", "é,,x"), ("string_param", ""))


class HostileGrpc:
    """Makes requests.

    Args:
        model: name of the model.
        valid: a valid request's body, as REST has it.
        seed: the same one gives the same requests.
    """

    def __init__(self, model: str, valid: Body, seed: int) -> None:
        self._model, self._valid = model, valid
        self._rng = random.Random(seed)  # noqa: S311 - a test's choices

    def make(self) -> ModelInferRequest:
        """One request."""
        request = self._sound()
        ways = (self._break_tensor, self._break_contents, self._break_raw, self._break_rest)
        for _ in range(self._rng.randint(1, 3)):
            self._rng.choice(ways)(request)
        return request

    def noise(self) -> bytes:
        """A message of which some bytes were changed, or that is none at all."""
        if self._rng.random() < 0.3:
            return self._rng.randbytes(self._rng.choice((0, 1, 7, 100, 3000)))
        content = bytearray(self.make().SerializeToString())
        for _ in range(min(self._rng.randint(1, 8), len(content))):
            content[self._rng.randrange(len(content))] = self._rng.randrange(256)
        return bytes(content)

    def _sound(self) -> ModelInferRequest:
        request, packed = ModelInferRequest(model_name=self._model), self._rng.random() < 0.5
        for tensor in self._valid["inputs"]:
            item = request.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
            if packed:
                request.raw_input_contents.append(raw(tensor))
            else:
                field, values = _FIELDS[tensor["datatype"]], numbers(tensor)
                texts = [str(value).encode() for value in values]
                getattr(item.contents, f"{field}_contents").extend(texts if field == "bytes" else values)
        return request

    def _tensor(self, request: ModelInferRequest) -> Any:
        return self._rng.choice(request.inputs) if request.inputs else request.inputs.add()

    def _parameter(self) -> Any:
        made = ModelInferRequest().parameters["x"]
        setattr(made, *self._rng.choice(_PARAMETERS))
        return made

    def _break_tensor(self, request: ModelInferRequest) -> None:
        tensor, choice = self._tensor(request), self._rng.choice
        ways: tuple[Callable[[], Any], ...] = (
            lambda: setattr(tensor, "name", choice(_NAMES)),
            lambda: setattr(tensor, "datatype", choice([d for d in DATATYPES if isinstance(d, str)])),
            lambda: tensor.shape.append(choice(_SIZES)),
            lambda: tensor.ClearField("shape"),
            lambda: tensor.parameters[choice(("binary_data_size", "columns"))].CopyFrom(self._parameter()),
        )
        choice(ways)()

    def _break_raw(self, request: ModelInferRequest) -> None:
        contents, rng = request.raw_input_contents, self._rng
        if not contents:
            contents.append(b"\x00")
            return
        at = rng.randrange(len(contents))
        whole = contents[at]
        if rng.random() < 0.2:
            contents.pop()
        else:
            contents[at] = rng.choice((b"", whole[:-1], whole * 3, rng.randbytes(len(whole)), b"\xff" * 1000))

    def _break_contents(self, request: ModelInferRequest) -> None:
        contents = self._tensor(request).contents
        ways: tuple[Callable[[], Any], ...] = (
            lambda: contents.fp64_contents.extend([float("nan"), float("inf")]),
            lambda: contents.bytes_contents.extend([b"\xff", b"\x00" * 50]),
            lambda: contents.int64_contents.append(-(2**63)),
            lambda: contents.uint64_contents.append(2**64 - 1),
            lambda: contents.bool_contents.append(True),
            contents.Clear,
        )
        self._rng.choice(ways)()

    def _break_rest(self, request: ModelInferRequest) -> None:
        choice = self._rng.choice
        ways: tuple[Callable[[], Any], ...] = (
            lambda: request.ClearField("inputs"),
            lambda: request.inputs.add().CopyFrom(self._tensor(request)),
            lambda: setattr(request, "id", choice(("", "x" * 9000, "é", "\x00"))),
            lambda: setattr(request, "model_version", choice(("1", "x" * 500))),
            lambda: request.outputs.add(name=choice(OUTPUTS)),
            lambda: request.parameters["binary_data_output"].CopyFrom(self._parameter()),
            lambda: setattr(request, "model_name", choice(("", "another"))),
        )
        choice(ways)()
