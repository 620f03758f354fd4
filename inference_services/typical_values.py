"""What honest events look like, feature by feature: `typical_values.json` of a LightGBM bundle.

The training step writes it, the LightGBM predictor sends the part that concerns a request's events beside their
contributions, and the transformer compares with it. It steers no score; a bundle without it explains without comparing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from inference_services.bundle import Bundle
from inference_services.errors import BundleError

FILE = "typical_values.json"
# Response parameter of the LightGBM predictor: JSON, event type -> feature -> [low, median, high].
PARAMETER = "typical_values"
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True)
class Typical:
    """The 5th, 50th and 95th percentile of a feature among honest events."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class TypicalValues:
    """The file of one bundle.

    Attributes:
        everywhere: the features' percentiles among honest events of all types, as JSON.
        by_type: the same of each event type that had enough of them.
    """

    everywhere: bytes
    by_type: Mapping[str, bytes]

    @classmethod
    def read(cls, bundle: Bundle) -> TypicalValues | None:
        """Reads the file of a bundle, None when it has none.

        Raises:
            BundleError: the file is there and not in this format.
        """
        if not (bundle.folder / FILE).exists():
            return None
        content = bundle.read_json(FILE)
        try:
            if tuple(content["quantiles"]) != QUANTILES:
                raise ValueError(f"quantiles must be {list(QUANTILES)}")
            parts = {"": content["all"], **content["event_types"]}
            known = {name: parse_features(part["values"]) for name, part in parts.items()}
            if any(len(known[name]) < len(part["values"]) for name, part in parts.items()):
                raise ValueError("a feature needs three finite numbers that do not fall")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{FILE} of {bundle.folder} cannot be used: {error!r}") from None
        encoded = {name: orjson.dumps(part["values"]) for name, part in parts.items()}
        return cls(encoded.pop(""), encoded)

    def parameter(self, event_types: Iterable[str]) -> str:
        """The JSON for a response about events of these types; a type without its own values gets those of all."""
        parts = {name: orjson.Fragment(self.by_type.get(name, self.everywhere)) for name in sorted(set(event_types))}
        return orjson.dumps(parts).decode()


def parse_parameter(text: object) -> dict[str, dict[str, Typical]]:
    """Reads `PARAMETER`; whatever does not have its form is left out, because a comparison is never needed."""
    try:
        content = orjson.loads(text) if isinstance(text, str) else {}
    except orjson.JSONDecodeError:
        return {}
    parts = content.items() if isinstance(content, dict) else ()
    return {name: parse_features(part) for name, part in parts if isinstance(part, dict)}


def parse_features(part: Mapping[str, Any]) -> dict[str, Typical]:
    """The features of one event type whose values are three finite numbers that do not fall."""
    return {name: Typical(*map(float, values)) for name, values in part.items() if _is_typical(values)}


def _is_typical(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) == len(QUANTILES)
        and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
        and values == sorted(values)
    )
