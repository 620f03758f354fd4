"""What judging an event needs beside its label: who belongs together, and on what phone it happened."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]  # it ships none
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

# Riders who ever shared one of these are one household, one dormitory or one ring. Drivers are left out: each meets
# hundreds of strangers, so that all of a city would be one cluster.
_SHARED = ("device_id", "payment_instrument_id")
# A cluster with more than this share of the events is no household or ring, and would leave nothing to resample.
MOST_IN_A_CLUSTER = 0.05


def event_context(events: pa.Table) -> pd.DataFrame:
    """The columns `cluster` and `device_gps_accuracy_m` by event_id.

    Args:
        events: event log; event_id, event_type, rider_id, device_id, payment_instrument_id and gps_accuracy_m are read.

    Returns:
        cluster: int64, the connected component of riders over shared phones and payment instruments; the rider alone
            where a component would hold more than `MOST_IN_A_CLUSTER` of all events.
        device_gps_accuracy_m: float64, the median radius that the phone reported when it asked for trips, metres; NaN
            for one that never did. The radius of a completed trip is the driver's phone's.
    """
    columns = ["event_id", "event_type", "rider_id", *_SHARED, "gps_accuracy_m"]
    frame = events.select(columns).to_pandas()
    asked = frame[frame["event_type"] == "trip_requested"]
    usual = asked.groupby("device_id")["gps_accuracy_m"].median()
    return pd.DataFrame(
        {
            "cluster": clusters(frame["rider_id"], [frame[name] for name in _SHARED]),
            "device_gps_accuracy_m": frame["device_id"].map(usual).to_numpy(float),
        },
        index=pd.Index(frame["event_id"], name="event_id"),
    )


def clusters(rider: pd.Series, shared: list[pd.Series]) -> NDArray[np.int64]:
    """The cluster of each of n events.

    Args:
        rider: rider of each event, [n].
        shared: ids that tie riders together, [n] each, null where an event has none.
    """
    of_rider, riders = pd.factorize(rider)
    rows, columns, nodes = [of_rider], [of_rider], len(riders)
    for ids in shared:
        code, names = pd.factorize(ids)
        known = code >= 0
        rows.append(of_rider[known])
        columns.append(nodes + code[known])
        nodes += len(names)
    row, column = np.concatenate(rows), np.concatenate(columns)
    links = coo_array((np.ones(len(row), np.int8), (row, column)), shape=(nodes, nodes))
    component = connected_components(links, directed=False)[1][: len(riders)].astype(np.int64)
    share = np.bincount(component[of_rider]) / max(len(of_rider), 1)
    alone = share[component] > MOST_IN_A_CLUSTER
    component[alone] = nodes + np.flatnonzero(alone)
    return np.asarray(component[of_rider], np.int64)
