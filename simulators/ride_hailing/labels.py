"""What the company finds out about its events, late and not without mistakes.

| source | which events | who can err |
|---|---|---|
| chargeback, audit | fraud that comes to light by itself, see `label_behaviour`; never what was blocked | misses |
| reviewer | a random sample, and what the policy sent to review | misses, and false accusations |
| holdout | random trips that the policy may not block | misses; two reviewers must agree on an accusation |

Labels are selective: a fraud that was blocked harms nobody, so nobody complains. Only the holdout and the reviewers
see what the policy's mistakes would be.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from simulators.ride_hailing.geography import DAY_S, Floats, Mask
from simulators.ride_hailing.label_behaviour import found
from simulators.ride_hailing.settings import TYPOLOGIES, WorldSettings

LABEL_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("is_fraud", pa.bool_()),
        ("typology", pa.string()),
        ("source", pa.string()),
        ("observed_at", pa.timestamp("us", "UTC")),
    ]
)
_REVIEW_S = (600.0, DAY_S)
# An event is sent up to six hours late, and its holdout label is due 24 hours after it happened.
_HOLDOUT_S = (1800.0, 17.5 * 3600)
# Odd multipliers that spread a counter's bits; the first is splitmix64's (Steele et al., 2014).
_GOLDEN, _MIX = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93


def held_out(events: pa.Table, settings: WorldSettings) -> Mask:
    """Whether each event belongs to the randomised holdout, shape [n]: whole trips, else single events.

    A function of the trip's id and the seed, so that a refund two days later shares its trip's fate.
    """
    key = pc.coalesce(events["trip_id"], events["event_id"]).combine_chunks()
    seeded = np.uint64((settings.seed + 1) * _MIX % 2**64)
    draw = _hex_tail(key) * np.uint64(_GOLDEN) ^ seeded
    draw = (draw ^ (draw >> np.uint64(32))) * np.uint64(_MIX)
    share: Mask = (draw >> np.uint64(11)) * 2.0**-53 < settings.holdout_share
    return share


def label(events: pa.Table, settings: WorldSettings, day: int) -> pa.Table:
    """Labels of the scored events among those published on day `day`, most of them observed later.

    Args:
        events: columns event_id, trip_id, event_type, sent_at, typology (null: honest) and decision.
        settings: the world's settings.
        day: the day, which seeds the draws.

    Returns:
        LABEL_SCHEMA; an event can have several labels from different sources. Delays run from `sent_at`.
    """
    rng = settings.rng("labels", day)
    scored = events.filter(pc.is_in(events["event_type"], pa.array(SCORED_EVENT_TYPES)))
    code = pc.index_in(scored["typology"], pa.array(TYPOLOGIES, pa.string())).fill_null(-1).to_numpy() + 1
    fraud, n = code > 0, len(code)
    held = held_out(scored, settings)
    harmful, charged, delay = found(code, rng)
    harmful &= pc.not_equal(scored["decision"], "block").to_numpy() | held
    first, second = (_opinion(fraud, settings, rng) for _ in range(2))
    reviewed = (rng.random(n) < settings.review_share) | pc.equal(scored["decision"], "review").to_numpy()
    return pa.concat_tables(
        [
            _labels(scored, harmful & charged, fraud, "chargeback", delay),
            _labels(scored, harmful & ~charged, fraud, "audit", delay),
            _labels(scored, reviewed & ~held, first, "reviewer", rng.uniform(*_REVIEW_S, n)),
            _labels(scored, held, first & second, "holdout", rng.uniform(*_HOLDOUT_S, n)),
        ]
    )


def _opinion(fraud: Mask, settings: WorldSettings, rng: np.random.Generator) -> Mask:
    draw = rng.random(len(fraud))
    verdict: Mask = np.where(fraud, draw < settings.reviewer_sensitivity, draw >= settings.reviewer_specificity)
    return verdict


def _hex_tail(ids: pa.Array) -> np.ndarray:
    """The last 15 hexadecimal digits of each id as a number, uint64 of shape [n]."""
    text = np.ascontiguousarray(ids.to_numpy(zero_copy_only=False).astype("S"))
    if len(text) == 0:
        return np.empty(0, np.uint64)
    width = text.dtype.itemsize
    characters = text.view(np.uint8).reshape(len(text), width)
    # Prefixes ("trip-", "evt-") differ in length: right-align by each id's own length.
    length = np.char.str_len(text)
    columns = length[:, None] - 15 + np.arange(15)
    digits = np.take_along_axis(characters, columns, axis=1).astype(np.uint64)
    digits -= np.where(digits > ord("9"), np.uint64(ord("a") - 10), np.uint64(ord("0")))
    value: np.ndarray = digits @ (np.uint64(16) ** np.arange(14, -1, -1, dtype=np.uint64))
    return value


def _labels(events: pa.Table, rows: Mask, verdict: Mask, source: str, delay: Floats) -> pa.Table:
    chosen = events.filter(pa.array(rows))
    is_fraud = verdict[rows]
    observed = chosen["sent_at"].cast(pa.int64()).to_numpy() + (delay[rows] * 1e3).astype(np.int64) * 1000
    # A reviewer who suspects an honest event has no scheme to name.
    typology = pc.if_else(pa.array(is_fraud, pa.bool_()), chosen["typology"].combine_chunks(), None)
    columns = {
        "event_id": chosen["event_id"].combine_chunks(),
        "is_fraud": pa.array(is_fraud, pa.bool_()),
        "typology": typology.cast(pa.string()),
        "source": pa.array([source] * len(is_fraud), pa.string()),
        "observed_at": pa.array(observed, LABEL_SCHEMA.field("observed_at").type),
    }
    return pa.Table.from_pydict(columns, schema=LABEL_SCHEMA)
