"""InferenceServices through the ordinary Kubernetes client: the same calls for a cluster and for the local KServe."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient, ApiException, Configuration, CustomObjectsApi
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from urllib3.exceptions import HTTPError

from components.errors import KServeRefused, NotServing

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
DETECTOR, GNN, DRIFT = "fraud-detector", "fraud-gnn", "fraud-drift"
NAMESPACE = "fraud"
_POLL_S = 0.2
# A bundle that cannot be fetched or served; KServe tries no further until the object changes.
_GIVEN_UP = ("BlockedByFailedLoad", "InvalidSpec")


@dataclass(frozen=True, slots=True)
class Share:
    """A revision's part of a predictor's traffic."""

    revision: str
    percent: int


@dataclass(frozen=True, slots=True)
class Serving:
    """What an InferenceService serves, and is asked to.

    Attributes:
        service: its name.
        storage_uri: the bundle that it is asked to serve last.
        percent: the canary's share; None without one.
        shares: of the revisions that have some, as the status lists them.
        ready: whether all of it is as the object asks.
        problem: why it is not; empty when it is, or only not yet.
    """

    service: str
    storage_uri: str
    percent: int | None
    shares: tuple[Share, ...]
    ready: bool
    problem: str


def connect(kubeconfig: Path | None = None) -> CustomObjectsApi:
    """A client for the cluster of a kubeconfig; without one, for the pod's own cluster or for kubectl's.

    Raises:
        KServeRefused: there is no cluster to be found.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(configuration)
        else:
            path = os.environ.get("KUBECONFIG") if kubeconfig is None else str(kubeconfig)
            load_kube_config(path, client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise KServeRefused(f"no cluster: {error}; set KUBECONFIG, or start a local one with `fraud serve`") from None
    return CustomObjectsApi(ApiClient(configuration))


def get(api: Any, name: str) -> dict[str, Any]:
    """The InferenceService `name` with its status."""
    found: dict[str, Any] = api.get_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, name)
    return found


def create(api: Any, body: dict[str, Any]) -> None:
    """Creates an InferenceService."""
    api.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, body)


def patch(api: Any, name: str, change: dict[str, Any]) -> dict[str, Any]:
    """Merge-patches the InferenceService `name` and returns it."""
    patched: dict[str, Any] = api.patch_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, name, change)
    return patched


def read(api: Any, service: str) -> dict[str, Any]:
    """The InferenceService `service` with its status.

    Raises:
        KServeRefused: there is none, or the API does not answer.
    """
    try:
        return get(api, service)
    except (ApiException, HTTPError) as error:
        raise _refused(f"cannot read InferenceService {service}", error) from None


def serving(api: Any, service: str) -> Serving:
    """What the InferenceService `service` serves now.

    Raises:
        KServeRefused: there is none, or the API does not answer.
    """
    return _serving(service, read(api, service))


def change(api: Any, service: str, spec: dict[str, Any], timeout_s: float) -> Serving:
    """Patches a spec and waits until all of it serves.

    Raises:
        KServeRefused: the API refuses the change, or does not answer.
        NotServing: the new revision failed, or was not ready in time.
    """
    try:
        generation = patch(api, service, {"spec": spec})["metadata"]["generation"]
        deadline = time.monotonic() + timeout_s
        while True:
            found = get(api, service)
            now = _serving(service, found)
            # Until the controller has seen the change, the status is that of before.
            seen = found.get("status", {}).get("observedGeneration", 0) >= generation
            if seen and now.ready:
                return now
            if seen and now.problem:
                raise NotServing(f"{service} does not serve {now.storage_uri}: {now.problem}")
            if time.monotonic() > deadline:
                raise NotServing(f"{service} did not serve {now.storage_uri} within {timeout_s:g} s")
            time.sleep(_POLL_S)
    except (ApiException, HTTPError) as error:
        raise _refused(f"cannot change InferenceService {service}", error) from None


def transformer_env(isvc: dict[str, Any], name: str) -> str | None:
    """The value of an environment variable of an InferenceService's transformer; None where it has none."""
    variables = isvc["spec"]["transformer"]["containers"][0].get("env", [])
    return next((str(item.get("value")) for item in variables if item["name"] == name), None)


def with_transformer_env(isvc: dict[str, Any], name: str, value: str) -> list[dict[str, Any]]:
    """The transformer's containers with one environment variable set: a merge patch replaces a list as a whole."""
    container, *others = isvc["spec"]["transformer"]["containers"]
    kept = [item for item in container.get("env", []) if item["name"] != name]
    return [{**container, "env": [*kept, {"name": name, "value": value}]}, *others]


def _serving(service: str, isvc: dict[str, Any]) -> Serving:
    predictor, status = isvc["spec"]["predictor"], isvc.get("status", {})
    listed = status.get("components", {}).get("predictor", {}).get("traffic", [])
    ready: dict[str, Any] = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
    model = status.get("modelStatus", {})
    problem = ""
    if model.get("transitionStatus") in _GIVEN_UP:
        problem = str(model.get("lastFailureInfo", {}).get("message") or ready.get("message") or "it cannot be loaded")
    elif ready.get("reason") == "RevisionFailed":
        problem = str(ready.get("message", ""))
    return Serving(
        service,
        str(predictor["model"]["storageUri"]),
        predictor.get("canaryTrafficPercent"),
        tuple(Share(str(t.get("revisionName", "")), int(t.get("percent") or 0)) for t in listed),
        ready.get("status") == "True",
        problem,
    )


def _refused(what: str, error: ApiException | HTTPError) -> KServeRefused:
    if not isinstance(error, ApiException):
        return KServeRefused(f"{what}: the Kubernetes API does not answer ({error})")
    return KServeRefused(f"{what}: {error.status} {error.reason}: {error.body or ''}"[:500])
