"""A seeded ride-hailing city: honest habits, ten kinds of fraud, and labels that come late."""

from simulators.ride_hailing.changes import Change, ConceptDrift, Holiday, Jamming, LabelShift, NewTypology
from simulators.ride_hailing.errors import SimulationError
from simulators.ride_hailing.policy import AllowAll, Policy
from simulators.ride_hailing.reader import (
    days,
    read_decisions,
    read_events,
    read_labels,
    read_snapshot,
    read_truth,
    read_world,
)
from simulators.ride_hailing.settings import TYPOLOGIES, WorldSettings
from simulators.ride_hailing.world import simulate
from simulators.ride_hailing.writer import WorldSummary

__all__ = [
    "TYPOLOGIES",
    "AllowAll",
    "Change",
    "ConceptDrift",
    "Holiday",
    "Jamming",
    "LabelShift",
    "NewTypology",
    "Policy",
    "SimulationError",
    "WorldSettings",
    "WorldSummary",
    "days",
    "read_decisions",
    "read_events",
    "read_labels",
    "read_snapshot",
    "read_truth",
    "read_world",
    "simulate",
]
