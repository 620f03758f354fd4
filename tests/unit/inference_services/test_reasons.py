"""The reasons of LightGBM: grouped, ranked by what the group adds, told against honest peers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pytest

from feature_repo.feature_names import MODEL_FEATURES, STORE_FEATURES
from feature_repo.pseudonyms import ENTITY_KINDS
from inference_services.transformer.feature_sentences import SENTENCES
from inference_services.transformer.reasons import (
    LEAST_CONTRIBUTION,
    MAX_FEATURE_REASONS,
    STORE_GONE,
    FeatureReason,
    feature_reasons,
)
from inference_services.typical_values import Typical

EVERYBODY = frozenset(ENTITY_KINDS)


def reasons(
    contributions: dict[str, float],
    values: dict[str, Any],
    typical: dict[str, Typical] | None = None,
    named: frozenset[str] = EVERYBODY,
) -> list[FeatureReason]:
    row = np.array([*(contributions.get(name, 0.0) for name in MODEL_FEATURES), -3.0])
    given = {"event_type": "trip_completed", **values}
    return feature_reasons(row, MODEL_FEATURES, given, named, typical or {})


GOLDEN = [
    ("pair_trips_7d", 41.0, (0, 3, 12), "41 trips with this driver in 7 days; riders like this have 3"),
    ("pair_trips_7d", 5.0, (0, 3, 12), "5 trips with this driver in 7 days; riders like this have none to 12"),
    ("rider_refunds_30d", 0.0, (0, 0, 0), "no refund claims of this rider in 30 days; riders like this have none"),
    ("rider_drivers_24h", 1.0, None, "1 driver of this rider in 24 hours"),
    (
        "driver_refunds_7d",
        6.0,
        (0, 1, 2),
        "6 refund claims for trips of this driver in 7 days; drivers like this have 1",
    ),
    (
        "driver_fare_sum_24h",
        4_260_000.0,
        (0, 880_000, 2e6),
        "fares of 4.26 million toman for trips of this driver in 24 hours; drivers like this have 880,000 toman",
    ),
    (
        "device_age_s",
        720.0,
        (3600, 172_800, 2_592_000),
        "the latest event on this device was 12 minutes ago; devices like this had it 2 days ago",
    ),
    (
        "rider_tenure_days",
        0.0,
        (20, 120, 180),
        "this rider was first seen today; riders like this were first seen 120 days ago",
    ),
    ("amount", 1200.0, (40_000, 85_000, 200_000), "amount of 1,200 toman; completed trips like this have 85,000 toman"),
    ("distance_m", 3400.0, (1000, 5200, 9000), "route of 3.4 km; completed trips like this have 1 km to 9 km"),
    (
        "speed_vs_city",
        4.5,
        (0.6, 1.0, 1.4),
        "average speed 4.5 times the city's; completed trips like this have 1.0 times",
    ),
    ("fare_per_km_vs_city", math.nan, (0.6, 1.0, 1.4), "the price per km against the city's is unknown"),
    ("hour_of_day", 3.0, (5, 14, 22), "it happened between 03:00 and 04:00"),
    ("promo_applied", 1.0, (0, 0, 1), "a promotion lowers the fare"),
]


@pytest.mark.parametrize(("name", "value", "typical", "text"), GOLDEN)
def test_a_reason_reads_as_an_analyst_would_say_it(
    name: str, value: float, typical: tuple[float, float, float] | None, text: str
) -> None:
    usual = {name: Typical(*typical)} if typical else {}
    (found,) = reasons({name: 1.5}, {name: value}, usual)
    assert found.text == text
    assert (found.kind, found.feature, found.contribution) == ("feature", name, 1.5)


def test_windows_of_one_measure_are_one_reason_ranked_by_their_sum() -> None:
    contributions = {"pair_trips_7d": 0.4, "pair_trips_30d": 0.5, "pair_trips_1h": -0.1, "amount": 0.7}
    found = reasons(contributions, {"pair_trips_7d": 9.0, "pair_trips_30d": 41.0, "pair_trips_1h": 0.0, "amount": 9e6})
    assert [(r.feature, r.contribution) for r in found] == [("pair_trips_30d", pytest.approx(0.8)), ("amount", 0.7)]


def test_a_measure_whose_sum_lowers_the_score_is_no_reason() -> None:
    assert reasons({"pair_trips_7d": 0.4, "pair_trips_30d": -0.5, "amount": -1.0}, {"amount": 1.0}) == []


def test_groups_keep_the_additivity_of_contributions() -> None:
    rng = np.random.default_rng(3)
    row = rng.normal(0, 1, len(MODEL_FEATURES))
    values = dict.fromkeys(MODEL_FEATURES, 1.0) | {"event_type": "trip_completed", "city": "tehran"}
    sums: dict[str, float] = {}
    for name, contribution in zip(MODEL_FEATURES, row, strict=True):
        sums[SENTENCES[name].group] = sums.get(SENTENCES[name].group, 0.0) + contribution
    assert sum(sums.values()) == pytest.approx(row.sum())
    found = feature_reasons(np.append(row, 0.2), MODEL_FEATURES, values, EVERYBODY, {})
    strongest = sorted(sums.values(), reverse=True)[:MAX_FEATURE_REASONS]
    assert [r.contribution for r in found] == pytest.approx(strongest)


def test_a_store_that_is_down_is_one_reason_however_many_features_miss() -> None:
    values = {**dict.fromkeys(STORE_FEATURES, math.nan), "amount": 5.0}
    found = reasons({**dict.fromkeys(STORE_FEATURES, 0.01), "amount": 0.2}, values)
    assert [r.text for r in found] == [STORE_GONE, "amount of 5 toman"]
    assert found[0].value is None
    assert found[0].contribution == pytest.approx(0.01 * len(STORE_FEATURES))


def test_an_entity_that_the_event_does_not_name_has_no_counts() -> None:
    typical = {"driver_trips_7d": Typical(10, 40, 90)}
    named = frozenset({"rider", "device"})
    values = {"driver_trips_7d": 0.0, "pair_trips_7d": 0.0}
    (found,) = reasons({"driver_trips_7d": 1.0, "pair_trips_7d": 0.5}, values, typical, named)
    assert (found.text, found.typical, found.contribution) == ("the event names no driver", None, 1.5)


def test_an_event_without_a_card_says_so_once() -> None:
    contributions = {"has_payment_instrument": 0.3, "payment_instrument_age_s": 0.2}
    values = {"has_payment_instrument": 0.0, "payment_instrument_age_s": 2_592_000.0}
    (found,) = reasons(contributions, values, named=frozenset({"rider"}))
    assert (found.text, found.contribution) == ("the event names no card or wallet", pytest.approx(0.5))
    (found,) = reasons({"has_payment_instrument": 0.3}, {"has_payment_instrument": 1.0})
    assert found.text == "a card or wallet is named"


def test_what_events_of_a_type_never_have_is_said_of_the_type() -> None:
    contributions = {"amount": 0.3, "detour_ratio": 0.2, "event_type": -0.1, "hour_of_day": 0.1}
    values = {"event_type": "account_changed", "amount": math.nan, "detour_ratio": math.nan, "hour_of_day": 3.0}
    found = reasons(contributions, values)
    assert [(r.text, r.feature) for r in found] == [
        ("it is an account change", "event_type"),
        ("it happened between 03:00 and 04:00", "hour_of_day"),
    ]
    assert found[0].contribution == pytest.approx(0.4)
    (unknown,) = reasons({"detour_ratio": 0.2}, {"detour_ratio": math.nan})
    assert unknown.text == "the detour is unknown"


def test_what_hardly_moves_the_odds_is_no_reason() -> None:
    assert reasons({"amount": LEAST_CONTRIBUTION / 2}, {"amount": 5.0}) == []


def test_a_flag_is_not_compared() -> None:
    (found,) = reasons({"promo_applied": 1.0}, {"promo_applied": 0.0}, {"promo_applied": Typical(0, 1, 1)})
    assert (found.text, found.typical) == ("no promotion lowers the fare", None)


@pytest.mark.parametrize("hostile", [math.nan, math.inf, -math.inf, 1e308, -1e308, None, ""])
def test_hostile_values_make_json_all_the_same(hostile: Any) -> None:
    for name in MODEL_FEATURES:
        (found,) = reasons({name: 1.0}, {name: hostile, "event_type": "trip_completed"} if name != "event_type" else {})
        read = orjson.loads(orjson.dumps(found))
        assert read["text"]
        assert read["kind"] == "feature"


@pytest.mark.parametrize("hostile", [math.nan, math.inf, -math.inf])
def test_hostile_contributions_do_not_raise(hostile: float) -> None:
    found = reasons({"amount": hostile, "pair_trips_7d": -math.inf, "pair_trips_30d": math.inf}, {"amount": 5.0})
    assert all(reason.feature == "amount" for reason in found)


def test_a_feature_of_another_release_is_left_out() -> None:
    found = feature_reasons(np.array([2.0, 1.0, 0.0]), ["novel", "amount"], {"amount": 5.0}, EVERYBODY, {})
    assert [r.feature for r in found] == ["amount"]
