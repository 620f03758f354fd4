"""The webhook's rules for autoscaling a component: Knative's autoscaler, or Kubernetes' HPA. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_HPA_CLASS = "hpa.autoscaling.knative.dev"


def scaling_refusals(annotations: Mapping[str, str], component: Mapping[str, Any]) -> Iterator[str]:
    """Why a component's scaling fields are refused, by the autoscaler that the annotations choose."""
    if annotations.get("serving.kserve.io/deploymentMode") in {"Standard", "RawDeployment"}:
        if annotations.get("serving.kserve.io/autoscalerClass") == "hpa":
            yield from _of_hpa(component)
    elif annotations.get("autoscaling.knative.dev/class") == _HPA_CLASS:
        yield from _of_hpa(component)
    else:
        yield from _of_knative(component)


def _of_knative(component: Mapping[str, Any]) -> Iterator[str]:
    if component.get("deploymentStrategy") is not None:
        yield "deploymentStrategy has a meaning in Standard mode only"
    metric = component.get("scaleMetric", "concurrency")
    if metric not in {"concurrency", "rps"}:
        yield f"scaleMetric must be concurrency or rps, not {metric}"
    if metric == "rps" and component.get("scaleTarget", 1) < 1:
        yield "scaleTarget must be at least 1 for rps"


def _of_hpa(component: Mapping[str, Any]) -> Iterator[str]:
    metric = component.get("scaleMetric", "cpu")
    if metric not in {"cpu", "memory"}:
        yield f"scaleMetric must be cpu or memory, not {metric}"
    target = component.get("scaleTarget")
    if target is not None and (target > 100 or target < 1):
        yield f"scaleTarget must be from 1 to 100, not {target}"
    for source in (component.get("autoScaling") or {}).get("metrics") or []:
        if source["type"] != "Resource" or source.get("resource") is None:
            yield "autoScaling.metrics must be of type Resource and name one"
