"""The controls can fail: a leak is found, and what is shuffled keeps its counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipelines.prequential.controls import leaked, looks_ahead, shuffle_labels

DAY = pd.Timedelta(days=1)


@pytest.fixture
def events() -> pd.DataFrame:
    start = pd.Timestamp("2026-06-01", tz="UTC")
    hours = [0, 10, 30, 35, 100]
    return pd.DataFrame(
        {
            "event_id": list("abcde"),
            "rider_id": ["r1", "r1", "r1", "r2", "r2"],
            "event_timestamp": [start + pd.Timedelta(hours=h) for h in hours],
        }
    )


def test_the_planted_feature_counts_the_rider_s_next_24_hours(events: pd.DataFrame) -> None:
    found = leaked(events.assign(count=0.0), events, "count")
    assert found["count"].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_a_leak_is_seen_and_named_and_an_honest_feature_is_not(events: pd.DataFrame) -> None:
    frame = events[["event_id"]].assign(honest=np.arange(5) / 3, empty=np.nan, word=list("vwxyz"), count=0.0)
    prefix = events.head(2)
    whole = leaked(frame, events, "count").head(2).set_index("event_id")
    cut = leaked(frame.head(2), prefix, "count").set_index("event_id")
    assert looks_ahead(whole, cut) == {"count": 1}


def test_rounding_is_no_leak_and_a_word_that_changes_is() -> None:
    frame = pd.DataFrame({"number": [1.0, 2.0], "word": ["a", "b"]}, index=["x", "y"])
    assert looks_ahead(frame, frame.assign(number=frame["number"] * (1 + 1e-12))) == {}
    assert looks_ahead(frame, frame.assign(word=["a", "c"])) == {"word": 1}
    with pytest.raises(ValueError, match="same events"):
        looks_ahead(frame, frame[::-1])


def test_shuffled_labels_keep_the_rate_of_each_split_and_type_and_nothing_else() -> None:
    rng = np.random.default_rng(3)
    n = 8000
    frame = pd.DataFrame(
        {
            "split": rng.choice(["train", "valid"], n),
            "event_type": rng.choice(["a", "b"], n),
            "signal": rng.random(n),
        }
    )
    rate = np.where(frame["event_type"] == "a", 0.02, 0.2)
    frame["y"] = (frame["signal"] < rate).astype(float)
    found = shuffle_labels(frame, rng)
    groups = ["split", "event_type"]
    pd.testing.assert_series_equal(found.groupby(groups)["y"].sum(), frame.groupby(groups)["y"].sum())
    of_b = found[found["event_type"] == "b"]
    assert abs(of_b["y"].corr(of_b["signal"])) < 0.05
    assert frame["y"].sum() > 0
