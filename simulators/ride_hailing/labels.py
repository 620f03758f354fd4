"""What the company finds out about its events, days late and not without mistakes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from simulators.ride_hailing.geography import DAY_S, Floats
from simulators.ride_hailing.settings import WorldSettings

LABEL_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("is_fraud", pa.bool_()),
        ("typology", pa.string()),
        ("source", pa.string()),
        ("observed_at", pa.timestamp("us", "UTC")),
    ]
)
_MISS_RATE = 0.1
_MEAN_DELAY_S = 2.5 * DAY_S
_MAX_DELAY_S = 9 * DAY_S
_MIN_DELAY_S = 2 * 3600.0
REVIEWER_SENSITIVITY = 0.9
REVIEWER_SPECIFICITY = 0.995
# A bank disputes charges; the rest is found by the company's own audits.
_CHARGED_BACK = ("payment_authorized", "refund_claimed")


def label(events: pa.Table, settings: WorldSettings, day: int) -> pa.Table:
    """Labels of the scored events among those published on day `day`, most of them observed later.

    Args:
        events: columns event_id, event_type, event_timestamp, typology (null: honest).
        settings: the world's settings.
        day: the day, which seeds the draws.

    Returns:
        LABEL_SCHEMA; an event can have several labels from different sources.
    """
    rng = settings.rng("labels", day)
    scored = events.filter(pc.is_in(events["event_type"], pa.array(SCORED_EVENT_TYPES)))
    fraud = scored["typology"].is_valid().to_numpy()
    n = len(fraud)
    parts = []
    found = fraud & (rng.random(n) >= _MISS_RATE)
    charged = pc.is_in(scored["event_type"], pa.array(_CHARGED_BACK)).to_numpy()
    delay = np.clip(rng.exponential(_MEAN_DELAY_S, n), _MIN_DELAY_S, _MAX_DELAY_S)
    for source, rows in (("chargeback", found & charged), ("audit", found & ~charged)):
        parts.append(_labels(scored, rows, fraud, source, delay))
    opinion = np.where(fraud, rng.random(n) < REVIEWER_SENSITIVITY, rng.random(n) >= REVIEWER_SPECIFICITY)
    draw = rng.random(n)
    reviewed = draw < settings.review_share
    parts.append(_labels(scored, reviewed, opinion, "reviewer", rng.uniform(600, DAY_S, n)))
    # The holdout's positives get a second opinion, so its label is the truth.
    held = ~reviewed & (draw < settings.review_share + settings.holdout_share)
    parts.append(_labels(scored, held, fraud, "holdout", rng.uniform(0.5, 3, n) * DAY_S))
    return pa.concat_tables(parts)


def _labels(events: pa.Table, rows: np.ndarray, verdict: np.ndarray, source: str, delay: Floats) -> pa.Table:
    chosen = events.filter(pa.array(rows))
    is_fraud = verdict[rows]
    observed = chosen["event_timestamp"].cast(pa.int64()).to_numpy() + (delay[rows] * 1e3).astype(np.int64) * 1000
    # A reviewer who suspects an honest event has no scheme to name.
    typology = [name if yes else None for name, yes in zip(chosen["typology"].to_pylist(), is_fraud, strict=True)]
    columns = {
        "event_id": chosen["event_id"].combine_chunks(),
        "is_fraud": pa.array(is_fraud, pa.bool_()),
        "typology": pa.array(typology, pa.string()),
        "source": pa.array([source] * len(is_fraud), pa.string()),
        "observed_at": pa.array(observed, LABEL_SCHEMA.field("observed_at").type),
    }
    return pa.Table.from_pydict(columns, schema=LABEL_SCHEMA)
