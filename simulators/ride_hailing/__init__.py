"""A seeded ride-hailing city: honest habits, three kinds of fraud, and labels that come late."""

from simulators.ride_hailing.errors import SimulationError
from simulators.ride_hailing.reader import days, read_events, read_labels, read_truth, read_world
from simulators.ride_hailing.settings import TYPOLOGIES, WorldSettings
from simulators.ride_hailing.world import simulate
from simulators.ride_hailing.writer import WorldSummary

__all__ = [
    "TYPOLOGIES",
    "SimulationError",
    "WorldSettings",
    "WorldSummary",
    "days",
    "read_events",
    "read_labels",
    "read_truth",
    "read_world",
    "simulate",
]
