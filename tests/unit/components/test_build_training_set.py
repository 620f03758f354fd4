from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.build_training_set.logic import (
    NO_SPLIT,
    SPLITS,
    SplitSettings,
    build,
    check_splits,
    label_events,
    resolve_labels,
    split_days,
)
from components.errors import TooFewLabels
from feature_repo.datasets import Dataset
from feature_repo.feature_names import MODEL_FEATURES

CUTOFF = date(2026, 2, 1)
NOW = pd.Timestamp(CUTOFF, tz="UTC")


def day(n: float) -> pd.Timestamp:
    """n days before the cutoff."""
    return NOW - pd.Timedelta(days=n)


def label(event_id: str, is_fraud: bool, source: str, observed: pd.Timestamp) -> dict[str, object]:
    typology = "collusion" if is_fraud else None
    return {
        "event_id": event_id,
        "is_fraud": is_fraud,
        "typology": typology,
        "source": source,
        "observed_at": observed,
    }


def labelled(events: dict[str, float], *labels: dict[str, object]) -> pd.Series:
    """y by event_id of events that happened so many days before the cutoff."""
    frame = pd.DataFrame({"event_id": list(events), "event_timestamp": [day(n) for n in events.values()]})
    columns = ["event_id", "is_fraud", "typology", "source", "observed_at"]
    known = pd.DataFrame(labels, columns=columns).astype({"observed_at": "datetime64[us, UTC]"})
    return label_events(frame, known, CUTOFF, 10).set_index("event_id")["y"]


def test_silence_is_honest_only_once_it_is_old_enough() -> None:
    y = labelled({"old": 10.01, "edge": 10.0, "young": 3.0})
    assert y["old"] == 0.0
    assert np.isnan(y["edge"])
    assert np.isnan(y["young"])


def test_a_label_from_after_the_cutoff_does_not_exist() -> None:
    y = labelled(
        {"old": 12.0, "young": 2.0, "seen": 12.0},
        label("old", True, "chargeback", day(0)),
        label("young", True, "audit", day(-1)),
        label("seen", True, "chargeback", day(0.001)),
    )
    assert y["old"] == 0.0
    assert np.isnan(y["young"])
    assert y["seen"] == 1.0


@pytest.mark.parametrize(("strong", "weak"), [("chargeback", "audit"), ("audit", "holdout"), ("holdout", "reviewer")])
def test_the_more_trusted_source_wins_whenever_it_spoke(strong: str, weak: str) -> None:
    for earlier, later in ((strong, weak), (weak, strong)):
        y = labelled(
            {"e": 20.0}, label("e", earlier == strong, earlier, day(5)), label("e", later == strong, later, day(4))
        )
        assert y["e"] == 1.0


def test_a_source_s_last_word_counts() -> None:
    verdicts = resolve_labels(
        pd.DataFrame([label("e", True, "holdout", day(5)), label("e", False, "holdout", day(4))]), NOW
    )
    assert verdicts.loc["e", "y"] == 0.0
    assert pd.isna(verdicts.loc["e", "typology"])


def test_splits_are_whole_days_in_order_between_warm_up_and_maturation() -> None:
    days = split_days(date(2026, 1, 1), date(2026, 2, 10), 10, SplitSettings(warm_up_days=2, train_share=0.7)).days
    every = [d for split in SPLITS for d in days[split]]
    assert every == [date(2026, 1, 3) + timedelta(days=i) for i in range(len(every))]
    assert every[-1] == date(2026, 1, 30)  # the last day that ends ten days before the cutoff
    assert [len(days[s]) for s in SPLITS] == [19, 3, 3, 3]


def test_a_too_short_dataset_says_so() -> None:
    with pytest.raises(TooFewLabels, match=r"3 usable days .* use a longer dataset"):
        split_days(date(2026, 1, 1), date(2026, 1, 17), 10, SplitSettings(warm_up_days=3))


def test_a_split_without_fraud_is_named() -> None:
    frame = pd.DataFrame({"split": SPLITS * 2, "y": [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]})
    with pytest.raises(TooFewLabels, match="'valid' has 0 fraud and 2 honest"):
        check_splits(frame)


def test_the_training_set_has_features_labels_and_splits(small_dataset: Dataset, tmp_path: Path) -> None:
    frame = build(small_dataset, tmp_path, 1, SplitSettings(warm_up_days=1, train_share=0.5))
    needed = {"event_id", "event_timestamp", "stream_seq", *MODEL_FEATURES, "rider_id", "y", "typology", "split"}
    assert set(frame.columns) == needed
    assert frame["stream_seq"].is_monotonic_increasing
    assert frame["rider_id"].str.startswith("r").all()
    assert frame.loc[frame["split"] != NO_SPLIT, "y"].notna().all()
    immature = frame["event_timestamp"] >= pd.Timestamp(small_dataset.cutoff, tz="UTC") - pd.Timedelta(days=1)
    assert (frame.loc[immature, "split"] == NO_SPLIT).all()
    assert not (frame.loc[immature, "y"] == 0).all()
