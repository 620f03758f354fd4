"""What the company knew at an instant of its entities' frauds: events confirmed and cleared by labels seen by then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from feature_repo.labels import LABEL_SOURCES

Ints = NDArray[np.int64]
_DAY_US = 86_400_000_000
LABEL_FEATURES: tuple[str, ...] = ("log_confirmed_frauds", "log_cleared", "fraud_recency", "has_confirmed_fraud")


@dataclass(frozen=True)
class LabelHistory:
    """k labels of a log's events, the most trusted source's latest word last among the labels of an event.

    Attributes:
        event: row of the event in the log, [k].
        observed_us: when the label became known, [k].
        is_fraud: what it says, [k].
    """

    event: Ints
    observed_us: Ints
    is_fraud: NDArray[np.bool_]

    @classmethod
    def read(cls, labels: pa.Table | None, event_id: NDArray[np.object_]) -> LabelHistory:
        """Reads labels; those of events that the log does not have are passed over.

        Args:
            labels: event_id, is_fraud, source, observed_at; None where there are none.
            event_id: ids of the log's events, [n].
        """
        if labels is None or not len(labels):
            none = np.zeros(0, np.int64)
            return cls(none, none, np.zeros(0, np.bool_))
        event = pd.Index(event_id).get_indexer(pd.Index(labels.column("event_id").to_numpy(zero_copy_only=False)))
        observed = labels.column("observed_at").cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
        ranks = {source: rank for rank, source in enumerate(LABEL_SOURCES)}
        rank = np.array([ranks.get(source, len(ranks)) for source in labels.column("source").to_pylist()], np.int64)
        is_fraud = labels.column("is_fraud").to_numpy(zero_copy_only=False).astype(np.bool_)
        # Of two words at one instant the graver counts, as in training and in the profiles.
        order = np.lexsort((is_fraud, observed, -rank))
        order = order[event[order] >= 0]
        return cls(event[order].astype(np.int64), observed[order], is_fraud[order])

    def features(
        self, as_of_us: int, since_us: int, *, arrived: int, entities: Ints, event_us: Ints, m: int
    ) -> NDArray[np.float64]:
        """Returns `LABEL_FEATURES` of the log's m entities, [m, 4], from labels observed before an instant.

        Args:
            as_of_us: labels observed then or later do not exist.
            since_us: events before that are forgotten.
            arrived: how many of the log's events had arrived by then.
            entities: the entities of the log's events, -1 where there is none, [n, 4].
            event_us: event times, [n].
            m: number of entities.
        """
        known = (self.observed_us < as_of_us) & (self.event < arrived) & (event_us[self.event] >= since_us)
        verdict = dict(zip(self.event[known].tolist(), self.is_fraud[known].tolist(), strict=True))
        event = np.fromiter(verdict, np.int64, len(verdict))
        fraud = np.fromiter(verdict.values(), np.bool_, len(verdict))
        which, kind = np.nonzero(entities[event] >= 0)
        entity, is_fraud = entities[event[which], kind], fraud[which]
        confirmed = np.bincount(entity[is_fraud], minlength=m)
        cleared = np.bincount(entity[~is_fraud], minlength=m)
        last = np.zeros(m, np.int64)
        np.maximum.at(last, entity[is_fraud], event_us[event[which]][is_fraud])
        recency = np.where(confirmed > 0, 1 / (1 + (as_of_us - last) / _DAY_US), 0.0)
        return np.column_stack([np.log1p(confirmed), np.log1p(cleared), recency, confirmed > 0])
