"""What the graph knows of frauds at an instant, against a walk over the labels one by one."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.train_gnn.label_history import LABEL_FEATURES, LabelHistory
from feature_repo.labels import LABEL_COLUMNS, LABEL_SOURCES, no_labels

DAY_US = 86_400_000_000
NOW = 100 * DAY_US
# Three events: entity 0 is in all, entity 3 in none, and the second has no driver.
ENTITIES = np.array([[0, 1, 2, -1], [0, -1, 2, -1], [0, 1, 4, 5]])
EVENT_US = np.array([NOW - 20 * DAY_US, NOW - 10 * DAY_US, NOW - 2 * DAY_US])
IDS = np.array(["e0", "e1", "e2"], object)
Label = tuple[int, bool, str, int]


def history(*labels: Label) -> LabelHistory:
    """Of (event, verdict, source, when it became known)."""
    rows = [
        {"event_id": f"e{event}", "is_fraud": fraud, "source": source, "observed_at": at}
        for event, fraud, source, at in labels
    ]
    return LabelHistory.read(pa.Table.from_pylist(rows, LABEL_COLUMNS), IDS)


def features(known: LabelHistory, as_of_us: int = NOW, since_us: int = 0, arrived: int = 3) -> np.ndarray:
    return known.features(as_of_us, since_us, arrived=arrived, entities=ENTITIES, event_us=EVENT_US, m=6)


def of(known: LabelHistory, as_of_us: int = NOW, since_us: int = 0, arrived: int = 3) -> dict[str, np.ndarray]:
    values = features(known, as_of_us, since_us, arrived)
    return dict(zip(LABEL_FEATURES, values.T, strict=True))


def test_a_fraud_reaches_each_of_its_event_s_entities_and_no_other() -> None:
    found = of(history((0, True, "chargeback", NOW - DAY_US)))
    np.testing.assert_allclose(np.expm1(found["log_confirmed_frauds"]), [1, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(found["fraud_recency"], [1 / 21, 1 / 21, 1 / 21, 0, 0, 0])
    assert found["has_confirmed_fraud"].tolist() == [1, 1, 1, 0, 0, 0]
    assert not found["log_cleared"].any()


@pytest.mark.parametrize(("before_us", "known"), [(1, 1), (0, 0), (-1, 0)])
def test_a_label_counts_from_the_instant_after_it_was_observed(before_us: int, known: int) -> None:
    found = of(history((0, True, "chargeback", NOW - before_us)))
    assert found["has_confirmed_fraud"][0] == known


@pytest.mark.parametrize(("earlier_us", "known"), [(0, 1), (1, 0)])
def test_an_event_before_the_window_is_forgotten_with_its_label(earlier_us: int, known: int) -> None:
    found = of(history((0, True, "chargeback", NOW - DAY_US)), since_us=int(EVENT_US[0]) + earlier_us)
    assert found["has_confirmed_fraud"][0] == known


def test_the_most_trusted_source_has_the_word_and_its_latest_counts() -> None:
    said = [(0, False, "chargeback", NOW - 5), (0, True, "chargeback", NOW - 9), (0, True, "reviewer", NOW - 1)]
    found = of(history(*said))
    assert not found["has_confirmed_fraud"].any()
    np.testing.assert_allclose(np.expm1(found["log_cleared"][:3]), 1)
    assert of(history(*said), as_of_us=NOW - 5)["has_confirmed_fraud"][0] == 1, "what was believed before the reversal"


def test_labels_of_events_that_the_log_does_not_have_are_passed_over() -> None:
    stranger: Label = (7, True, "chargeback", NOW - DAY_US)
    known: Label = (1, True, "audit", NOW - DAY_US)
    np.testing.assert_array_equal(features(history(stranger, known)), features(history(known)))


@pytest.mark.parametrize(("arrived", "known"), [(2, 1), (1, 0)])
def test_a_verdict_on_an_event_that_has_not_arrived_is_not_known(arrived: int, known: int) -> None:
    found = of(history((1, True, "chargeback", NOW - DAY_US)), arrived=arrived)
    assert found["has_confirmed_fraud"][0] == known


@pytest.mark.parametrize("said", [(True, False), (False, True)])
def test_of_two_words_of_a_source_at_one_instant_the_graver_counts(said: tuple[bool, bool]) -> None:
    found = of(history(*((0, word, "audit", NOW - DAY_US) for word in said)))
    assert found["has_confirmed_fraud"][0] == 1


def test_without_labels_nothing_is_known() -> None:
    for labels in (None, no_labels()):
        assert not features(LabelHistory.read(labels, IDS)).any()


labels_of = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.booleans(),
        st.sampled_from(LABEL_SOURCES),
        st.integers(-3, 3).map(lambda days: NOW + days * DAY_US),
    ),
    max_size=12,
)


@given(labels_of, st.sampled_from([NOW - 2 * DAY_US, NOW, NOW + 2 * DAY_US]), st.sampled_from([0, 5, 15, 60]))
def test_any_labels_give_what_a_walk_over_them_gives(labels: list[Label], as_of_us: int, window_days: int) -> None:
    since = as_of_us - window_days * DAY_US
    confirmed, cleared, last = [0] * 6, [0] * 6, [0] * 6
    for event in range(len(IDS)):
        heard = [(-LABEL_SOURCES.index(s), at, fraud) for e, fraud, s, at in labels if e == event]
        heard = [said for said in heard if said[1] < as_of_us]
        if not heard or EVENT_US[event] < since:
            continue
        is_fraud = max(heard)[2]
        for entity in ENTITIES[event][ENTITIES[event] >= 0]:
            confirmed[entity] += is_fraud
            cleared[entity] += not is_fraud
            last[entity] = max(last[entity], int(EVENT_US[event])) if is_fraud else last[entity]
    expected = [
        [math.log1p(f), math.log1p(c), 1 / (1 + (as_of_us - at) / DAY_US) if f else 0.0, float(f > 0)]
        for f, c, at in zip(confirmed, cleared, last, strict=True)
    ]
    np.testing.assert_allclose(features(history(*labels), as_of_us, since), expected, rtol=1e-12)
