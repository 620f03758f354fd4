"""Why an event was flagged: what raised LightGBM's score most, as sentences beside the figures that they rest on.

TreeSHAP contributions add up to the score (Lundberg et al. 2020, "From local explanations to global understanding with
explainable AI for trees", Nature Machine Intelligence 2), so what features that measure the same contribute together is
their sum: groups are ranked by it, and the strongest feature of a group speaks for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feature_repo.feature_names import STORE_FEATURES
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.tiles import ACTIVITY_KINDS
from inference_services.transformer.feature_sentences import EVENT, SENTENCES, FeatureSentence
from inference_services.transformer.words import NOUNS
from inference_services.typical_values import Typical

MAX_FEATURE_REASONS = 3
STORE_GONE = "the feature store did not answer, so the past of this event's rider, driver, device and card is unknown"
NO_MODEL = "no model could score this event, so a person decides"
# A contribution that moves the odds by less than five per cent is no reason.
LEAST_CONTRIBUTION = 0.05
# Entity kind -> the ids without which an event has none.
_IDS = {kind: activity.id_fields for kind, activity in ACTIVITY_KINDS.items()}
_STORE_FEATURES = frozenset(STORE_FEATURES)
_NAMES_NO = "the event names no"
_STORE, _TYPE = "store", "event_type"


@dataclass(frozen=True, slots=True)
class FeatureReason:
    """A measure that raised LightGBM's score.

    Attributes:
        text: the sentence.
        feature: the strongest feature of the measure, which the sentence tells.
        value: its value, None where unknown.
        typical: what it is among honest events of the same type, None where that is not known or not comparable.
        contribution: what all features of the measure add to LightGBM's raw score (log-odds).
    """

    text: str
    feature: str
    value: float | str | None
    typical: Typical | None
    contribution: float
    kind: Literal["feature"] = "feature"


@dataclass(frozen=True, slots=True)
class RuleReason:
    """A rule that decided in the models' place.

    Attributes:
        text: the rule's description.
        rule: its name; None for the default where no model could score and no rule decided.
    """

    text: str
    rule: str | None = None
    kind: Literal["rule"] = "rule"


def feature_reasons(
    contributions: NDArray[np.float64],
    features: Sequence[str],
    values: Mapping[str, Any],
    named: Set[str],
    typical: Mapping[str, Typical],
) -> list[FeatureReason]:
    """The measures that raised the score, the strongest first; at most MAX_FEATURE_REASONS.

    Args:
        contributions: what each feature adds to the raw score (log-odds), shape [F] or [F + 1] with the bias last.
        features: the F feature names.
        values: the event's feature values by name; NaN is unknown.
        named: the entity kinds that the event names.
        typical: what is typical of the event's type, by feature; may be empty.
    """
    event_type = str(values.get("event_type", ""))
    groups: dict[str, list[tuple[float, str]]] = {}
    for name, contribution in zip(features, contributions, strict=False):
        if name in SENTENCES:
            group = _group(name, _plain(values.get(name)), named, event_type)
            groups.setdefault(group, []).append((float(contribution), name))
    totals = {group: sum(contribution for contribution, _ in members) for group, members in groups.items()}
    raised = sorted((g for g in groups if totals[g] >= LEAST_CONTRIBUTION), key=lambda g: -totals[g])
    found = []
    for group in raised[:MAX_FEATURE_REASONS]:
        name = _TYPE if group == _TYPE else max(groups[group])[1]
        value = _plain(values.get(name))
        shared = _shared_sentence(group)
        usual = None if shared or value is None or SENTENCES[name].amount is None else typical.get(name)
        text = shared or _sentence(SENTENCES[name], value, usual, event_type)
        found.append(FeatureReason(text, name, value, usual, totals[group]))
    return found


def _group(name: str, value: float | str | None, named: Set[str], event_type: str) -> str:
    """What the feature gives a reason together with: its measure, or what took its value away and that of others."""
    sentence = SENTENCES[name]
    if name in _STORE_FEATURES and value is None:
        return _STORE
    if value is None and sentence.types is not None and event_type not in sentence.types:
        return _TYPE
    absent = _absent(sentence.subject, named)
    return f"{_NAMES_NO} {absent}" if absent else sentence.group


def _shared_sentence(group: str) -> str | None:
    if group == _STORE:
        return STORE_GONE
    return group if group.startswith(_NAMES_NO) else None


def _absent(subject: str, named: Set[str]) -> str | None:
    """What the event would have to name for it to have this entity."""
    if subject == EVENT:
        return None
    kinds = [field.removesuffix("_id") for field in _IDS[subject]]
    first = next((kind for kind in kinds if kind not in named), None)
    return NOUNS[first] if first else None


def _sentence(sentence: FeatureSentence, value: float | str | None, usual: Typical | None, event_type: str) -> str:
    if value is None:
        return sentence.unknown
    said = sentence.say(value)
    if usual is None or sentence.amount is None or isinstance(value, str):
        return said
    # Within the usual range the range is told: the value counts only together with others.
    within = usual.low <= value <= usual.high and usual.low < usual.high
    amounts = [sentence.amount(v) for v in ((usual.low, usual.high) if within else (usual.median,))]
    return f"{said}; {sentence.peers(event_type)} {sentence.usual.format(' to '.join(dict.fromkeys(amounts)))}"


def _plain(value: Any) -> float | str | None:
    """The value as JSON takes it; None for what is unknown or not a number that exists."""
    if isinstance(value, str):
        return value or None
    return float(value) if value is not None and math.isfinite(value) else None


def named_kinds(present: Mapping[str, NDArray[np.bool_]], row: int) -> frozenset[str]:
    """The entity kinds that an event names, from the presence masks of its batch."""
    return frozenset(kind for kind in ENTITY_KINDS if present[f"{kind}_id"][row])
