"""Hostile requests over REST."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.hostile.values import DATATYPES, HUGE, OUTPUTS, SHAPES, VALUES, Body, raw

HEADER_LENGTH = "inference-header-content-length"
_LENGTHS = (0, -1, 10**9, 10**30, "x", "", "1.5", " 12", "0x10", "1_0")
_JSON, _BINARY = "application/json", "application/octet-stream"
_CONTENT_TYPES = (
    *(_JSON, _BINARY, "text/plain", "application/x-protobuf", "", "multipart/form-data", "a" * 4000, "\x80"),
    *("application/json; charset=utf-16", "application/cloudevents+json", "image/png"),
)
_METHODS = (*["POST"] * 6, "GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW")
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "content-encoding": ("gzip", "br", "deflate", "x"),
    "accept": ("text/html", "application/octet-stream", "*/*;q=x"),
    "traceparent": ("00-zz", "x" * 3000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"),
    "x-request-id": ("x" * 9000, "\x80", "a b", "${x}"),
    "ce-id": ("1",),
    "ce-specversion": ("1.0", "9"),
    "x-" + "y" * 500: ("z" * 4000,),
}
_DEPTHS = (10, 500, 5000, 100_000)


@dataclass(frozen=True)
class RestRequest:
    """A request as bytes on a connection.

    Attributes:
        method: of HTTP.
        path: with its query.
        headers: without content-length.
        body: the content.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def encode(self) -> bytes:
        """With its true length."""
        headers = {"host": "localhost", "content-length": str(len(self.body)), **self.headers}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + self.body


class HostileRest:
    """Makes requests.

    Args:
        model: name of the model.
        valid: a valid request's body.
        seed: the same one gives the same requests.
    """

    def __init__(self, model: str, valid: Body, seed: int) -> None:
        self._valid = valid
        self._rng = random.Random(seed)  # noqa: S311 - a test's choices
        self._breaker = BodyBreaker(self._rng)
        self._path = f"/v2/models/{model}/infer"
        self._paths = (
            *(f"/v2/models/{model}/versions/1/infer", f"/v1/models/{model}:predict", "/v2/models//infer", "/v2"),
            *("/v2/models/another/infer", f"/v2/models/{model}%00/infer", f"/v2/models/{'x' * 3000}/infer"),
            *(f"{self._path}?a=%ff", f"/v2/models/../{model}/infer", f"//{self._path}", f"{self._path}/"),
            *(f"/v2/models/{model}", "/v2/health/ready", "/metrics", f"/v2/models/{model}/ready"),
            *(self._path,) * 10,
        )

    def make(self) -> RestRequest:
        """One request."""
        ways: tuple[Callable[[], RestRequest], ...] = (self._json, self._json, self._text, self._binary, self._form)
        return self._rng.choice(ways)()

    def _json(self) -> RestRequest:
        """JSON of the wrong content."""
        body = self._breaker.broken(self._valid)
        return RestRequest("POST", self._path, {"content-type": _JSON}, _dump(body))

    def _text(self) -> RestRequest:
        """What is not JSON, or not all of it, or too much."""
        whole, rng = _dump(self._valid), self._rng
        at, depth = rng.randrange(len(whole)), rng.choice(_DEPTHS)
        nested = b"[" * depth + b"1" + b"]" * depth
        bodies = (
            *(b"", b"null", b"[]", b'""', b"{}", b"NaN", b"{" * depth, nested, b"\xff\xfe{}\x00", b" " * 100_000),
            *(whole[:at], whole[:at] + b"\x00" + whole[at:], whole[:at] + b"\xc3" + whole[at:], whole + whole),
            *(whole.replace(b":", b": NaN, ", 1), whole.replace(b"1", b"1e999"), b"\xef\xbb\xbf" + whole),
            *(whole.decode().encode("utf-16"), gzip.compress(whole), rng.randbytes(500)),
            b'{"inputs": [{"name": "amount", "datatype": "INT64", "shape": [1], "data": ' + nested + b"}]}",
        )
        return RestRequest("POST", self._path, {"content-type": rng.choice((_JSON, _BINARY))}, rng.choice(bodies))

    def _binary(self) -> RestRequest:
        """The binary extension, with sizes that do not add up."""
        body, parts, rng = copy.deepcopy(self._valid), [], self._rng
        for tensor in body["inputs"]:
            content = raw(tensor)
            if rng.random() < 0.1:
                content = rng.choice((b"", content[:-1], content * 2, rng.randbytes(len(content)), b"\xff" * 9))
            size: Any = len(content)
            if rng.random() < 0.05:
                size = rng.choice((-1, size + 1, size - 1, HUGE, "7", None, 1.5, True, []))
            del tensor["data"]
            tensor["parameters"] = {"binary_data_size": size}
            parts.append(content)
        if rng.random() < 0.3:
            self._breaker.break_tensor(body)
        head = _dump(body)
        length = rng.choice((*_LENGTHS, len(head) - 1, len(head) + 1)) if rng.random() < 0.4 else len(head)
        headers = {"content-type": rng.choice((*(_BINARY,) * 5, *_CONTENT_TYPES)), HEADER_LENGTH: str(length)}
        return RestRequest("POST", self._path, headers, head + b"".join(parts))

    def _form(self) -> RestRequest:
        """A sound body in an unsound request."""
        rng = self._rng
        headers = {"content-type": rng.choice(_CONTENT_TYPES)}
        headers |= {name: rng.choice(values) for name, values in _HEADERS.items() if rng.random() < 0.15}
        return RestRequest(rng.choice(_METHODS), rng.choice(self._paths), headers, _dump(self._valid))


class BodyBreaker:
    """Breaks request bodies.

    Args:
        rng: chooses how.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def broken(self, valid: Body) -> Body:
        """A copy of a valid body, broken in one to three ways."""
        body = copy.deepcopy(valid)
        for _ in range(self._rng.randint(1, 3)):
            self._rng.choice((self.break_tensor, self.break_tensor, self._break_top, self._break_data))(body)
        return body

    def break_tensor(self, body: Body) -> None:
        """A field of one tensor goes, or has a value that it should not have."""
        tensor, rng = self._tensor(body), self._rng
        key = rng.choice(("name", "datatype", "shape", "data", "parameters", "surprise"))
        if rng.random() < 0.2:
            tensor.pop(key, None)
            return
        parameters = [{name: rng.choice(VALUES)} for name in ("binary_data_size", "columns")]
        values = {"datatype": DATATYPES, "shape": SHAPES, "parameters": (*VALUES, *parameters)}
        tensor[key] = rng.choice(values.get(key, VALUES))

    def _tensor(self, body: Body) -> Any:
        inputs = body.get("inputs")
        chosen = self._rng.choice(inputs) if isinstance(inputs, list) and inputs else None
        return chosen if isinstance(chosen, dict) else {}

    def _break_data(self, body: Body) -> None:
        tensor, rng = self._tensor(body), self._rng
        data = tensor.get("data")
        if not isinstance(data, list) or not data:
            return
        at = rng.randrange(len(data))
        much = {"data": data * 2000, "shape": [len(data) * 2000]}
        changed = ({"data": [*data[:at], rng.choice(VALUES), *data[at + 1 :]]}, {"data": data[:-1]}, much)
        tensor.update(rng.choice((*changed, {"data": data * 50}, {"data": [data]})))

    def _break_top(self, body: Body) -> None:
        rng, inputs = self._rng, body.get("inputs")
        key = rng.choice(("inputs", "outputs", "parameters", "id", "surprise"))
        output = {
            "name": rng.choice((*VALUES, *OUTPUTS)),
            "parameters": rng.choice((None, {"binary_data": rng.choice(VALUES)})),
        }
        if key == "outputs":
            body[key] = rng.choice(([output], [output, output], rng.choice(VALUES), [rng.choice(VALUES)]))
        elif key == "inputs" and isinstance(inputs, list) and inputs:
            more = {"name": "x" * 200, "datatype": "FP64", "shape": [1], "data": [1.0]}
            body[key] = rng.choice(([*inputs, inputs[0]], inputs[:-1], [*inputs, rng.choice(VALUES)], [*inputs, more]))
        else:
            body[key] = rng.choice(VALUES)


def _dump(value: Any) -> bytes:
    # Not orjson, which knows neither NaN nor integers of more than 64 bits.
    return json.dumps(value).encode()
