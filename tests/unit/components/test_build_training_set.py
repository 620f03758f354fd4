from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.build_training_set.logic import (
    NO_SPLIT,
    SPLITS,
    SplitSettings,
    build,
    label_events,
    split_days,
)
from components.build_training_set.maturation import is_mature, maturation_windows, resolve_labels
from components.errors import TooFewLabels
from components.labels import check_classes
from feature_repo.datasets import Dataset, snapshot
from feature_repo.feature_names import MODEL_FEATURES

CUTOFF = date(2026, 2, 1)
NOW = pd.Timestamp(CUTOFF, tz="UTC")
TEN_DAYS = {"default": 10}


def day(n: float) -> pd.Timestamp:
    """n days before the cutoff."""
    return NOW - pd.Timedelta(days=n)


def label(
    event_id: str, is_fraud: bool, source: str, observed: pd.Timestamp, typology: str | None = "collusion"
) -> dict[str, object]:
    return {
        "event_id": event_id,
        "is_fraud": is_fraud,
        "typology": typology if is_fraud else None,
        "source": source,
        "observed_at": observed,
    }


def label_frame(*labels: dict[str, object]) -> pd.DataFrame:
    columns = ["event_id", "is_fraud", "typology", "source", "observed_at"]
    return pd.DataFrame(labels, columns=columns).astype({"observed_at": "datetime64[us, UTC]"})


def event_frame(ages: dict[str, float], event_type: str = "trip_requested") -> pd.DataFrame:
    """Events of one type that happened so many days before the cutoff."""
    at = [day(n) for n in ages.values()]
    return pd.DataFrame({"event_id": list(ages), "event_type": event_type, "event_timestamp": at})


def labelled(ages: dict[str, float], *labels: dict[str, object]) -> pd.Series:
    """y by event_id."""
    return label_events(event_frame(ages), label_frame(*labels), CUTOFF, TEN_DAYS).set_index("event_id")["y"]


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
    said = label_frame(label("e", True, "holdout", day(5)), label("e", False, "holdout", day(4)))
    verdicts = resolve_labels(said, NOW)
    assert verdicts.loc["e", "y"] == 0.0
    assert pd.isna(verdicts.loc["e", "typology"])


@pytest.mark.parametrize("first", [True, False])
def test_two_words_at_one_instant_are_fraud_in_whatever_order_they_are_stored(first: bool) -> None:
    said = label_frame(label("e", first, "holdout", day(5)), label("e", not first, "holdout", day(5)))
    assert resolve_labels(said, NOW).loc["e", "y"] == 1.0


def test_a_label_of_an_unknown_event_changes_nothing() -> None:
    ages = {"old": 12.0, "young": 2.0}
    stranger = label("elsewhere", True, "chargeback", day(5), "stolen_card")
    pd.testing.assert_series_equal(labelled(ages, stranger), labelled(ages))


def test_without_any_label_only_old_silence_counts() -> None:
    y = labelled({"old": 12.0, "young": 2.0})
    assert y["old"] == 0.0
    assert np.isnan(y["young"])


def test_the_slowest_typology_that_strikes_an_event_type_sets_its_window() -> None:
    events = pd.concat(
        [
            event_frame({"p1": 30, "p2": 30, "p15": 15, "p25": 25}, "payment_authorized"),
            event_frame({"a1": 30, "a15": 15}, "account_changed"),
            event_frame({"q15": 15}, "promo_redeemed"),
        ],
        ignore_index=True,
    )
    said = label_frame(
        label("p1", True, "chargeback", day(9), "stolen_card"),
        label("p2", True, "audit", day(9), "collusion"),
        label("a1", True, "chargeback", day(9), "account_takeover"),
    )
    days = {"default": 12, "stolen_card": 21, "account_takeover": 14, "collusion": 9}
    windows = maturation_windows(events, resolve_labels(said, NOW), days)
    assert windows == {"account_changed": 14, "payment_authorized": 21, "promo_redeemed": 12}
    y = label_events(events, said, CUTOFF, days).set_index("event_id")["y"]
    assert y[["a15", "q15", "p25"]].tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(y["p15"])
    assert is_mature(events, windows, CUTOFF).tolist() == [True, True, False, True, True, True, True]


@pytest.mark.parametrize(
    ("said", "window"),
    [
        (label("e", True, "chargeback", day(0), "stolen_card"), 10),  # not known yet
        (label("e", False, "chargeback", day(5), None), 10),
        (label("e", True, "reviewer", day(5), None), 10),  # a fraud of no named kind
        (label("e", True, "reviewer", day(5), "newly_invented"), 10),
        (label("e", True, "chargeback", day(5), "stolen_card"), 21),
    ],
)
def test_only_a_confirmed_fraud_of_a_named_kind_moves_a_window(said: dict[str, object], window: int) -> None:
    verdicts = resolve_labels(label_frame(said), NOW)
    windows = maturation_windows(event_frame({"e": 20}), verdicts, {"default": 10, "stolen_card": 21})
    assert windows == {"trip_requested": window}


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
        check_classes(frame, SPLITS)


def test_a_split_without_events_is_named() -> None:
    frame = pd.DataFrame({"split": ["train", "train"], "y": [1.0, 0.0]})
    with pytest.raises(TooFewLabels, match="'valid' has no events"):
        check_classes(frame, SPLITS)


def test_the_training_set_has_features_labels_and_splits(small_dataset: Dataset, tmp_path: Path) -> None:
    frame = build(small_dataset, tmp_path, {"default": 1}, SplitSettings(warm_up_days=1, train_share=0.5))
    needed = {"event_id", "event_timestamp", "stream_seq", *MODEL_FEATURES, "rider_id", "y", "typology", "split"}
    assert set(frame.columns) == needed
    assert frame["stream_seq"].is_monotonic_increasing
    assert frame["rider_id"].str.startswith("r").all()
    assert frame.loc[frame["split"] != NO_SPLIT, "y"].notna().all()
    immature = frame["event_timestamp"] >= pd.Timestamp(small_dataset.cutoff, tz="UTC") - pd.Timedelta(days=1)
    assert (frame.loc[immature, "split"] == NO_SPLIT).all()
    assert not (frame.loc[immature, "y"] == 0).all()


def test_every_event_type_is_mature_in_every_split(small_dataset: Dataset, tmp_path: Path) -> None:
    """A type that were still young in the last split would show its complaints there and none of its honest events."""
    events = small_dataset.event_table().select(["event_id", "event_type"]).to_pandas()
    verdicts = resolve_labels(small_dataset.label_frame(), pd.Timestamp(small_dataset.cutoff, tz="UTC"))
    types = events.set_index("event_id")["event_type"].reindex(verdicts.index[verdicts["y"] == 1.0])
    slowest = str(verdicts.loc[types.index[0], "typology"])
    days = {"default": 1, slowest: 2}
    frame = build(small_dataset, tmp_path, days, SplitSettings(warm_up_days=1, train_share=0.5))
    used = frame[frame["split"] != NO_SPLIT]
    assert used["event_timestamp"].max() < pd.Timestamp(small_dataset.cutoff, tz="UTC") - pd.Timedelta(days=2)
    assert used["y"].notna().all()
    quick = set(frame["event_type"]) - set(types[verdicts.loc[types.index, "typology"] == slowest])
    between = frame["event_timestamp"] >= pd.Timestamp(small_dataset.cutoff, tz="UTC") - pd.Timedelta(days=2)
    young = frame[between & frame["event_type"].isin(quick)]
    assert (young["y"] == 0.0).any()
    assert (young["split"] == NO_SPLIT).all()


def one_event_dataset(small_dataset: Dataset, folder: Path) -> Dataset:
    """A log of one event, its label known the next day."""
    event = small_dataset.event_table().slice(0, 1)
    observed = small_dataset.first_day + timedelta(days=1)
    seen = pd.Timestamp(observed, tz="UTC") + pd.Timedelta(hours=1)
    said = label_frame(label(event["event_id"][0].as_py(), True, "audit", seen))
    for kind, when, table in (
        ("log", small_dataset.first_day, event),
        ("labels", observed, pa.Table.from_pandas(said, preserve_index=False)),
    ):
        (folder / kind / f"day={when}").mkdir(parents=True)
        pq.write_table(table, folder / kind / f"day={when}" / "part.parquet")
    return snapshot(folder / "log", folder / "labels", folder / "datasets", observed + timedelta(days=1))


def test_a_dataset_of_one_event_is_refused_by_what_it_lacks(small_dataset: Dataset, tmp_path: Path) -> None:
    dataset = one_event_dataset(small_dataset, tmp_path)
    with pytest.raises(TooFewLabels, match="usable days"):
        build(dataset, tmp_path, TEN_DAYS, SplitSettings())
    with pytest.raises(TooFewLabels, match="usable days"):
        build(dataset, tmp_path, {"default": 0}, SplitSettings(warm_up_days=0))
