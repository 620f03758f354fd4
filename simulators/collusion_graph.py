"""A graph with planted rings whose members cannot be told by their degrees, for tests of graph models.

Honest background and rings come from one configuration model (Bollobas, 1980; Newman, Networks, 2018, ch. 12). A ring
is planted by swaps: an edge from a member to an outsider and one from an outsider to a member exchange their ends. All
degrees stay what they were, so that only who meets whom gives a ring away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.ride_hailing.errors import SimulationError

Ints = NDArray[np.int64]
HONEST = -1


@dataclass(frozen=True)
class CollusionGraph:
    """A bipartite graph of riders with drivers and with devices.

    Attributes:
        trips: rider and driver of each trip, shape [2, m]; a pair that rides often is there often.
        logins: rider and device of each use, shape [2, l].
        rider_ring: the ring of each rider or HONEST, shape [riders].
        driver_ring: of each driver, shape [drivers].
        device_ring: of each device, shape [devices].
    """

    trips: Ints
    logins: Ints
    rider_ring: Ints
    driver_ring: Ints
    device_ring: Ints


def generate_collusion_graph(
    riders: int = 2000,
    drivers: int = 250,
    devices: int = 2200,
    ring_sizes: Sequence[int] = (4, 8, 16, 40),
    *,
    trips_per_rider: float = 12.0,
    inside: float = 0.6,
    seed: int = 7,
) -> CollusionGraph:
    """Draws a graph; equal arguments give equal arrays.

    Args:
        riders: how many riders.
        drivers: how many drivers.
        devices: how many devices.
        ring_sizes: riders and drivers of each ring together, at least 3; a quarter of them (one or more) drive, and a
            third as many devices as riders belong to it.
        trips_per_rider: mean degree of a rider towards drivers.
        inside: share of a ring's swappable edges that are turned inwards; 0 plants nothing.
        seed: every random draw follows from it.

    Raises:
        SimulationError: an argument is impossible; the message names it.
    """
    _refuse_impossible({"riders": riders, "drivers": drivers, "devices": devices}, ring_sizes)
    _refuse_outside({"trips_per_rider": (trips_per_rider, 1, 1000), "inside": (inside, 0, 1), "seed": (seed, 0, 2**63)})
    rng = np.random.default_rng(seed)
    trips = _configuration(riders, drivers, trips_per_rider, 0.9, rng)
    logins = _configuration(riders, devices, 1.5, 0.4, rng)
    driving = np.maximum(1, np.asarray(ring_sizes, np.int64) // 4)
    riding = np.asarray(ring_sizes, np.int64) - driving
    rider_ring = _members(riders, riding, rng)
    driver_ring = _members(drivers, driving, rng)
    device_ring = _members(devices, np.maximum(1, riding // 3), rng)
    for ring in range(len(ring_sizes)):
        _turn_inwards(trips, rider_ring == ring, driver_ring == ring, inside, rng)
        _turn_inwards(logins, rider_ring == ring, device_ring == ring, inside, rng)
    return CollusionGraph(trips, logins, rider_ring, driver_ring, device_ring)


def _refuse_impossible(counts: dict[str, int], ring_sizes: Sequence[int]) -> None:
    for name, n in counts.items():
        if n < 1:
            raise SimulationError(f"{name}: must be at least 1, not {n}")
    if any(n < 3 for n in ring_sizes):
        raise SimulationError(f"ring_sizes: a ring has at least 3 members, not {min(ring_sizes)}")
    if sum(ring_sizes) > min(counts["riders"], counts["drivers"] * 3, counts["devices"]):
        raise SimulationError("ring_sizes: the rings need more riders, drivers or devices than there are")


def _refuse_outside(bounds: dict[str, tuple[float, float, float]]) -> None:
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise SimulationError(f"{name}: must lie between {low} and {high}, not {value}")


def _configuration(left: int, right: int, mean: float, spread: float, rng: np.random.Generator) -> Ints:
    """Edges [2, m] between two sides with log-normal popularity: every left node has one or more."""
    expected = rng.lognormal(-0.5 * spread**2, spread, left) * (mean - 1.0)
    stubs = np.repeat(np.arange(left), 1 + rng.poisson(expected))
    pull = rng.lognormal(0.0, spread, right)
    ends = rng.choice(right, len(stubs), p=pull / pull.sum())
    return np.stack([stubs, ends])


def _members(n: int, sizes: Ints, rng: np.random.Generator) -> Ints:
    """The ring of each of n nodes, HONEST for most: anybody can be in one, whatever the degree."""
    ring = np.full(n, HONEST)
    ring[rng.permutation(n)[: sizes.sum()]] = np.repeat(np.arange(len(sizes)), sizes)
    return ring


def _turn_inwards(
    edges: Ints, left: NDArray[np.bool_], right: NDArray[np.bool_], share: float, rng: np.random.Generator
) -> None:
    """Swaps right ends in place: a member's edge to an outsider against an outsider's edge to a member."""
    leaving = rng.permutation(np.flatnonzero(left[edges[0]] & ~right[edges[1]]))
    arriving = rng.permutation(np.flatnonzero(~left[edges[0]] & right[edges[1]]))
    k = round(share * min(len(leaving), len(arriving)))
    out, back = leaving[:k], arriving[:k]
    edges[1, out], edges[1, back] = edges[1, back], edges[1, out]
