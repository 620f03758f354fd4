"""The detector behind a small interface, and its implementation by alibi-detect.

alibi-detect is licensed under the Business Source License 1.1, which restricts production use: read it before you
deploy this image, or put another implementation of `DriftDetector` in its place. Nothing else here imports it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference_services.drift_detector.settings import DriftSettings
from inference_services.errors import BundleError

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

REFERENCE = "reference_sample.npz"
# Categories have no order for a Kolmogorov-Smirnov test; a window of an hour never has the hours and days of a month.
NOT_JUDGED = frozenset({"event_type", "city", "hour_of_day", "day_of_week"})
# These grow with the calendar: they leave any reference behind without anything having changed.
NOT_JUDGED_SUFFIXES = ("_tenure_days", "_lifetime_trips", "_confirmed_frauds")


@dataclass(frozen=True)
class Verdict:
    """What became of a window.

    Attributes:
        drifted: which features' distributions have left the reference, shape [F].
        p_value: of each judged feature, shape [F].
        distance: Kolmogorov-Smirnov distance of each judged feature, 0 to 1, shape [F].
    """

    drifted: NDArray[np.bool_]
    p_value: Vector
    distance: Vector

    @property
    def is_drift(self) -> bool:
        """Whether any feature has drifted."""
        return bool(self.drifted.any())


class DriftDetector(Protocol):
    """Compares windows of rows with a reference."""

    @property
    def features(self) -> tuple[str, ...]:
        """The judged features, F of them."""

    def judge(self, columns: Mapping[str, Vector]) -> Verdict:
        """Judges a window: one column [n] for each of `features`; NaN is unknown."""


class TabularDriftDetector:
    """A two-sided Kolmogorov-Smirnov test per numeric feature, corrected by false discovery rate (Benjamini-Hochberg).

    A feature has drifted when its test rejects *and* its distance is at least `least_distance`: over thousands of rows,
    many of them of the same drivers, the test alone finds differences that matter to nobody.

    Unknown values take the reference's median on both sides, so that a changed share of unknowns counts as drift too. A
    feature that the reference does not know at all is not judged.
    """

    def __init__(self, reference: Matrix, names: tuple[str, ...], settings: DriftSettings) -> None:
        # alibi-detect takes seconds to import, and only this class needs it.
        from alibi_detect.cd import TabularDrift  # noqa: PLC0415

        known = np.asarray((~np.isnan(reference)).any(axis=0))
        kept = [i for i, name in enumerate(names) if _is_judged(name) and known[i]]
        self._features = tuple(names[i] for i in kept)
        self._least_distance = settings.least_distance
        self._medians = np.nanmedian(reference[:, kept], axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces that all features are numeric, which they are
            self._test = TabularDrift(self._impute(reference[:, kept]), p_val=settings.q_value, correction="fdr")

    @classmethod
    def load(cls, folder: Path, settings: DriftSettings) -> TabularDriftDetector:
        """Reads the reference sample of a verified LightGBM bundle.

        Raises:
            BundleError: the sample is missing or malformed.
        """
        try:
            with np.load(folder / REFERENCE, allow_pickle=False) as sample:
                X, names = np.asarray(sample["X"], np.float64), tuple(map(str, sample["features"]))
        except (OSError, KeyError, ValueError) as error:
            raise BundleError(f"{folder / REFERENCE} cannot be read: {error}") from None
        if X.ndim != 2 or X.shape[1] != len(names) or len(X) < 2:
            raise BundleError(f"{folder / REFERENCE} has a sample of shape {X.shape} for {len(names)} features")
        return cls(X, names, settings)

    @property
    def features(self) -> tuple[str, ...]:
        """The judged features."""
        return self._features

    def judge(self, columns: Mapping[str, Vector]) -> Verdict:
        """Judges a window of n rows, one column [n] per judged feature."""
        window = self._impute(np.column_stack([columns[name] for name in self._features]))
        data = self._test.predict(window, drift_type="batch", return_p_val=True, return_distance=True)["data"]
        p_value, distance = data["p_val"].astype(np.float64), data["distance"].astype(np.float64)
        # Benjamini-Hochberg's largest rejected p-value; alibi-detect gives none when it rejects nothing.
        rejected = p_value <= data["threshold"] if data["is_drift"] else np.zeros(len(p_value), np.bool_)
        return Verdict(rejected & (distance >= self._least_distance), p_value, distance)

    def _impute(self, X: Matrix) -> Matrix:
        return np.where(np.isnan(X), self._medians, X)


def _is_judged(name: str) -> bool:
    return name not in NOT_JUDGED and not name.endswith(NOT_JUDGED_SUFFIXES)
