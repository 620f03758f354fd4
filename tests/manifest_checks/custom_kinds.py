"""Custom kinds against their real definitions, with unknown fields refused as the API server's strict mode does."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from tests.manifest_checks.building import ROOT
from tests.manifest_checks.built import Built
from tests.manifest_checks.core_kinds import is_core
from tests.manifest_checks.finding import Finding, Object, group, title

# Not part of this repository: a folder of `<kind>.<group>.json`, each {"versions": {version: OpenAPI schema}}.
CRDS = Path(os.environ.get("CRD_SCHEMAS", ROOT.parent / "shared" / "crds"))
_ALWAYS = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}


def check(built: Built) -> Iterator[Finding]:
    """Objects whose definition is at hand; `without_definition` names the others."""
    for thing in built.objects:
        path = definition(thing)
        if path is None:
            continue
        version = str(thing["apiVersion"]).partition("/")[2]
        validator = _validator(path, version)
        if validator is None:
            yield Finding(title(thing), "apiVersion", f"{thing['kind']} has no version {version}")
            continue
        for error in validator.iter_errors(thing):
            yield Finding(title(thing), error.json_path.removeprefix("$."), error.message)


def definition(thing: Object) -> Path | None:
    path = CRDS / f"{thing['kind'].lower()}.{group(thing)}.json"
    return path if not is_core(thing) and path.exists() else None


def without_definition(built: Built) -> set[str]:
    """Custom kinds that no schema judges: to be said aloud."""
    return {
        f"{thing['kind']}.{group(thing)}" for thing in built.objects if not is_core(thing) and definition(thing) is None
    }


@functools.cache
def _validator(path: Path, version: str) -> jsonschema.Draft202012Validator | None:
    schema = json.loads(path.read_text())["versions"].get(version)
    if schema is None:
        return None
    schema["properties"] = {**_ALWAYS, **schema["properties"]}
    if path.name.startswith("inferenceservice."):
        # Marked required, yet the webhook refuses a value.
        model = schema["properties"]["spec"]["properties"]["predictor"]["properties"]["model"]
        model["required"] = [field for field in model.get("required", []) if field != "name"]
    return jsonschema.Draft202012Validator(closed(schema))


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
