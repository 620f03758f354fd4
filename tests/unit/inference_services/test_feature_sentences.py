"""Every feature has a sentence, and the sentences read as people write."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES
from feature_repo.tiles import ACTIVITY_KINDS, Measure
from inference_services.transformer import quantities
from inference_services.transformer.feature_sentences import SENTENCES, feature_sentences
from inference_services.transformer.words import EVENT_NOUNS


@pytest.mark.parametrize("value", [0.0, 1.0, 3.7, 41.0, 250_000.0, 1e300, -5.0])
def test_every_feature_says_any_number_without_its_raw_name(value: float) -> None:
    assert tuple(SENTENCES) == MODEL_FEATURES
    for name, sentence in SENTENCES.items():
        given = {"event_type": "refund_claimed", "city": "tehran"}.get(name, value)
        for text in (sentence.say(given), sentence.unknown):
            assert 8 < len(text) < 90
            assert "_" not in text
            assert "{" not in text
        if sentence.amount is not None:
            assert sentence.amount(value)


@pytest.mark.parametrize(
    ("name", "value", "text", "amount"),
    [
        ("rider_confirmed_frauds", 0.0, "no confirmed frauds of this rider before today", "none"),
        ("driver_confirmed_frauds", 1.0, "1 confirmed fraud of this driver before today", "1"),
        ("device_days_since_fraud", 2.0, "the latest confirmed fraud on this device was 2 days ago", "2 days ago"),
        ("rider_days_since_fraud", 30.0, "no confirmed fraud of this rider in 30 days", "30 days ago or longer"),
    ],
)
def test_confirmed_frauds_are_told(name: str, value: float, text: str, amount: str) -> None:
    sentence = SENTENCES[name]
    assert sentence.say(value) == text
    assert sentence.amount is not None
    assert sentence.amount(value) == amount


def test_only_what_cannot_be_compared_is_not() -> None:
    alone = {name for name, sentence in SENTENCES.items() if sentence.amount is None}
    flags = {"hour_of_day", "day_of_week", "promo_applied", "has_payment_instrument"}
    assert alone == flags | set(CATEGORICAL_FEATURES)


def test_every_feature_of_the_event_is_had_by_the_types_that_carry_its_fields() -> None:
    assert all(sentence.types != frozenset() for sentence in SENTENCES.values())
    assert SENTENCES["detour_ratio"].types == {"trip_requested", "trip_completed"}
    assert SENTENCES["attempt"].types == {"payment_authorized"}
    assert SENTENCES["hour_of_day"].types == set(EVENT_TYPES)
    assert SENTENCES["rider_trips_7d"].types is None


def test_a_new_request_or_store_feature_without_a_sentence_is_an_error() -> None:
    with pytest.raises(LookupError, match="no sentence for the features rider_star_sign"):
        feature_sentences((*MODEL_FEATURES, "rider_star_sign"))


def test_a_new_measure_without_words_is_an_error() -> None:
    rider = ACTIVITY_KINDS["rider"]
    wider = replace(rider, measures=(*rider.measures, Measure("honks", "count", ("trip_completed",))))
    with pytest.raises(LookupError, match="no words for 'honks'"):
        feature_sentences(kinds={**ACTIVITY_KINDS, "rider": wider})


def test_windows_of_one_measure_share_a_group_and_measures_do_not() -> None:
    windows = {name: s.group for name, s in SENTENCES.items() if re.search(r"_(1h|24h|7d|30d)$", name)}
    by_measure = {name.rpartition("_")[0] for name in windows}
    assert {name: name.rpartition("_")[0] for name in windows} == windows
    assert len(set(windows.values())) == len(by_measure) == 23


def test_every_event_type_has_a_noun() -> None:
    assert set(EVENT_NOUNS) == set(EVENT_TYPES)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (quantities.toman(1200), "1,200 toman"),
        (quantities.toman(1_250_000), "1.25 million toman"),
        (quantities.toman(3.1e9), "3.1 billion toman"),
        (quantities.metres(340), "340 m"),
        (quantities.metres(3400), "3.4 km"),
        (quantities.metres(120_000), "120 km"),
        (quantities.duration(0), "0 seconds"),
        (quantities.duration(1), "1 second"),
        (quantities.duration(59.7), "60 seconds"),
        (quantities.duration(720), "12 minutes"),
        (quantities.duration(3600), "1 hour"),
        (quantities.duration(5400), "1.5 hours"),
        (quantities.duration(3 * 3600), "3 hours"),
        (quantities.duration(86_400), "1 day"),
        (quantities.duration(2 * 86_400), "2 days"),
        (quantities.duration(800 * 86_400), "2.2 years"),
        (quantities.count(0, "trip", "trips"), "no trips"),
        (quantities.count(1, "trip", "trips"), "1 trip"),
        (quantities.count(1200, "trip", "trips"), "1,200 trips"),
        (quantities.counted(311.6), "about 312"),
        (quantities.times(1.0), "1.0 times"),
        (quantities.times(0.004), "0.004 times"),
        (quantities.kmh(54.26), "54.3 km/h"),
        (quantities.toman_per_km(12_000.4), "12,000 toman per km"),
        (quantities.toman(1e300), "1e+300 toman"),
    ],
)
def test_numbers_are_written_as_people_write_them(written: str, expected: str) -> None:
    assert written == expected
