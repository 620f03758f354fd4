"""The status that KServe's controller writes: conditions, and the state of the predictor's model. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_WORST_FIRST = ("False", "Unknown", "True")
# What Ready does not wait for by itself; Kubernetes calls these informational.
_INFORMATIONAL = ("ConfigurationReady", "RouteReady", "RoutesReady", "LatestDeploymentReady")


@dataclass(frozen=True)
class Condition:
    """A Kubernetes condition: status True, False or Unknown; reason and message are empty when True."""

    status: str
    reason: str = ""
    message: str = ""


READY = Condition("True")
NOT_ROUTED = Condition("Unknown", "Deploying", "no revision yet")


def worst(conditions: Iterable[Condition]) -> Condition:
    """The first of those that are farthest from True."""
    return min(conditions, key=lambda condition: _WORST_FIRST.index(condition.status))


@dataclass(frozen=True)
class ComponentConditions:
    """What is known of a component: its newest revision, and whether traffic goes where it should."""

    configuration: Condition
    route: Condition


def conditions(parts: Mapping[str, ComponentConditions], entry: Condition) -> dict[str, Condition]:
    """KServe's conditions by type.

    Args:
        parts: by component, for example `predictor`.
        entry: whether the address of the service leads anywhere.
    """
    found = {}
    for kind, part in parts.items():
        name = kind.capitalize()
        found[f"{name}ConfigurationReady"] = part.configuration
        found[f"{name}RouteReady"] = part.route
        found[f"{name}Ready"] = worst((part.configuration, part.route))
    ready = [found[f"{kind.capitalize()}Ready"] for kind in parts]
    return {
        **found,
        "LatestDeploymentReady": worst(part.configuration for part in parts.values()),
        "RoutesReady": worst(part.route for part in parts.values()),
        "IngressReady": entry,
        "Ready": worst([*ready, entry]),
    }


def as_json(name: str, condition: Condition, since: str) -> dict[str, str]:
    """One entry of `status.conditions`."""
    found = {"type": name, "status": condition.status, "lastTransitionTime": since}
    found |= {"severity": "Info"} if name.endswith(_INFORMATIONAL) else {}
    words = {"reason": condition.reason, "message": condition.message}
    return {**found, **{key: value for key, value in words.items() if value}}


def model_status(*, loading: bool, failure: str, revision: str, active: bool) -> dict[str, Any]:
    """`status.modelStatus`.

    Args:
        loading: the newest revision is on its way.
        failure: why the newest revision failed; empty when it did not.
        revision: its name.
        active: a revision has been ready.
    """
    target = "FailedToLoad" if failure else "Loading" if loading else "Loaded"
    transition = {"FailedToLoad": "BlockedByFailedLoad", "Loading": "InProgress", "Loaded": "UpToDate"}[target]
    found: dict[str, Any] = {
        "transitionStatus": transition,
        "states": {"activeModelState": "Loaded" if active else "", "targetModelState": target},
        "copies": {"failedCopies": int(bool(failure)), "totalCopies": 1},
    }
    if failure:
        found["lastFailureInfo"] = {"reason": "ModelLoadFailed", "message": failure, "modelRevisionName": revision}
    return found
