"""Which requests go the direct way, by their first lines: plain inference, of a known length, for a model of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kserve.model_repository import ModelRepository

from inference_services.asgi import BINARY, JSON, Header
from inference_services.v2_model import V2Model
from inference_services.v2_rest import HEADER_LENGTH

_PREFIX, _SUFFIX, _VERSIONS = b"/v2/models/", b"/infer", "/versions/"
_READ = b"content-type", b"content-length", HEADER_LENGTH.encode()
_JSON_KINDS = frozenset({JSON, b"application/json; charset=utf-8"})
# Of an honest length. Python makes no integer of a text of thousands, be they all zeros.
_MOST_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Form:
    """How a plain request is written.

    Attributes:
        model: that it asks.
        length: bytes of its body.
        header_length: bytes of JSON at the beginning of the body; None when it is JSON as a whole.
    """

    model: V2Model
    length: int
    header_length: int | None


def form_of(url: bytes, headers: Sequence[Header], models: ModelRepository) -> Form | None:
    """The form of a POST request; None when it is for KServe's route."""
    model = _model(url, models)
    if model is None:
        return None
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ:
            if name in found:
                return None
            found[name] = value
        elif name.startswith(b"ce-"):  # a CloudEvent is answered with one
            return None
    kind, length, header_length = map(found.get, _READ)
    if length is None or len(length) > _MOST_DIGITS:
        return None
    # tritonclient names no type.
    if header_length is None:
        return Form(model, int(length), None) if kind is None or kind in _JSON_KINDS else None
    plain = header_length.isdigit() and len(header_length) <= _MOST_DIGITS and kind in (None, BINARY)
    return Form(model, int(length), int(header_length)) if plain else None


def _model(url: bytes, models: ModelRepository) -> V2Model | None:
    if not (url.startswith(_PREFIX) and url.endswith(_SUFFIX) and url.isascii()):
        return None
    name, versioned, version = url[len(_PREFIX) : -len(_SUFFIX)].decode().partition(_VERSIONS)
    model = models.get_model(name)
    return model if isinstance(model, V2Model) and (not versioned or version == model.version) else None
