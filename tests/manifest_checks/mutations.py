"""Ways to break a build, each with the check that has to see it: the proof that the checks are not blind."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Object, title

Change = Callable[[Object], None]


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Attributes:
        name: what is broken, in words.
        check: name of the check that has to see it.
        object: kind and name of the object that is broken.
        change: breaks it, in place; None takes it away.
        says: what the finding has to say, a regular expression.
    """

    name: str
    check: str
    object: str
    change: Change | None
    says: str

    def applies(self, built: Built) -> bool:
        return any(title(thing) == self.object for thing in built.objects)

    def broken(self, built: Built) -> Built:
        """The build with this fault in it; the given one stays as it is."""
        objects = []
        for thing in built.objects:
            if title(thing) != self.object:
                objects.append(thing)
            elif self.change is not None:
                copied = copy.deepcopy(thing)
                self.change(copied)
                objects.append(copied)
        return Built(built.name, tuple(objects))

    def seen(self, said: Iterable[Any]) -> bool:
        return any(re.search(self.says, str(finding)) for finding in said)


def put(path: str, value: Any) -> Change:
    """Sets a field. A path is words: keys, and in a list a number or an entry's name."""

    def change(thing: Object) -> None:
        parent, last = _parent(thing, path)
        parent[last] = value

    return change


def drop(path: str) -> Change:
    """Removes a field or an entry."""

    def change(thing: Object) -> None:
        parent, last = _parent(thing, path)
        del parent[last]

    return change


def append(path: str, value: Any) -> Change:
    """Adds to a list, which need not be there."""

    def change(thing: Object) -> None:
        parent, last = _parent(thing, path)
        parent[last] = [*(parent.get(last) or []), value]

    return change


def _parent(thing: Any, path: str) -> tuple[Any, Any]:
    *parts, last = path.split()
    for part in parts:
        thing = thing[_key(thing, part)]
    return thing, _key(thing, last)


def _key(thing: Any, part: str) -> Any:
    if not isinstance(thing, list):
        return part
    return int(part) if part.isdigit() else [entry["name"] for entry in thing].index(part)


_POD = "spec template spec"
_FIRST = f"{_POD} containers 0"
_MODEL = "spec predictor model"
_SIDE = "spec transformer containers 0"
_MODE = "metadata annotations serving.kserve.io/deploymentMode"

# Of what an object says by itself.
ALONE = (
    Mutation("a typo in a field", "core kinds", "Deployment redis", put("spec replica", 1), "replica"),
    Mutation("a word for a number", "core kinds", "Service redis", put("spec ports 0 port", "many"), "many"),
    Mutation("a typo in metadata", "core kinds", "InferenceService fraud-gnn", put("metadata lables", {}), "lables"),
    Mutation("a version that is gone", "core kinds", "Deployment redis", put("apiVersion", "apps/v1beta1"), "schema"),
    Mutation(
        "a typo in a component",
        "custom kinds",
        "InferenceService fraud-gnn",
        put("spec predictor minReplicaz", 1),
        "minReplicaz",
    ),
    Mutation(
        "a typo in a runtime",
        "custom kinds",
        "ServingRuntime fraud-gnn",
        put("spec containers 0 comand", []),
        "comand",
    ),
    Mutation(
        "a wrong type, where no definition is at hand",
        "KServe's models",
        "InferenceService fraud-gnn",
        put("spec predictor minReplicas", "one"),
        "one",
    ),
    Mutation(
        "a canary that has a name of its own",
        "webhook",
        "InferenceService fraud-detector",
        put(f"{_MODEL} name", "canary"),
        "name must not be set",
    ),
    Mutation(
        "a model and a container",
        "webhook",
        "InferenceService fraud-gnn",
        put("spec predictor containers", [{"name": "kserve-container", "image": "fraud-gnn-predictor:0.1.0"}]),
        "exactly one",
    ),
    Mutation(
        "a share beyond the whole",
        "webhook",
        "InferenceService fraud-detector",
        put("spec predictor canaryTrafficPercent", 101),
        "canaryTrafficPercent",
    ),
    Mutation(
        "fewer pods at most than at least",
        "webhook",
        "InferenceService fraud-gnn",
        put("spec predictor minReplicas", 9),
        "minReplicas",
    ),
    Mutation(
        "a bundle where KServe cannot fetch",
        "webhook",
        "InferenceService fraud-gnn",
        put(f"{_MODEL} storageUri", "mlflow://fraud-gnn/1"),
        "storageUri",
    ),
    Mutation(
        "a canary in Standard mode",
        "silently ignored",
        "InferenceService fraud-detector",
        put(_MODE, "Standard"),
        "canaryTrafficPercent is ignored",
    ),
    Mutation(
        "workers for the transformer",
        "silently ignored",
        "InferenceService fraud-detector",
        put("spec transformer containerConcurrency", 4),
        "--workers",
    ),
    Mutation(
        "a request that may wait for ever",
        "silently ignored",
        "InferenceService fraud-gnn",
        drop("spec predictor timeout"),
        "timeout",
    ),
)
# Of what a container may do, and what it is started with.
CONTAINERS = (
    Mutation(
        "no limit", "limits", "ServingRuntime fraud-gnn", drop("spec containers 0 resources limits memory"), "memory"
    ),
    Mutation(
        "a container without a probe", "probes", "Deployment redis", drop(f"{_FIRST} readinessProbe"), "readiness"
    ),
    Mutation(
        "a probe of a port that is not there",
        "probes",
        "ServingRuntime fraud-gnn",
        put("spec containers 0 readinessProbe httpGet port", 8081),
        "no port 8081",
    ),
    Mutation(
        "a container that may be root",
        "rights of containers",
        "InferenceService fraud-detector",
        drop(f"{_SIDE} securityContext runAsNonRoot"),
        "runAsNonRoot",
    ),
    Mutation(
        "a root that can be written to",
        "rights of containers",
        "Deployment redis",
        put(f"{_FIRST} securityContext readOnlyRootFilesystem", False),
        "readOnlyRootFilesystem",
    ),
    Mutation(
        "capabilities that are kept",
        "rights of containers",
        "Deployment redis",
        drop(f"{_FIRST} securityContext capabilities"),
        "drop ALL",
    ),
    Mutation(
        "a folder of the node",
        "rights of containers",
        "Deployment redis",
        append(f"{_POD} volumes", {"name": "node", "hostPath": {"path": "/"}}),
        "hostPath",
    ),
    Mutation(
        "a namespace that lets everything in",
        "namespaces",
        "Namespace fraud",
        put("metadata labels pod-security.kubernetes.io/enforce", "privileged"),
        "restricted",
    ),
    Mutation("latest", "images", "Deployment redis", put(f"{_FIRST} image", "redis:latest"), "no fixed tag"),
    Mutation("no tag", "images", "Deployment redis", put(f"{_FIRST} image", "registry:5000/redis"), "no fixed tag"),
    Mutation(
        "an image of ours of another version",
        "images",
        "ServingRuntime fraud-gnn",
        put("spec containers 0 image", "fraud-gnn-predictor:0.0.9"),
        "version",
    ),
    Mutation(
        "a module that is not there",
        "commands",
        "ServingRuntime fraud-gnn",
        put("spec containers 0 command 2", "inference_services.graph"),
        "no module",
    ),
    Mutation(
        "an option that no server has",
        "commands",
        "ServingRuntime fraud-gnn",
        append("spec containers 0 args", "--model-dir=/mnt/models"),
        "no option --model-dir",
    ),
    Mutation(
        "a setting that nobody reads",
        "commands",
        "InferenceService fraud-detector",
        put(f"{_SIDE} env FRAUD_TRANSFORMER_GNN_URL name", "FRAUD_TRANSFORMER_GNN_ADDRESS"),
        "no setting FRAUD_TRANSFORMER_GNN_ADDRESS",
    ),
    Mutation(
        "a setting that is missing",
        "commands",
        "InferenceService fraud-detector",
        drop(f"{_SIDE} env FRAUD_TRANSFORMER_SPOOL_DIR"),
        "SPOOL_DIR is not set",
    ),
)
# Of what objects say of each other.
TOGETHER = (
    Mutation(
        "an unknown runtime",
        "runtimes",
        "InferenceService fraud-gnn",
        put(f"{_MODEL} runtime", "fraud-graph"),
        "no ServingRuntime fraud-graph",
    ),
    Mutation(
        "a format that its runtime does not take",
        "runtimes",
        "InferenceService fraud-gnn",
        put(f"{_MODEL} modelFormat version", "2"),
        "takes",
    ),
    Mutation("a service of nobody", "selectors", "Service redis", put("spec selector", {"app": "cache"}), "no pod"),
    Mutation(
        "a selector that does not fit its template",
        "own labels",
        "Deployment redis",
        put("spec selector matchLabels", {"app": "cache"}),
        "does not fit",
    ),
    Mutation(
        "a service's port that its pods lack",
        "ports of services",
        "Service redis",
        put("spec ports 0 targetPort", 1),
        "1",
    ),
    Mutation("a claim that is gone", "claims", "PersistentVolumeClaim fraud-bundles", None, "no claim fraud-bundles"),
    Mutation("a config map that is gone", "config maps", "ConfigMap fraud-policy", None, "no config map fraud-policy"),
    Mutation(
        "a file that the config map does not hold",
        "mounts",
        "ConfigMap fraud-policy",
        drop("data rules.yaml"),
        "rules.yaml",
    ),
    Mutation("a volume that is gone", "mounts", "Deployment redis", put(f"{_POD} volumes", []), "no volume data"),
    Mutation("a service that is gone", "addresses", "Service redis", None, "no service redis.fraud"),
    Mutation(
        "a port that its service lacks",
        "addresses",
        "InferenceService fraud-detector",
        put(f"{_SIDE} env FRAUD_TRANSFORMER_REDIS_URL value", "redis://redis.fraud.svc.cluster.local:6380/0"),
        "no port 6380",
    ),
    Mutation(
        "a host in another namespace",
        "addresses",
        "InferenceService fraud-detector",
        put(f"{_SIDE} env FRAUD_TRANSFORMER_GNN_URL value", "http://fraud-gnn-predictor.models.svc.cluster.local"),
        "models",
    ),
)
MUTATIONS = (*ALONE, *CONTAINERS, *TOGETHER)
