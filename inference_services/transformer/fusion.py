"""Combines the two models' calibrated log-odds by the fusion bundle, and turns the probability into a decision."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from inference_services.alarm_groups import Offsets, alarm_groups, alarm_offset, read_offsets
from inference_services.bundle import Bundle, verify
from inference_services.calibration import FULL, NO_GRAPH, NO_STORE, sigmoid
from inference_services.errors import BundleError
from inference_services.model_names import FUSION

Vector = NDArray[np.float64]
_Key = tuple[str | None, str | None, str]
# Probability of an event that no model could score.
UNKNOWN = -1.0
_MASKS = (FULL, NO_GRAPH, NO_STORE)
_SHA12, _SHA256 = re.compile(r"[0-9a-f]{12}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Combination:
    """log-odds = lightgbm_weight * l + gnn_weight * g + intercept."""

    lightgbm_weight: float
    gnn_weight: float
    intercept: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Probabilities from which on an event is reviewed, and blocked; 0 <= review <= block <= 1."""

    review: float
    block: float

    def __post_init__(self) -> None:
        if not 0 <= self.review <= self.block <= 1:
            raise ValueError(f"thresholds must rise within [0, 1]: review {self.review}, block {self.block}")


def decide(thresholds: Mapping[str, Thresholds], event_type: NDArray[Any], probability: Vector) -> NDArray[np.object_]:
    """ "allow", "review" or "block" for each of n events; one that no model could score is reviewed.

    Args:
        thresholds: by event type.
        event_type: [n].
        probability: of `alarm_groups.alarm_score`, [n].
    """
    review = np.array([thresholds[name].review for name in event_type])
    block = np.array([thresholds[name].block for name in event_type])
    reviewed = (probability >= review) | (probability == UNKNOWN)
    return np.where(probability >= block, "block", np.where(reviewed, "review", "allow")).astype(object)


@dataclass(frozen=True)
class Score:
    """One model's answer for n events: calibrated log-odds [n], and the content id of the version that gave it."""

    log_odds: Vector
    sha12: str


@dataclass(frozen=True)
class Fused:
    """The outcome for n events.

    Attributes:
        probability: fraud probability [n], UNKNOWN where no model counts.
        used_lightgbm: whether LightGBM's score counts.
        used_gnn: whether the graph model's score counts.
    """

    probability: Vector
    used_lightgbm: bool
    used_gnn: bool


@dataclass(frozen=True)
class Fusion:
    """A loaded fusion bundle.

    Attributes:
        bundle: where it came from.
        pairs: a row for each pair that may answer, and for each model alone, by availability mask.
        thresholds: by scored event type.
        lightgbm: content id of the LightGBM version that it was made for.
        gnn: content id of the graph model that it was made for.
        policy_sha256: hash of the policy under which the thresholds are the cheapest.
        alarm_offsets: log-odds to take off before a decision, by division and group; none in older bundles.
    """

    bundle: Bundle
    pairs: Mapping[_Key, Combination]
    thresholds: Mapping[str, Thresholds]
    lightgbm: str
    gnn: str
    policy_sha256: str
    alarm_offsets: Offsets

    @classmethod
    def load(cls, folder: Path) -> Fusion:
        """Verifies and reads a fraud-fusion bundle.

        Raises:
            BundleError: the bundle is altered, or its table or thresholds cannot be used.
        """
        bundle = verify(folder, FUSION)
        content = bundle.read_json("fusion.json")
        try:
            pairs = _pairs(content["pairs"])
            thresholds = _thresholds(content["thresholds"])
            lightgbm, gnn = _content_id(content["lightgbm"]), _content_id(content["gnn"])
            offsets = read_offsets(content.get("alarm_offsets", {}))
            policy = str(content["policy_sha256"])
            if not _SHA256.fullmatch(policy):
                raise ValueError(f"policy_sha256 {policy!r:.80} is not a hash")
            if (lightgbm, gnn, FULL) not in pairs:
                raise ValueError(f"no row for the pair that it was made for, LightGBM {lightgbm} with GNN {gnn}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"fusion.json of {folder} cannot be used: {error!r}") from None
        return cls(bundle, pairs, thresholds, lightgbm, gnn, policy, offsets)

    @property
    def gnn_versions(self) -> tuple[str, ...]:
        """Content ids of the graph models that may answer, each of which needs its own embeddings."""
        return tuple(sorted({gnn for _, gnn, _ in self.pairs if gnn is not None}))

    @property
    def knows_missing_graphs(self) -> bool:
        """Whether a graph model may be asked about events whose embeddings cannot be read; not in older bundles."""
        return any(gnn is not None and mask == NO_GRAPH for _, gnn, mask in self.pairs)

    def offset(self, city: NDArray[Any], tenure_days: Vector) -> Vector:
        """The log-odds to take off each of n events before it is decided, [n]; `alarm_groups` says of what."""
        if not self.alarm_offsets:
            return np.zeros(len(city))
        return alarm_offset(self.alarm_offsets, alarm_groups(city, tenure_days), len(city))

    def combine(self, lightgbm: Score | None, gnn: Score | None, mask: str, n: int) -> Fused:
        """Combines what answered; a pair that the table does not know falls back to one model, LightGBM first.

        Args:
            lightgbm: LightGBM's answer, None when it is gone.
            gnn: the graph model's answer, None when it is gone.
            mask: availability mask of the events: FULL, NO_GRAPH or NO_STORE.
            n: number of events.
        """
        choices = [(lightgbm, gnn), (lightgbm, None), (None, gnn)]
        for left, right in choices:
            key = (left.sha12 if left else None, right.sha12 if right else None, mask)
            row = self.pairs.get(key)
            if row is not None and (left or right):
                log_odds = np.full(n, row.intercept)
                if left:
                    log_odds += row.lightgbm_weight * left.log_odds
                if right:
                    log_odds += row.gnn_weight * right.log_odds
                return Fused(sigmoid(log_odds), left is not None, right is not None)
        return Fused(np.full(n, UNKNOWN), False, False)


def _pairs(entries: Any) -> dict[_Key, Combination]:
    pairs: dict[_Key, Combination] = {}
    for entry in entries:
        key, row = _pair(entry)
        if key in pairs:
            raise ValueError(f"two rows for {key}")
        pairs[key] = row
    return pairs


def _pair(entry: Mapping[str, Any]) -> tuple[_Key, Combination]:
    lightgbm, gnn = (None if entry[name] is None else _content_id(entry[name]) for name in ("lightgbm", "gnn"))
    mask = entry["mask"]
    left, right = (float(w or 0.0) for w in entry["weights"])
    intercept = float(entry["intercept"])
    if lightgbm is None and gnn is None:
        raise ValueError("a pair names no model")
    if mask not in _MASKS or not all(map(math.isfinite, (left, right, intercept))):
        raise ValueError(f"pair {lightgbm}, {gnn} needs a mask of {', '.join(_MASKS)} and finite weights")
    return (lightgbm, gnn, mask), Combination(left, right, intercept)


def _content_id(value: Any) -> str:
    if not isinstance(value, str) or not _SHA12.fullmatch(value):
        raise ValueError(f"{value!r:.80} is not a content id of 12 hex digits")
    return value


def _thresholds(content: Mapping[str, Any]) -> dict[str, Thresholds]:
    for missing in sorted(set(SCORED_EVENT_TYPES) - set(content)):
        raise ValueError(f"no thresholds for {missing}")
    for unknown in sorted(set(content) - set(SCORED_EVENT_TYPES)):
        raise ValueError(f"thresholds for {unknown!r:.80}, which is not an event type that is scored")
    limits = {name: content[name] for name in SCORED_EVENT_TYPES}
    return {name: Thresholds(float(both["review"]), float(both["block"])) for name, both in limits.items()}
