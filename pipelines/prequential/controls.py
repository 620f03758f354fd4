"""Controls: what must fall to nothing when its cause is taken away, and a leak that must be found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_MOVED = ("driver_id", "device_id", "payment_instrument_id")
# Two ways of computing one feature may round apart by this much, relative to its size.
_SAME = 1e-9


def shuffle_edges(log: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Permutes who drives, which phone and which card, among the trips of a city and day.

    Every driver, phone and card keeps its number of trips on every day, so degrees stay; who meets whom is chance.
    All events of a trip move together; an event without a trip is a unit of its own.
    """
    frame = log.select(["event_id", "trip_id", "city", *_MOVED]).to_pandas()
    unit = frame["trip_id"].fillna(frame["event_id"])
    day = pc.floor_temporal(log["event_timestamp"], unit="day").to_pandas()
    for name in _MOVED:
        position = log.schema.get_field_index(name)
        moved = _permuted(frame[name], unit, frame["city"].astype(str) + day.astype(str), rng)
        log = log.set_column(position, log.schema.field(position), pa.array(moved, pa.string(), from_pandas=True))
    return log


def _permuted(ids: pd.Series, unit: pd.Series, block: pd.Series, rng: np.random.Generator) -> pd.Series:
    first = pd.DataFrame({"id": ids, "unit": unit, "block": block}).dropna(subset=["id"]).drop_duplicates("unit")
    # Two orders of the same blocks: by position within a block, and at random within it.
    code = pd.factorize(first["block"])[0]
    here = np.argsort(code, kind="stable")
    there = np.lexsort((rng.random(len(code)), code))
    new = np.empty(len(code), object)
    new[here] = first["id"].to_numpy()[there]
    return unit.map(pd.Series(new, index=first["unit"].to_numpy())).where(ids.notna())


def shuffle_labels(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Permutes y within each split and event type: the rates of fraud stay, what goes with it is chance."""
    y = frame["y"].to_numpy(float, copy=True)
    for rows in frame.groupby(["split", "event_type"], sort=True).indices.values():
        y[rows] = rng.permutation(y[rows])
    return frame.assign(y=y)


def leaked(frame: pd.DataFrame, events: pd.DataFrame, feature: str) -> pd.DataFrame:
    """A frame whose `feature` looks ahead: the number of events of the event's rider in the 24 hours after it.

    Args:
        frame: with event_id and `feature`.
        events: event_id, rider_id and event_timestamp of the log that the frame is of.
        feature: the column to replace.
    """
    order = events.sort_values(["rider_id", "event_timestamp"], kind="stable")
    rider = pd.factorize(order["rider_id"])[0].astype(np.int64)
    at = order["event_timestamp"].astype("datetime64[us, UTC]").astype(np.int64).to_numpy()
    # One number line on which riders lie far apart, so that one search counts for all.
    span = int(at.max() - at.min()) + 2 * 86_400_000_000
    line = rider * span + (at - at.min())
    ahead = np.searchsorted(line, line + 86_400_000_000, side="right") - np.searchsorted(line, line, side="right")
    counts = pd.Series(ahead.astype(float), index=order["event_id"].to_numpy())
    return frame.assign(**{feature: frame["event_id"].map(counts).to_numpy(float)})


def looks_ahead(whole: pd.DataFrame, prefix: pd.DataFrame) -> dict[str, int]:
    """Columns that depend on what came after, and in how many events.

    A value that is known when an event arrives is the same whether or not the log goes on. Both frames are of the same
    events: computed from the whole log, and from the log cut off.

    Args:
        whole: n events by event_id (index).
        prefix: the same n.

    Raises:
        ValueError: the events differ.
    """
    if not whole.index.equals(prefix.index):
        raise ValueError("both frames must be of the same events in the same order")
    found = {}
    for name in whole.columns:
        a, b = whole[name].to_numpy(), prefix[name].to_numpy()
        if a.dtype.kind in "OUS" or b.dtype.kind in "OUS":
            differs = a.astype(str) != b.astype(str)
        else:
            differs = ~np.isclose(a.astype(float), b.astype(float), rtol=_SAME, atol=_SAME, equal_nan=True)
        if differs.any():
            found[str(name)] = int(differs.sum())
    return found
