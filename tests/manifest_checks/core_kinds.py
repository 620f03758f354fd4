"""Kinds that Kubernetes itself defines, and every object's metadata, against its published schemas."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]

from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Finding, Object, group, title

KUBERNETES = "1.32"


def is_core(thing: Object) -> bool:
    """Whether Kubernetes itself defines the kind: custom groups have a domain outside k8s.io.

    The Gateway API lies in a subdomain of it and comes as custom resources all the same.
    """
    found = group(thing)
    return (
        "." not in found
        or (found.endswith(".k8s.io") and not found.endswith(".networking.k8s.io"))
        or (found == "networking.k8s.io")
    )


def check(built: Built) -> Iterator[Finding]:
    """Strictly: an unknown field is a fault. Custom objects have their metadata checked."""
    for thing in built.objects:
        judged = thing if is_core(thing) else metadata_alone(thing)
        path, message = _fault(json.dumps(judged, sort_keys=True, default=str))
        if message:
            yield Finding(title(thing), path, message)


def metadata_alone(thing: Object) -> Object:
    """A valid object of a core kind with this one's metadata: custom definitions leave that to the API server."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": thing["metadata"]}


@functools.cache
def _fault(text: str) -> tuple[str, str]:
    """Path and message, both empty for a valid object. Overlays share most objects: each is validated once."""
    thing: dict[str, Any] = json.loads(text)
    try:
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return error.json_path.removeprefix("$."), error.message
    except kubernetes_validate.SchemaNotFoundError as error:
        return "", error.message
    return "", ""
