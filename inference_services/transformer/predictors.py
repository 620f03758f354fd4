"""An asynchronous V2 client with a deadline: an answer in time, or PredictorGone.

Numbers travel as binary tensors, text and answers in JSON: `v2_rest.encode_request`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from inference_services.errors import PredictorGone
from inference_services.tracing import client_call
from inference_services.transformer.http_pool import HttpAnswer
from inference_services.v2_rest import HEADER_LENGTH, encode_request

_OK = 200
_HEADERS = b"content-type: application/octet-stream\r\n" + HEADER_LENGTH.encode() + b": %d\r\n"


class Transport(Protocol):
    """What carries requests to a server: `HttpPool`, or a test's own."""

    async def post(self, path: str, headers: bytes, body: bytes) -> HttpAnswer:
        """Sends one request; raises OSError when there is no answer."""


@dataclass(frozen=True)
class Answer:
    """What a predictor answered.

    Attributes:
        outputs: output tensors by name, float64.
        version: the answering model's version label, "<version>-<sha12>".
        parameters: response parameters, such as the revision.
    """

    outputs: Mapping[str, NDArray[np.float64]]
    version: str
    parameters: Mapping[str, Any]


class V2Client:
    """Calls one model over REST.

    Args:
        server: where it is.
        model: model name in the path.
        headers: makes the headers of each call, beside those of the content: printable ASCII.
        parameters: of those input tensors that have some, by name.
    """

    def __init__(
        self,
        server: Transport,
        model: str,
        headers: Callable[[], Mapping[str, str]] = dict,
        parameters: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._server = server
        self._headers = headers
        self._parameters = parameters or {}
        self._path = f"/v2/models/{model}/infer"
        self.model = model

    @client_call
    async def infer(
        self,
        tensors: Mapping[str, NDArray[Any]],
        rows: int | Mapping[str, int],
        deadline: float,
        outputs: Sequence[str] = (),
    ) -> Answer:
        """Sends the tensors and reads the answer.

        Args:
            tensors: arrays by name; object arrays travel as BYTES.
            rows: length that every output must have; by name where they differ.
            deadline: the event loop's time by which the answer must be there, seconds.
            outputs: names to ask for; the model's usual ones when empty.

        Raises:
            PredictorGone: no answer by the deadline, an error status, or an answer that is not V2.
        """
        body, length = encode_request(tensors, self._parameters, outputs)
        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._server.post(self._path, self._head(length), body)
        except TimeoutError:
            raise PredictorGone(f"{self.model} did not answer in time") from None
        except OSError as error:
            raise PredictorGone(f"{self.model} is unreachable: {error!r}") from None
        if answer.status != _OK:
            said = answer.body.decode(errors="replace")
            raise PredictorGone(f"{self.model} answered {answer.status}: {said:.200}")
        return self._read(answer.body, rows)

    def _head(self, length: int) -> bytes:
        given = "".join(f"{name}: {value}\r\n" for name, value in self._headers().items())
        return _HEADERS % length + given.encode("ascii")

    def _read(self, content: bytes, rows: int | Mapping[str, int]) -> Answer:
        try:
            body = orjson.loads(content)
            values = {o["name"]: np.array(o["data"], np.float64).reshape(o["shape"]) for o in body["outputs"]}
            answer = Answer(values, str(body["model_version"]), dict(body.get("parameters") or {}))
        except (KeyError, TypeError, ValueError) as error:
            raise PredictorGone(f"{self.model} gave an answer that is not V2: {error!r}") from None
        for name, array in values.items():
            expected = rows if isinstance(rows, int) else rows.get(name)
            if array.shape[:1] != (expected,) or not np.isfinite(array).all():
                raise PredictorGone(f"{self.model} gave a {name!r} that is not {expected} finite rows")
        return answer
