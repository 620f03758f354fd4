"""A canary's way through the Kubernetes API: started, raised, promoted, or sent back.

What order keeps right: the transformer knows both versions before the second one answers. And a canary that goes back
keeps its share of nothing until the champion's bundle is the newest revision again, since without a share the newest
revision that is ready gets everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.errors import ComponentError, NotServing
from components.kserve_api import DETECTOR, Serving, change, read, serving, transformer_env, with_transformer_env

FUSION_URI = "FRAUD_TRANSFORMER_FUSION_URI"


@dataclass(frozen=True, slots=True)
class Canary:
    """A predictor, and the two bundles that it serves side by side.

    Attributes:
        service: fraud-detector or fraud-gnn.
        champion: storage address.
        challenger: storage address.
        fusion: storage address of the fusion bundle that knows both.
        champion_fusion: of the one that is served with the champion alone.
    """

    service: str
    champion: str
    challenger: str
    fusion: str
    champion_fusion: str


def raise_to(api: Any, canary: Canary, percent: int, timeout_s: float) -> Serving:
    """Gives the challenger `percent` of the traffic, starting it if it does not serve yet; safe to repeat.

    Raises:
        KServeRefused: the API refuses, or is away.
        NotServing: the challenger did not come up, another bundle than these two is served, or the challenger serves
            alone; the champion goes on serving.
    """
    now = serving(api, canary.service)
    if now.storage_uri not in {canary.champion, canary.challenger}:
        raise NotServing(f"{canary.service} serves {now.storage_uri}, which is neither the champion nor the challenger")
    if now.storage_uri == canary.champion and now.percent is not None:
        raise NotServing(f"{canary.service} is on its way back to the champion: `fraud rollout rollback` finishes that")
    if now.storage_uri == canary.challenger and now.percent is None:
        raise NotServing(f"the challenger has all the traffic of {canary.service} already")
    use_fusion(api, canary.fusion, timeout_s)
    spec = {"model": {"storageUri": canary.challenger}, "canaryTrafficPercent": percent}
    return change(api, canary.service, {"predictor": spec}, timeout_s)


def promote(api: Any, canary: Canary, timeout_s: float) -> Serving:
    """Gives the challenger everything; safe to repeat.

    Raises:
        KServeRefused: the API refuses, or is away.
        NotServing: it has no share so far, or does not come to serve everything.
    """
    now = serving(api, canary.service)
    if now.storage_uri != canary.challenger:
        raise NotServing(f"the challenger has no share of {canary.service}: nothing to promote")
    return change(api, canary.service, {"predictor": {"canaryTrafficPercent": None}}, timeout_s)


def roll_back(api: Any, canary: Canary, timeout_s: float) -> Serving:
    """Takes all traffic from the challenger at once, then serves the champion alone; safe to repeat.

    Raises:
        KServeRefused: the API refuses, or is away.
        NotServing: the champion does not come up again as the newest revision; its old one has the traffic.
    """
    back = {"model": {"storageUri": canary.champion}, "canaryTrafficPercent": 0}
    change(api, canary.service, {"predictor": back}, timeout_s)
    return change(api, canary.service, {"predictor": {"canaryTrafficPercent": None}}, timeout_s)


def use_fusion(api: Any, address: str, timeout_s: float) -> None:
    """Has the transformer combine by another fusion bundle, unless it does already.

    Raises:
        KServeRefused: the API refuses, or is away.
        NotServing: it does not come up with it.
    """
    isvc = read(api, DETECTOR)
    if transformer_env(isvc, FUSION_URI) != address:
        containers = with_transformer_env(isvc, FUSION_URI, address)
        change(api, DETECTOR, {"transformer": {"containers": containers}}, timeout_s)


def roll_back_all(api: Any, canaries: tuple[Canary, ...], timeout_s: float) -> list[Serving]:
    """Brings every predictor that serves a challenger back to its champion, then the champion's fusion bundle.

    Raises:
        ComponentError: one does not come back; the others were brought back as far as they could be.
    """
    found, failed = [], []
    for canary in canaries:
        now = serving(api, canary.service)
        if now.storage_uri == canary.champion and now.percent is None:
            found.append(now)
            continue
        try:
            found.append(roll_back(api, canary, timeout_s))
        except ComponentError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    for address in {canary.champion_fusion for canary in canaries}:
        use_fusion(api, address, timeout_s)
    return found
