"""Checks of Kubernetes objects, for the tests of the manifests. A check raises AssertionError naming the object."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

ROOT = Path(__file__).parents[1]
# Real definitions of the custom resources, not part of this repository; what lacks them is skipped, and says so.
CRDS = Path(os.environ.get("CRD_SCHEMAS", ROOT.parent / "shared" / "crds"))
KUBERNETES = "1.32"

Object = dict[str, Any]


def build(folder: Path) -> list[Object]:
    """Every object of a kustomization, as kubectl builds it."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on PATH: the kustomizations were not built")
    version = subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Client Version: v(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < (1, 27):
        pytest.skip(f"kubectl 1.27 or newer is needed to build the kustomizations, found: {version.strip()}")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found_objects: list[Object] = list(yaml.safe_load_all(done.stdout))
    return found_objects


def name(thing: Object) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


def is_core(thing: Object) -> bool:
    """Whether Kubernetes itself defines the kind: custom groups have a domain outside k8s.io."""
    group = thing["apiVersion"].rpartition("/")[0]
    return "." not in group or group.endswith(".k8s.io")


def check_core(thing: Object) -> None:
    try:
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise AssertionError(f"{name(thing)}: {error.message}") from error


def check_crd(thing: Object) -> None:
    """Against the custom resource definition, with unknown fields refused as the API server's strict mode does."""
    group, _, version = thing["apiVersion"].partition("/")
    path = CRDS / f"{thing['kind'].lower()}.{group}.json"
    if not path.exists():
        pytest.skip(f"no definition of {thing['kind']} in {CRDS} (CRD_SCHEMAS): its schema was not checked")
    schema = json.loads(path.read_text())["versions"][version]
    if thing["kind"] == "InferenceService":
        # Marked required, yet the webhook refuses a value.
        model = schema["properties"]["spec"]["properties"]["predictor"]["properties"]["model"]
        model["required"] = [field for field in model.get("required", []) if field != "name"]
    try:
        jsonschema.Draft202012Validator(closed(schema)).validate(thing)
    except jsonschema.ValidationError as error:
        raise AssertionError(f"{name(thing)}: {error.json_path}: {error.message}") from error


def closed(schema: Any) -> Any:
    """A structural schema that refuses fields it does not name."""
    if not isinstance(schema, dict):
        return schema
    result = {key: value for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        result["properties"] = {key: closed(value) for key, value in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if key in schema:
            result[key] = closed(schema[key])
    return result
