"""`python manifests/keep_models.py BUILT LIVE [REGISTRY]`: prints a built overlay with the models that serve now.

BUILT is what `kubectl kustomize` printed, LIVE what `kubectl get inferenceservices --output json` did. Which bundle is
served, and to whom, is the business of rollouts: the addresses in the files are placeholders, and applying them over a
running InferenceService would take its model away. What serves no model yet gets the champion of REGISTRY, which
`fraud models export` wrote.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
# What rollouts write, apart from the predictor's fields: in the environment of a transformer.
MODEL_VARIABLES = frozenset({"FRAUD_TRANSFORMER_FUSION_URI"})
_PLACEHOLDER = re.compile(r"\S+/(fraud-[a-z]+)/0-0{12}")


def keep_models(
    built: Iterable[Object], live: Iterable[Object], champion: Mapping[str, str] | None = None
) -> list[Object]:
    """The built objects, with the models and the canary of each InferenceService that runs already.

    Args:
        built: any objects.
        live: the InferenceServices of the cluster.
        champion: address by model, for those that serve a placeholder; without it they go on doing so.
    """
    running = {_identity(thing): thing for thing in live}
    kept = [_kept(thing, running[_identity(thing)]) if _identity(thing) in running else thing for thing in built]
    return [_filled(thing, champion or {}) if thing["kind"] == "InferenceService" else thing for thing in kept]


def champion_of(registry: Mapping[str, Any]) -> dict[str, str]:
    """Address by model of what the registry calls champion."""
    versions = (version for model in registry["models"] for version in model["versions"])
    return {version["model"]: version["storage_uri"] for version in versions if "champion" in version["aliases"]}


def _filled(value: Any, champion: Mapping[str, str]) -> Any:
    """A value with every placeholder in it replaced."""
    if isinstance(value, dict):
        return {key: _filled(inner, champion) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, champion) for inner in value]
    found = _PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
    return champion.get(found[1], value) if found else value


def _identity(thing: Mapping[str, Any]) -> tuple[str, str, str]:
    return thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


def _kept(built: Object, live: Mapping[str, Any]) -> Object:
    predictor, serving = built["spec"]["predictor"], live["spec"]["predictor"]
    kept = {key: serving[key] for key in ("canaryTrafficPercent",) if key in serving}
    kept["model"] = {**predictor["model"], "storageUri": serving["model"]["storageUri"]}
    spec = {**built["spec"], "predictor": {**predictor, **kept}}
    if "transformer" in spec:
        spec["transformer"] = _with_variables(spec["transformer"], _model_variables(live))
    return {**built, "spec": spec}


def _model_variables(live: Mapping[str, Any]) -> dict[str, Any]:
    containers = live["spec"].get("transformer", {}).get("containers", [])
    return {
        variable["name"]: variable
        for container in containers
        for variable in container.get("env", [])
        if variable["name"] in MODEL_VARIABLES
    }


def _with_variables(transformer: Mapping[str, Any], variables: Mapping[str, Any]) -> Object:
    containers = [
        {**container, "env": [variables.get(variable["name"], variable) for variable in container.get("env", [])]}
        for container in transformer["containers"]
    ]
    return {**transformer, "containers": containers}


def main(arguments: Sequence[str]) -> None:
    """Runs from the command line; `arguments` are the files. No InferenceService at all is an empty LIVE."""
    built, live, *registry = (Path(argument).read_text() for argument in arguments)
    running = json.loads(live)["items"] if live.strip() else []
    champion = champion_of(json.loads(registry[0])) if registry else {}
    sys.stdout.write(yaml.safe_dump_all(keep_models(yaml.safe_load_all(built), running, champion), sort_keys=False))


if __name__ == "__main__":
    main(sys.argv[1:])
