from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from simulators.ride_hailing import TYPOLOGIES, WorldSettings, days, read_events, read_labels, read_truth, simulate
from simulators.ride_hailing.label_behaviour import BEHAVIOUR, LONGEST_DELAY_DAYS, found
from simulators.ride_hailing.labels import held_out, label

WORLD = WorldSettings(days=12, events_per_day=4000, review_share=0.1, holdout_share=0.1)
MANY = 40_000


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Every label of a world beside its event and the truth."""
    world = tmp_path_factory.mktemp("labelled")
    simulate(WORLD, world)
    first, last = days(world)[0], days(world)[-1] + timedelta(days=LONGEST_DELAY_DAYS + 1)
    span = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    labels = pd.concat([read_labels(world, day).to_pandas() for day in span], ignore_index=True)
    events = pd.concat([read_events(world, day).to_pandas() for day in days(world)], ignore_index=True)
    events = events.merge(read_truth(world).to_pandas(), on="event_id", validate="1:1")
    joined = labels.merge(events, on="event_id", suffixes=("_label", ""), validate="m:1")
    assert len(joined) == len(labels) > 5000
    return joined


def events_of(typology: str | None, decision: str, n: int = MANY) -> pa.Table:
    sent = pd.Timestamp("2026-01-03", tz="UTC") + pd.to_timedelta(np.arange(n), "s")
    return pa.table(
        {
            "event_id": [f"evt-{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(n)],
            "trip_id": [f"trip-{number * 0xD6E8FEB86659FD93 % 2**64:016x}" for number in range(n)],
            "event_type": ["payment_authorized"] * n,
            "sent_at": pa.array(sent, pa.timestamp("us", "UTC")),
            "typology": pa.array([typology] * n, pa.string()),
            "decision": [decision] * n,
        }
    )


def test_a_label_never_comes_before_its_event_was_sent(labelled: pd.DataFrame) -> None:
    delay = labelled["observed_at"] - labelled["sent_at"]
    assert delay.min() > pd.Timedelta(0)
    assert delay.max() <= pd.Timedelta(days=LONGEST_DELAY_DAYS)
    assert set(labelled["event_type"]) <= set(SCORED_EVENT_TYPES)


def test_what_comes_to_light_by_itself_is_fraud_and_comes_from_its_typologys_source(labelled: pd.DataFrame) -> None:
    natural = labelled[labelled.source.isin(["chargeback", "audit"])]
    assert natural["is_fraud"].all()
    assert natural["is_fraud_label"].all()
    assert (natural["typology_label"] == natural["typology"]).all()
    assert (natural["source"] == natural["typology"].map(lambda name: BEHAVIOUR[name].source)).all()
    assert set(natural["source"]) == {"chargeback", "audit"}


def test_a_holdout_label_comes_within_a_day_even_for_late_events(labelled: pd.DataFrame) -> None:
    holdout = labelled[labelled.source == "holdout"]
    assert len(holdout) > 1000
    assert (holdout["sent_at"] - holdout["event_timestamp"]).max() > pd.Timedelta(hours=1)
    assert (holdout["observed_at"] - holdout["event_timestamp"]).max() < pd.Timedelta(hours=24)


def test_the_holdout_takes_whole_trips_at_the_rate_asked_for(labelled: pd.DataFrame) -> None:
    trips = events_of(None, "allow")
    held = held_out(trips, WORLD)
    assert held.mean() == pytest.approx(0.1, abs=0.01)
    assert (held_out(trips, WORLD.model_copy(update={"seed": 8})) != held).any()
    holdout = labelled[(labelled.source == "holdout") & labelled.trip_id.notna()]
    others = labelled[(labelled.source == "reviewer") & labelled.trip_id.notna()]
    assert not set(holdout["trip_id"]) & set(others["trip_id"])


@pytest.mark.parametrize(("source", "opinions"), [("reviewer", 1), ("holdout", 2)])
def test_reviewers_err_and_the_holdout_asks_two(source: str, opinions: int) -> None:
    settings = WorldSettings(review_share=1.0, holdout_share=float(source == "holdout"))
    rates = []
    for typology in ("collusion", None):
        labels = label(events_of(typology, "allow"), settings, 0).to_pandas()
        rates.append(labels[labels.source == source]["is_fraud"].mean())
    seen, accused = rates
    assert seen == pytest.approx(settings.reviewer_sensitivity**opinions, abs=0.01)
    expected = (1 - settings.reviewer_specificity) ** opinions
    assert accused == pytest.approx(expected, abs=4 * (expected / MANY) ** 0.5 + 1e-9)
    assert (accused > 0) == (opinions == 1)


def test_a_false_accusation_names_no_scheme() -> None:
    labels = label(events_of(None, "allow"), WorldSettings(review_share=1.0), 0).to_pandas()
    accused = labels[labels.is_fraud]
    assert len(accused) > 50
    assert accused["typology"].isna().all()


def test_blocked_fraud_gets_no_natural_label_outside_the_holdout() -> None:
    blocked, allowed = (
        label(events_of("stolen_card", word), WorldSettings(holdout_share=0.05), 0).to_pandas()
        for word in ("block", "allow")
    )
    charged = blocked[blocked.source == "chargeback"]
    assert set(charged["event_id"]) <= set(blocked[blocked.source == "holdout"]["event_id"])
    assert 0 < len(charged) < 0.1 * (allowed.source == "chargeback").sum()


def test_everything_sent_to_review_is_reviewed() -> None:
    labels = label(events_of("collusion", "review"), WorldSettings(review_share=0.0, holdout_share=0.0), 0).to_pandas()
    assert (labels.source == "reviewer").sum() == MANY


@pytest.mark.parametrize("name", TYPOLOGIES)
def test_each_typology_is_missed_and_found_as_late_as_documented(name: str) -> None:
    behaviour = BEHAVIOUR[name]
    code = np.full(MANY, TYPOLOGIES.index(name) + 1)
    seen, _, delay = found(code, np.random.default_rng(0))
    assert seen.mean() == pytest.approx(1 - behaviour.miss_rate, abs=0.01)
    # The cut at the longest delay takes something off the mean.
    assert 0.8 * behaviour.mean_delay_days < delay.mean() / 86_400 < 1.02 * behaviour.mean_delay_days
    assert delay.max() <= behaviour.longest_delay_days * 86_400


def test_off_platform_trips_are_mostly_never_labelled() -> None:
    labels = label(events_of("off_platform", "allow"), WorldSettings(review_share=0.0, holdout_share=0.0), 0)
    assert labels.num_rows < 0.1 * MANY


@pytest.mark.parametrize(
    ("field", "value"), [("reviewer_sensitivity", 0.8), ("reviewer_sensitivity", 0.96), ("reviewer_specificity", 0.99)]
)
def test_reviewers_outside_the_agreed_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        WorldSettings.model_validate({field: value})


def test_a_world_without_labels_ahead_still_writes_each_day_once(tmp_path: Path) -> None:
    summary = simulate(WorldSettings(days=2, events_per_day=800), tmp_path)
    files = sorted((tmp_path / "labels").glob("day=*/labels.parquet"))
    rows = [
        table.num_rows for table in (read_labels(tmp_path, days(tmp_path)[0] + timedelta(days=n)) for n in range(70))
    ]
    assert sum(rows) == summary.labels
    assert len(files) == sum(n > 0 for n in rows)
