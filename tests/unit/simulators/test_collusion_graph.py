"""Rings planted without a trace in the degrees."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy.stats import ks_2samp

from simulators.collusion_graph import HONEST, CollusionGraph, generate_collusion_graph
from simulators.ride_hailing import SimulationError


@pytest.fixture(scope="module")
def graph() -> CollusionGraph:
    return generate_collusion_graph()


def inside_share(graph: CollusionGraph) -> float:
    rider, driver = graph.rider_ring[graph.trips[0]], graph.driver_ring[graph.trips[1]]
    return float((rider == driver)[rider != HONEST].mean())


def test_rings_have_the_sizes_asked_for(graph: CollusionGraph) -> None:
    riders, drivers = (np.bincount(r[r != HONEST]) for r in (graph.rider_ring, graph.driver_ring))
    assert (riders + drivers).tolist() == [4, 8, 16, 40]
    assert set(graph.device_ring) == {HONEST, 0, 1, 2, 3}


def test_ring_members_ride_with_each_other(graph: CollusionGraph) -> None:
    assert inside_share(graph) > 0.3
    assert inside_share(generate_collusion_graph(inside=0.0)) < 0.05


def test_planting_a_ring_changes_no_degree(graph: CollusionGraph) -> None:
    background = generate_collusion_graph(inside=0.0)
    for name in ("trips", "logins"):
        for side in (0, 1):
            planted, plain = getattr(graph, name)[side], getattr(background, name)[side]
            np.testing.assert_array_equal(np.bincount(planted), np.bincount(plain))


def test_degrees_do_not_tell_a_member_from_an_honest_rider() -> None:
    graph = generate_collusion_graph(8000, 1200, 9000, (40,) * 12)
    degree = np.bincount(graph.trips[0], minlength=8000)
    member = graph.rider_ring != HONEST
    assert ks_2samp(degree[member], degree[~member]).pvalue > 0.01


def test_equal_arguments_give_equal_graphs_and_seeds_differ(graph: CollusionGraph) -> None:
    again, other = generate_collusion_graph(), generate_collusion_graph(seed=8)
    assert all(np.array_equal(getattr(graph, f.name), getattr(again, f.name)) for f in fields(CollusionGraph))
    assert not np.array_equal(graph.trips, other.trips)


@pytest.mark.parametrize(
    ("name", "value"),
    [("riders", 0), ("drivers", -1), ("ring_sizes", (2,)), ("ring_sizes", (5000,)), ("trips_per_rider", 0.5),
     ("inside", 1.5), ("seed", -1)],
)  # fmt: skip
def test_impossible_arguments_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SimulationError, match=f"^{name}: "):
        generate_collusion_graph(**{name: value})
