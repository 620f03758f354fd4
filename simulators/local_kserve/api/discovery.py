"""What an API server says about itself, so that a client finds the resources by their names. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simulators.local_kserve.admission import API_VERSION, KIND

GROUP, VERSION = API_VERSION.split("/")
PLURAL = "inferenceservices"
# The version of Kubernetes whose rules this follows.
SERVER = {"major": "1", "minor": "32", "gitVersion": "v1.32.0+local-kserve", "platform": "local"}

_SERVED = {"groupVersion": API_VERSION, "version": VERSION}
_GROUP = {"name": GROUP, "versions": [_SERVED], "preferredVersion": _SERVED}
CORE_VERSIONS = {"kind": "APIVersions", "versions": ["v1"]}
GROUPS = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]}
OUR_GROUP = {"kind": "APIGroup", "apiVersion": "v1", **_GROUP}


def _resources(version: str, resource: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [resource]}


CORE_RESOURCES = _resources(
    "v1",
    {
        "name": "namespaces",
        "singularName": "namespace",
        "namespaced": False,
        "kind": "Namespace",
        "shortNames": ["ns"],
        "verbs": ["get", "list"],
    },
)
OUR_RESOURCES = _resources(
    API_VERSION,
    {
        "name": PLURAL,
        "singularName": "inferenceservice",
        "namespaced": True,
        "kind": KIND,
        "shortNames": ["isvc"],
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
    },
)

OPENAPI_PATH = f"/openapi/v3/apis/{API_VERSION}"
OPENAPI_INDEX = {"paths": {f"apis/{API_VERSION}": {"serverRelativeURL": OPENAPI_PATH}}}
_KIND = {"group": GROUP, "version": VERSION, "kind": KIND}
# Enough for `kubectl apply`: which patches there are, and that fields are checked here and not by the client.
OPENAPI = {
    "openapi": "3.0.0",
    "info": {"title": "local KServe", "version": SERVER["gitVersion"]},
    "paths": {
        f"/apis/{API_VERSION}/namespaces/{{namespace}}/{PLURAL}/{{name}}": {
            "patch": {
                "parameters": [
                    {"name": name, "in": "query", "schema": {"type": "string"}}
                    for name in ("dryRun", "fieldValidation")
                ],
                "requestBody": {"content": {"application/json-patch+json": {}, "application/merge-patch+json": {}}},
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": _KIND,
            }
        }
    },
    "components": {"schemas": {}},
}


def namespace(name: str) -> dict[str, Any]:
    """A namespace: they exist by being used."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "status": {"phase": "Active"}}


def namespaces(names: Iterable[str]) -> dict[str, Any]:
    """The list of them."""
    items = [namespace(name) for name in sorted(names)]
    return {"apiVersion": "v1", "kind": "NamespaceList", "metadata": {}, "items": items}
