"""What the transformer counts of its decisions, a batch at a time."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge

from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.tiles import LONGEST_WINDOW_S
from inference_services.batch_histogram import BatchHistogram, Series
from inference_services.metrics import LATENCY_BUCKETS, PROBABILITY
from inference_services.served import Served
from inference_services.tracing import span
from inference_services.transformer.decision_batch import DecisionBatch
from inference_services.transformer.predictors import Answer
from inference_services.v2 import Array

VERSION = ("model_version", "revision")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

STAGE = BatchHistogram(
    "fraud_transformer_stage_seconds", "Time spent in one stage of a decision.", ["stage"], LATENCY_BUCKETS
)
DECISIONS = Counter("fraud_decisions", "Decisions given.", ["event_type", "decision", *VERSION])
DEGRADED = Counter(
    "fraud_degraded", "Decisions given without one of the parts, for each that was missing.", ["missing", *VERSION]
)
DEGRADED_DECISIONS = Counter("fraud_degraded_decisions", "Decisions given without at least one of the parts.", VERSION)
SCORES = Counter(
    "fraud_predictor_scores",
    "Scores that predictors gave for decisions, by the version that answered.",
    ["predictor", "predictor_version"],
)
FEATURE_AGE = BatchHistogram(
    "fraud_feature_age_seconds",
    "From the latest event in the features of an event's entity to the event, for entities with a past.",
    ["entity"],
    (1, 10, _MINUTE, 10 * _MINUTE, _HOUR, 6 * _HOUR, _DAY, 7 * _DAY, 30 * _DAY),
)
NO_PAST = Counter(
    "fraud_entities_without_past", "Entities of decided events that had no events in 30 days.", ["entity"]
)
SEEN = Gauge(
    "fraud_seen_sequence", "Highest number of an event that a decision has seen; compare with fraud_worker_sequence."
)


class timed:  # noqa: N801 - used as a function
    """Observes the duration of a stage, and makes it a span."""

    __slots__ = ("_begun", "_series", "_span")

    def __init__(self, stage: str) -> None:
        self._series = stage_series(stage)
        self._span = span(stage)

    def __enter__(self) -> None:
        self._span.__enter__()
        self._begun = perf_counter()

    def __exit__(self, *error: Any) -> None:
        self._series.observe_one(perf_counter() - self._begun)
        self._span.__exit__(*error)


@cache
def stage_series(stage: str) -> Series:
    """The durations of a stage, seconds."""
    return STAGE.labels(stage=stage)


class DecisionMetrics:
    """Counts the decisions of one process."""

    def __init__(self, served: Served) -> None:
        version = {"model_version": served.model_version, "revision": served.revision}
        self._probability = PROBABILITY.labels(**served.labels())
        self._ages = {kind: FEATURE_AGE.labels(entity=kind) for kind in ENTITY_KINDS}
        # Series are found once: looking one up by its labels costs more than counting.
        self._decisions = cache(lambda kind, decision: DECISIONS.labels(kind, decision, *version.values()))
        self._degraded = cache(lambda part: DEGRADED.labels(part, *version.values()))
        self._degraded_decisions = DEGRADED_DECISIONS.labels(**version)
        self._scores = cache(SCORES.labels)
        self._seen = 0

    def observe(self, decided: DecisionBatch) -> None:
        """Counts n decisions that were made together."""
        outputs = decided.outputs
        pairs = zip(decided.batch["event_type"].tolist(), outputs["decision"].tolist(), strict=True)
        for (event_type, decision), n in Tally(pairs).items():
            self._decisions(event_type, decision).inc(n)
        for missing, n in Tally(outputs["degraded"].tolist()).items():
            if missing:
                self._degraded_decisions.inc(n)
                for part in missing.split(","):
                    self._degraded(part).inc(n)
        probability = outputs["fraud_probability"]
        self._probability.observe(probability[probability >= 0])
        self._observe_answer("lightgbm", decided.lightgbm, len(decided))
        self._observe_answer("gnn", decided.gnn, len(decided))
        self._observe_features(decided)

    def _observe_answer(self, predictor: str, answer: Answer | None, n: int) -> None:
        if answer is not None:
            self._scores(predictor, answer.version).inc(n)

    def _observe_features(self, decided: DecisionBatch) -> None:
        newest = int(decided.sequence.max())
        if newest > self._seen:
            self._seen = newest
            SEEN.set(newest)
        for kind, series in self._ages.items():
            ages: NDArray[Any] = decided.features[f"{kind}_age_s"][decided.batch.present[f"{kind}_id"]]
            known = ages[ages < LONGEST_WINDOW_S]
            series.observe(known)
            if without := len(ages) - len(known) - int(np.isnan(ages).sum()):
                NO_PAST.labels(kind).inc(without)


def span_attributes(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """What the span of a request says of its decisions."""
    decisions = Tally(outputs["decision"].tolist())
    missing = sorted({part for parts in set(outputs["degraded"].tolist()) for part in parts.split(",") if part})
    return {
        "fraud.rows": decisions.total(),
        **{f"fraud.decisions.{decision}": n for decision, n in decisions.items()},
        "fraud.degraded": ",".join(missing),
    }
