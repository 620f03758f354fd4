"""An asynchronous V2 client with a deadline: an answer in time, or PredictorGone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from inference_services.errors import PredictorGone

_DATATYPES = {"f8": "FP64", "f4": "FP32", "i8": "INT64", "b1": "BOOL"}
_HEADERS = {"content-type": "application/json"}


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
        base_url: http(s)://host[:port].
        model: model name in the path.
        http: the shared HTTP client; tests give one with their own transport.
        headers: makes the headers of each call, beside those of the content.
    """

    def __init__(
        self, base_url: str, model: str, http: httpx.AsyncClient, headers: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/v2/models/{model}/infer"
        self._http = http
        self._headers = headers
        self.model = model

    async def infer(
        self,
        tensors: Mapping[str, NDArray[Any]],
        rows: int | Mapping[str, int],
        deadline: float,
        outputs: Sequence[str] = (),
    ) -> Answer:
        """Sends the tensors and reads the answer.

        Args:
            tensors: arrays by name; object arrays travel as BYTES, NaN as null.
            rows: length that every output must have; by name where they differ.
            deadline: the event loop's time by which the answer must be there, seconds.
            outputs: names to ask for; the model's usual ones when empty.

        Raises:
            PredictorGone: no answer by the deadline, an error status, or an answer that is not V2.
        """
        request = {
            "inputs": [_tensor(name, values) for name, values in tensors.items()],
            **({"outputs": [{"name": name} for name in outputs]} if outputs else {}),
        }
        content = orjson.dumps(request, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._http.post(self._url, content=content, headers={**_HEADERS, **self._headers()})
        except TimeoutError:
            raise PredictorGone(f"{self.model} did not answer in time") from None
        except httpx.HTTPError as error:
            raise PredictorGone(f"{self.model} is unreachable: {error!r}") from None
        if response.status_code != httpx.codes.OK:
            raise PredictorGone(f"{self.model} answered {response.status_code}: {response.text:.200}")
        return self._read(response.content, rows)

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


def _tensor(name: str, values: NDArray[Any]) -> dict[str, Any]:
    if values.dtype == object:
        return {"name": name, "datatype": "BYTES", "shape": values.shape, "data": values.tolist()}
    flat = np.ascontiguousarray(values).ravel()
    return {"name": name, "datatype": _DATATYPES[values.dtype.str[1:]], "shape": values.shape, "data": flat}
