"""What counts as a day that lost rows, and what as a jump in volume."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from components.volumes import FIRST_RUN, Comparison, Volumes, VolumeSettings, compare_volumes

FIRST = date(2026, 1, 5)


def volumes(**by_group: list[int]) -> Volumes:
    """Rows of successive days from the first."""
    return {(g, FIRST + timedelta(days=i)): n for g, rows in by_group.items() for i, n in enumerate(rows)}


def compare(current: Volumes, previous: Volumes | None, **settings: float) -> Comparison:
    chosen = VolumeSettings.model_validate(settings)
    return compare_volumes(current, previous, chosen, unit="event_type", previous_name="dataset abc")


BEFORE = volumes(trips=[100, 100, 100], refunds=[2, 3, 1])


def test_the_first_run_has_nothing_to_compare_with_and_says_so() -> None:
    assert compare(BEFORE, None) == Comparison(FIRST_RUN, [])


def test_a_like_run_passes_and_names_what_it_was_compared_with() -> None:
    assert compare(volumes(trips=[100, 101, 100, 60], refunds=[2, 3, 1, 0]), BEFORE) == Comparison(
        "compared with dataset abc", []
    )


@pytest.mark.parametrize(("rows", "lost"), [(99, False), (98, True), (0, True)])
def test_a_day_that_shrank_by_more_than_the_tolerance_is_named(rows: int, lost: bool) -> None:
    breaches = compare(volumes(trips=[100, rows, 100], refunds=[2, 3, 1]), BEFORE).breaches
    assert breaches == (
        [f"event_type 'trips' has {rows} rows on 2026-01-06, and had 100 in the previous run"] if lost else []
    )


def test_a_day_that_is_gone_has_lost_its_rows_and_one_before_the_first_has_not() -> None:
    current = volumes(trips=[100, 100, 100], refunds=[2, 3, 1])
    gone = {key: rows for key, rows in current.items() if key[1] != FIRST + timedelta(days=2)}
    assert len(compare(gone, BEFORE).breaches) == 2
    rolling = {key: rows for key, rows in current.items() if key[1] != FIRST}
    assert compare(rolling, BEFORE).breaches == []


@pytest.mark.parametrize(("rows", "passes"), [(32, False), (33, True), (300, True), (301, False), (0, False)])
def test_new_days_are_held_to_the_average_of_the_old(rows: int, passes: bool) -> None:
    breaches = compare(volumes(trips=[100, 100, 100, rows], refunds=[2, 3, 1]), BEFORE).breaches
    assert (breaches == []) == passes
    if not passes:
        assert f"'trips' has {rows} rows on the 1 new days from 2026-01-08, where the previous" in breaches[0]
        assert "makes 100; 0.33 to 3 times that is allowed" in breaches[0]


def test_few_rows_are_not_judged() -> None:
    assert compare(volumes(trips=[100, 100, 100, 100], refunds=[2, 3, 1, 25]), BEFORE).breaches == []
    assert len(compare(volumes(trips=[100] * 4, refunds=[2, 3, 1, 25]), BEFORE, least_expected=1).breaches) == 1


def test_a_group_that_is_new_is_not_judged() -> None:
    assert compare(volumes(trips=[100] * 4, refunds=[2, 3, 1, 2], scooters=[0, 0, 0, 500]), BEFORE).breaches == []
