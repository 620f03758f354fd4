"""Scenarios turn up one kind of fraud and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.abuse_scenarios import SCENARIOS, generate_abuse_scenarios
from simulators.ride_hailing import TYPOLOGIES, SimulationError
from simulators.ride_hailing.scale import days_and_volume


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_has_its_fraud_and_no_other(name: str, tmp_path: Path) -> None:
    summary = generate_abuse_scenarios(name, tmp_path / "world", days=4, events_per_day=600)
    share = summary.fraud_events / summary.events
    if name == "honest":
        assert share == 0
    else:
        assert set(summary.fraud_by_typology) == set(SCENARIOS[name].typologies)
        assert 0.01 < share < 0.12


def test_every_typology_has_a_described_scenario() -> None:
    assert set(TYPOLOGIES) < set(SCENARIOS)
    assert all(scenario.description.endswith(".") for scenario in SCENARIOS.values())


def test_an_unknown_scenario_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=f"no scenario 'theft': there are {TYPOLOGIES[0]}"):
        generate_abuse_scenarios("theft", tmp_path)


@pytest.mark.parametrize("events", [600, 5000, 100_000, 1_000_000])
def test_days_and_volume_make_the_number_of_events(events: int) -> None:
    days, volume = days_and_volume(events)
    assert 2 <= days <= 120
    assert volume >= 300
    assert abs(days * volume - events) < 0.01 * events
