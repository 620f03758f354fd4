"""What a search for settings found; apart from the search, so that reading it needs no Optuna."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from components.train_lightgbm.settings import LightGbmSettings


@dataclass(frozen=True)
class Trial:
    """One try.

    Attributes:
        number: from 0, which is the settings as given.
        settings: the values that it tried.
        average_precision: on "valid"; of a pruned trial, where it was stopped.
        trees: how many it kept; of a pruned trial, how many it had.
        pruned: stopped early, for it was behind the median of those before it.
    """

    number: int
    settings: dict[str, float | int]
    average_precision: float
    trees: int
    pruned: bool


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        settings: the best, to train with.
        best: number of the trial that they come from.
        ended: "all trials done", "out of time" or "interrupted".
        trials: those that were done, in order.
    """

    settings: LightGbmSettings
    best: int
    ended: str
    trials: tuple[Trial, ...]

    def as_dict(self) -> dict[str, Any]:
        """What `search.json` holds; no durations, so that equal searches give equal bytes."""
        return {
            "objective": "average precision on the split valid",
            "sampler": "optuna TPE",
            "seed": self.settings.seed,
            "trials_asked": self.settings.trials,
            "ended": self.ended,
            "best": self.best,
            "trials": [asdict(trial) for trial in self.trials],
        }
