"""A KServe model that answers V2 requests and no others: what it is asked is tensors, whoever has decoded them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kserve import InferOutput, InferRequest, InferResponse, Model

from inference_services.errors import InvalidRequest
from inference_services.request_context import adopt
from inference_services.v2 import DATATYPES, Array, Tensors, is_utf8


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model answers.

    Attributes:
        arrays: by name: float64, float32, int64, bool or object (str).
        version: label of the answering model.
        parameters: response parameters, for example the revision.
    """

    arrays: Mapping[str, Array]
    version: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)

    def selected(self, wanted: Sequence[str]) -> list[tuple[str, Array]]:
        """The named outputs in the order of `wanted`; all when it is empty.

        Raises:
            InvalidRequest: one does not exist.
        """
        for name in wanted:
            if name not in self.arrays:
                raise InvalidRequest(f"output {name!r} does not exist; there are {', '.join(self.arrays)}")
        return [(name, self.arrays[name]) for name in wanted or self.arrays]


class V2Model(Model):
    """Base of our models.

    KServe's own route calls `predict`, `DirectRoute` calls `answer`; `preprocess` and `postprocess` stay KServe's,
    which do nothing.

    Attributes:
        version: label of what is served, answered as `model_version`.
        eager: whether `answer` may run outside of a task up to its first wait (see `eager.start`).
    """

    version: str
    eager: ClassVar[bool] = False

    @abstractmethod
    async def answer(self, tensors: Tensors, wanted: Sequence[str]) -> Outputs:
        """Answers one request.

        Args:
            tensors: its inputs.
            wanted: names of the outputs that it asks for; empty when it leaves the choice to the model.

        Raises:
            InvalidRequest: a tensor or an output name is not valid. Nothing has happened then: the request may be tried
                again.
        """

    def answered(self, outputs: Outputs) -> None:
        """Called once for each answer, to count what it says."""

    async def predict(
        self, payload: InferRequest, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        """Answers what KServe has decoded.

        Raises:
            InvalidRequest: it is not V2, or not valid.
        """
        del headers, response_headers
        if not isinstance(payload, InferRequest):
            raise InvalidRequest(f"{self.name} speaks the V2 protocol only: POST /v2/models/{self.name}/infer")
        wanted = tuple(str(output.name) for output in payload.request_outputs or ())
        if not is_utf8(str(payload.id or "")):
            raise InvalidRequest("the request's id is not UTF-8")
        outputs = await self.answer(Tensors.of(payload), wanted)
        response = _response(payload, self.name, outputs, wanted)
        self.answered(outputs)
        return response


def _response(request: InferRequest, model_name: str, outputs: Outputs, wanted: Sequence[str]) -> InferResponse:
    tensors = []
    for name, values in outputs.selected(wanted):
        tensor = InferOutput(name=name, shape=list(values.shape), datatype=DATATYPES[values.dtype], data=values)
        if request.from_grpc:
            # KServe 0.21 answers raw gRPC inputs with an array's truth value, an error, unless the bytes are set here.
            tensor.set_data_from_numpy(values, binary_data=True)
        tensors.append(tensor)
    return InferResponse(
        response_id=adopt(str(request.id or "")),
        model_name=model_name,
        infer_outputs=tensors,
        model_version=outputs.version,
        parameters=dict(outputs.parameters) or None,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )
