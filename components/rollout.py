"""The rollout of a challenger: LightGBM first, then the graph network, and the alias when both serve.

One predictor canaries at a time, so that only pairs answer that the gate has judged. The addresses of both versions
come from the registry: what serves is compared with them, and nothing is remembered elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import canary
from components.canary import Canary
from components.errors import NotServing, RegistryError
from components.kserve_api import DETECTOR, GNN, Serving, serving
from components.model_registry import ModelSet, ModelVersion, registered
from components.observe_canary.decisions import Arms

# How long KServe itself waits for a revision (Knative's progress deadline).
READY_S = 600.0


@dataclass(frozen=True, slots=True)
class Leg:
    """One model's part of a rollout.

    Attributes:
        champion: its version that serves.
        challenger: the one that is to.
        canary: the predictor and the addresses.
    """

    champion: ModelVersion
    challenger: ModelVersion
    canary: Canary

    @property
    def model(self) -> str:
        """The registered model's name."""
        return self.champion.name

    @property
    def arms(self) -> Arms:
        """What the decision log is read for."""
        return Arms(self.model, self.champion.sha12, self.challenger.sha12)

    def finished(self, now: Serving) -> bool:
        """Whether the challenger serves alone."""
        return now.storage_uri == self.canary.challenger and now.percent is None

    def begun(self, now: Serving) -> bool:
        """Whether the challenger has a share."""
        return now.storage_uri == self.canary.challenger and now.percent is not None


def legs(tracking_uri: str) -> tuple[Leg, ...]:
    """The models in which the challenger differs from the champion, in the order in which they canary.

    Raises:
        RegistryError: there is no champion, no challenger or nothing to roll out, or the fusion bundle does not know a
            pair that may answer.
    """
    return legs_between(registered(tracking_uri, "champion"), registered(tracking_uri, "challenger"))


def leg_of(rollout: Sequence[Leg], model: str) -> Leg:
    """A model's leg.

    Raises:
        RegistryError: the challenger does not differ from the champion in it.
    """
    found = next((leg for leg in rollout if leg.model == model), None)
    if found is None:
        raise RegistryError(f"no {model} to roll out: there are {', '.join(leg.model for leg in rollout)}")
    return found


def legs_between(old: ModelSet, new: ModelSet) -> tuple[Leg, ...]:
    """The same, of a champion and a challenger.

    Raises:
        RegistryError: there is nothing to roll out, or the fusion bundle does not know a pair that may answer.
    """
    pairs = [
        (old.lightgbm.sha12, old.gnn.sha12),
        (new.lightgbm.sha12, old.gnn.sha12),
        (new.lightgbm.sha12, new.gnn.sha12),
    ]
    check_fusion(new.fusion.folder, pairs)
    found = []
    for service, before, after in ((DETECTOR, old.lightgbm, new.lightgbm), (GNN, old.gnn, new.gnn)):
        if before.sha12 != after.sha12:
            addresses = [version.storage_uri for version in (before, after, new.fusion, old.fusion)]
            found.append(Leg(before, after, Canary(service, *addresses)))
    if not found:
        raise RegistryError("the challenger's models are the champion's: nothing to roll out, promote it at once")
    return tuple(found)


def next_leg(api: Any, rollout: Sequence[Leg]) -> Leg | None:
    """The leg that is under way or comes next; None when every challenger serves alone.

    Raises:
        KServeRefused: the API does not answer, or a service is missing.
    """
    return next((leg for leg in rollout if not leg.finished(serving(api, leg.canary.service))), None)


def promote(
    api: Any, rollout: Sequence[Leg], move_aliases: Callable[[], list[ModelVersion]], ready_s: float = READY_S
) -> list[ModelVersion]:
    """Gives the canary all traffic; where that was the last leg, the alias champion moves.

    Args:
        api: a Kubernetes client.
        rollout: its legs.
        move_aliases: makes the challenger the champion in the registry.
        ready_s: how long a service may take to be ready.

    Returns:
        The new champions; nothing while another leg is to come.

    Raises:
        NotServing: no canary has a share.
        KServeRefused: the API refuses, or is away.
        RegistryError: the aliases cannot move; what serves is the challenger, and promoting again finishes it.
    """
    leg = next_leg(api, rollout)
    if leg is not None:
        if not leg.begun(serving(api, leg.canary.service)):
            raise NotServing(f"no canary of {leg.model} has a share: start it with `fraud rollout start`")
        canary.promote(api, leg.canary, ready_s)
        if next_leg(api, rollout) is not None:
            return []
    return move_aliases()


def roll_back(api: Any, rollout: Sequence[Leg], ready_s: float = READY_S) -> list[Serving]:
    """Serves the champion alone again, whatever leg the rollout is in; the aliases have not moved, and stay.

    Raises:
        ComponentError: a predictor does not come back.
    """
    return canary.roll_back_all(api, tuple(leg.canary for leg in reversed(rollout)), ready_s)


def check_fusion(fusion: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Proves that a fusion bundle can combine every pair that may answer.

    Args:
        fusion: the bundle's folder.
        pairs: content ids of LightGBM and GNN versions.

    Raises:
        RegistryError: a pair is not in its table; events that meet it would all be reviewed.
    """
    known = {(row["lightgbm"], row["gnn"]) for row in json.loads((fusion / "fusion.json").read_text())["pairs"]}
    for lightgbm, gnn in pairs:
        if (lightgbm, gnn) not in known:
            raise RegistryError(
                f"fusion bundle {fusion.name} does not know LightGBM {lightgbm} with GNN {gnn}: train the challenger "
                "against this champion with `fraud train --alias challenger`"
            )
