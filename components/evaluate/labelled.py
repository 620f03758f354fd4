"""The labelled events that scores are judged on, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.errors import TooFewLabels
from components.evaluate.fairness import device_tier
from inference_services.alarm_groups import Offsets, alarm_offset, alarm_score, tenure_band

Vector = NDArray[np.float64]
Names = NDArray[np.object_]

# Columns of a scores frame that are no pair's probability.
CONTEXT_COLUMNS = (
    "event_id",
    "event_type",
    "event_timestamp",
    "rider_id",
    "y",
    "typology",
    "split",
    "city",
    "rider_tenure_days",
    "device_gps_accuracy_m",
    "cluster",
)


@dataclass(frozen=True)
class Labelled:
    """n labelled events at native prevalence.

    Attributes:
        y: 1.0 fraud, 0.0 honest, [n].
        event_type: [n].
        day: code of the UTC day, 0 to days - 1, [n].
        days: how many days.
        typology: of fraud, None elsewhere and where it is not known, [n].
        cluster: what is resampled together, [n].
        groups: by division (city, device tier, tenure), the group of each event, [n].
    """

    y: Vector
    event_type: Names
    day: NDArray[np.int64]
    days: int
    typology: Names
    cluster: NDArray[np.int64]
    groups: Mapping[str, Names]

    @classmethod
    def of(cls, frame: pd.DataFrame, name: str = "the period judged") -> Labelled:
        """Reads event_type, event_timestamp, rider_id, y, typology, and, where there are, the columns of groups.

        Args:
            frame: labelled events; `cluster` falls back on the rider, and a division without its column is left out.
            name: of the period, for the error.

        Raises:
            TooFewLabels: there is no fraud, or no honest event.
        """
        y = frame["y"].to_numpy(float)
        fraud, honest = int((y == 1).sum()), int((y == 0).sum())
        if not fraud or not honest:
            raise TooFewLabels(
                f"{name} has {fraud} fraud and {honest} honest events: wait for labels or widen the dataset"
            )
        days, day = np.unique(frame["event_timestamp"].dt.date.to_numpy(), return_inverse=True)
        belongs = frame["cluster"] if "cluster" in frame else frame["rider_id"]
        return cls(
            y=y,
            event_type=frame["event_type"].to_numpy(object),
            day=day.astype(np.int64),
            days=len(days),
            typology=_none_where_unknown(frame["typology"]),
            cluster=np.unique(belongs.to_numpy(), return_inverse=True)[1],
            groups=_groups(frame),
        )

    def alarm_score(self, probability: Vector, offsets: Offsets | None) -> Vector:
        """What the thresholds are compared with, [n]: the probabilities [n] less the offsets of each event's groups."""
        return alarm_score(probability, alarm_offset(offsets or {}, self.groups, len(self.y)))

    @property
    def typologies(self) -> list[str]:
        """The names of the typologies found, in order."""
        return sorted({name for name in self.typology[self.y == 1] if isinstance(name, str)})


def _none_where_unknown(names: pd.Series) -> Names:
    values = names.to_numpy(object, copy=True)
    values[names.isna().to_numpy()] = None
    return values


def _groups(frame: pd.DataFrame) -> dict[str, Names]:
    groups = {}
    if "city" in frame:
        groups["city"] = frame["city"].to_numpy(object)
    if "device_gps_accuracy_m" in frame:
        groups["device_tier"] = device_tier(frame["device_gps_accuracy_m"].to_numpy(float))
    if "rider_tenure_days" in frame:
        groups["tenure"] = tenure_band(frame["rider_tenure_days"].to_numpy(float))
    return groups
