"""The graph's evidence in words: whom the event's entities met lately, and which meeting counts most."""

from __future__ import annotations

import re

import numpy as np
import orjson
import pytest

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.graph_features import CONTEXT_FEATURES, INTERACTION
from inference_services.subgraph import Subgraph
from inference_services.transformer.graph_evidence import (
    MAX_GRAPH_REASONS,
    History,
    Interaction,
    graph_reasons,
    histories,
)
from inference_services.transformer.reasons import LEAST_CONTRIBUTION
from tests.contract.fusion_bundle import PAYMENT

RIDER, DRIVER, DEVICE = "r1-00000000000000aa", "d1-00000000000000dd", "v1-00000000000000bb"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def other(n: int) -> str:
    return f"r1-{n:04x}00000000beef"


def met(
    who: str, before_s: float, influence: float = 0.1, what: str = "trip_completed", amount: int = 0
) -> Interaction:
    kind = {"r": "rider", "d": "driver", "v": "device"}[who[0]]
    return Interaction(who, kind, what, before_s, amount or None, influence)


def text_of(kind: str, entity: str, *past: Interaction) -> str:
    own = [History("rider", RIDER, 0.0, ()), History("driver", DRIVER, 0.0, ()), History("device", DEVICE, 0.0, ())]
    (found,) = graph_reasons([*(h for h in own if h.entity != entity), History(kind, entity, 0.8, past)])
    return found.text


def test_a_shared_device() -> None:
    past = [met(other(n), n * HOUR / 2, 0.1 * n, "promo_redeemed", 30_000) for n in (1, 2, 4, 6)]
    assert text_of("device", DEVICE, *past) == (
        "this device was used by 4 other riders in the last 3 hours; "
        "most telling: a redeemed promotion of 30,000 toman with rider r1-0006…, 3 hours earlier"
    )


def test_a_driver_with_a_burst_of_riders() -> None:
    past = [met(other(n), n * 25 * MINUTE, 1 / n) for n in (1, 2, 3, 4)]
    assert text_of("driver", DRIVER, *past) == (
        "this driver's last 4 events were with 4 riders (r1-0001…, r1-0002…), 2 of them within one hour; "
        "most telling: a completed trip with rider r1-0001…, 25 minutes earlier"
    )


def test_the_same_pair_again_and_again() -> None:
    past = [met(RIDER, n * 25 * MINUTE, 0.2, amount=85_000) for n in (1, 2, 3)] + [met(other(9), MINUTE)]
    assert text_of("driver", DRIVER, *past) == (
        "3 of this driver's last 4 events were with this rider, 2 of them within one hour; "
        "most telling: a completed trip of 85,000 toman with this rider, 25 minutes earlier"
    )


def test_a_rider_s_own_driver_and_device_met_once_each_are_no_pattern() -> None:
    assert text_of("rider", RIDER, met(DRIVER, DAY), met(DEVICE, DAY), met("d1-ab12000000000000", DAY)) == (
        "this rider's last 3 events were with 2 drivers and 1 device (d1-ab12…); "
        "most telling: a completed trip with this driver, 1 day earlier"
    )


def test_a_rider_with_one_driver_only() -> None:
    assert text_of("rider", RIDER, met(DRIVER, 10 * MINUTE), met(DRIVER, 40 * MINUTE)) == (
        "this rider's last 2 events were with this driver, all of them within one hour; "
        "most telling: a completed trip with this driver, 10 minutes earlier"
    )


def test_a_rider_s_own_driver_and_device_are_not_taken_for_one() -> None:
    assert text_of("rider", RIDER, met(DRIVER, DAY), met(DRIVER, DAY), met(DEVICE, DAY)) == (
        "2 of this rider's last 3 events were with this driver; "
        "most telling: a completed trip with this driver, 1 day earlier"
    )
    assert text_of("rider", RIDER, met(DRIVER, DAY), met(DEVICE, DAY)).startswith(
        "this rider's last 2 events were with 1 driver and 1 device; "
    )


def test_a_rider_s_mixed_company() -> None:
    past = [met("d1-ab12000000000000", 2 * HOUR, 0.3), met("v1-cd34000000000000", DAY, 0.1, "account_changed")]
    assert text_of("rider", RIDER, *past) == (
        "this rider's last 2 events were with 1 driver and 1 device (d1-ab12…, v1-cd34…); "
        "most telling: a completed trip with driver d1-ab12…, 2 hours earlier"
    )


def test_the_full_pseudonyms_are_in_the_fields_and_none_is_in_the_sentence() -> None:
    (found,) = graph_reasons([History("device", DEVICE, 0.8, (met(other(1), HOUR, 0.5), met(other(2), DAY, 0.2)))])
    read = orjson.loads(orjson.dumps(found))
    assert (read["kind"], read["entity"], read["neighbour"]) == ("graph", DEVICE, other(1))
    assert [n["neighbour"] for n in read["neighbours"]] == [other(1), other(2)]
    assert not re.search(r"[0-9a-f]{8}", read["text"])


def test_what_lowers_the_score_or_hardly_moves_it_is_no_reason() -> None:
    past = (met(other(1), HOUR, 0.5),)
    assert graph_reasons([History("device", DEVICE, -0.8, past)]) == []
    assert graph_reasons([History("device", DEVICE, LEAST_CONTRIBUTION / 2, past)]) == []


@pytest.mark.parametrize(("influence", "neighbour"), [(0.03, other(1)), (-0.5, None)])
def test_interactions_that_count_only_together_are_not_singled_out(influence: float, neighbour: str | None) -> None:
    past = tuple(met(who, HOUR, influence) for who in (other(1), other(1), other(2)))
    (found,) = graph_reasons([History("device", DEVICE, 0.8, past)])
    assert found.text == "this device was used by 2 other riders in the last 1 hour; no single event tells much alone"
    assert found.neighbour == neighbour


def test_the_strongest_histories_come_first_and_few_come() -> None:
    past = (met(other(1), HOUR),)
    given = [
        History("rider", RIDER, 0.1, past),
        History("driver", DRIVER, 0.9, past),
        History("device", DEVICE, 0.5, past),
    ]
    found = graph_reasons(given)
    assert [r.entity for r in found] == [DRIVER, DEVICE]
    assert len(found) == MAX_GRAPH_REASONS


def test_histories_find_the_interactions_behind_the_tensors() -> None:
    batch = EventBatch.from_rows([PAYMENT, {**PAYMENT, "event_id": "e2", "device_id": "v1-00000000000000ee"}])
    interactions = np.zeros((2, 4, 8), INTERACTION)
    counts = np.zeros((2, 4), np.int64)
    counts[0, 0], counts[1, 2] = 1, 2
    features = {name: np.zeros(2) for name in CONTEXT_FEATURES}
    interactions[0, 0, 0] = (
        0xDD,
        1,
        1,
        EVENT_TYPES.index("trip_completed"),
        PAYMENT["event_timestamp"] - 60_000_000,
        7,
    )
    interactions[1, 2, :2]["id"], interactions[1, 2, :2]["key_id"] = [0xA1, 0xA2], 1
    graph = Subgraph.build(batch, features, interactions, counts)
    found = histories(batch, graph, interactions, np.arange(6.0), np.array([0.1, 0.2, 0.3]))
    assert [[(h.kind, h.influence, len(h.interactions)) for h in event] for event in found] == [
        [("rider", 0.0, 1), ("device", 1.0, 0), ("payment_instrument", 2.0, 0)],
        [("rider", 3.0, 0), ("device", 4.0, 2), ("payment_instrument", 5.0, 0)],
    ]
    assert found[0][0].interactions[0] == Interaction("d1-00000000000000dd", "driver", "trip_completed", 60.0, 7, 0.1)
    assert [(i.neighbour, i.influence) for i in found[1][1].interactions] == [
        ("r1-00000000000000a1", 0.2),
        ("r1-00000000000000a2", 0.3),
    ]
    assert found[1][1].entity == "v1-00000000000000ee"


@pytest.mark.parametrize("amount", [0, -(2**62), 2**62])
@pytest.mark.parametrize("before_s", [0.0, 1e12])
def test_hostile_interactions_make_a_sentence_all_the_same(amount: int, before_s: float) -> None:
    assert text_of("device", DEVICE, met(other(1), before_s, 1e300, amount=amount))
