"""From an InferenceService, its ServingRuntime and the image table to the process that a revision is. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from simulators.local_kserve.errors import ManifestError
from simulators.local_kserve.payload_log import Logger

MODEL_MOUNT = "/mnt/models"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# (host label, gRPC?) -> "host:port" of the local router in front of it
Resolve = Callable[[str, bool], str]


class Image(BaseModel):
    """What stands in for a container image: the interpreter with its packages, and extra environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    python: str
    env: dict[str, str] = {}


@dataclass(frozen=True)
class RevisionPlan:
    """A component's template: what is run, still in terms of the container's own paths."""

    isvc: str
    namespace: str
    component: str
    container: dict[str, Any]
    storage_uri: str | None
    scratch: dict[str, str] = field(default_factory=dict)  # mount path of an emptyDir -> volume name
    config_maps: dict[str, str] = field(default_factory=dict)  # mount path -> name of the ConfigMap
    claims: dict[str, str] = field(default_factory=dict)  # mount path -> name of the PersistentVolumeClaim
    logger: Logger | None = None
    timeout_s: float = 300  # Knative's default
    workers: int | None = None  # containerConcurrency, of which KServe makes a transformer's --workers

    @property
    def model_name(self) -> str:
        """The name that must be ready: what --model_name says, else the InferenceService's."""
        arguments = [str(a) for a in self.container.get("args") or []]
        for index, argument in enumerate(arguments):
            if argument.startswith("--model_name="):
                return argument.partition("=")[2]
            if argument == "--model_name" and index + 1 < len(arguments):
                return arguments[index + 1]
        return self.isvc


def read_images(path: Path) -> dict[str, Image]:
    """Image name -> what stands in for it, from a JSON file."""
    try:
        return TypeAdapter(dict[str, Image]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ManifestError(f"image table {path}: {error}") from error


def read_runtimes(manifests: Path) -> dict[str, dict[str, Any]]:
    """Name -> spec of every ServingRuntime in `manifests`/serving_runtimes."""
    found = {}
    for path in sorted((manifests / "serving_runtimes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("kind") == "ServingRuntime":
                found[document["metadata"]["name"]] = document["spec"]
    if not found:
        raise ManifestError(f"no ServingRuntime in {manifests / 'serving_runtimes'}/*.yaml")
    return found


def read_config_maps(manifests: Path) -> dict[str, dict[str, Path]]:
    """Name -> files by key of every ConfigMap that `manifests`/kustomization.yaml generates; none without that file."""
    kustomization = manifests / "kustomization.yaml"
    if not kustomization.exists():
        return {}
    found = yaml.safe_load(kustomization.read_text()).get("configMapGenerator") or []
    return {
        generated["name"]: {Path(name).name: (manifests / name).resolve() for name in generated.get("files") or []}
        for generated in found
    }


def template_hash(isvc: Mapping[str, Any], component: str) -> str:
    """Changes exactly when Knative would make a new revision: the canary share is not part of the template."""
    metadata = isvc["metadata"]
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != _LAST_APPLIED}
    spec = {k: v for k, v in isvc["spec"][component].items() if k != "canaryTrafficPercent"}
    content = json.dumps([spec, annotations, metadata.get("labels") or {}], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def plan(isvc: Mapping[str, Any], component: str, runtimes: Mapping[str, dict[str, Any]]) -> RevisionPlan:
    """What KServe would put into the pod; raises ManifestError when the runtime does not fit."""
    metadata, spec = isvc["metadata"], isvc["spec"][component]
    model = spec.get("model")
    pod: Mapping[str, Any] = spec
    container: dict[str, Any] = next(iter(spec.get("containers") or []), {})
    if model is not None:
        pod = _runtime(model, runtimes)
        container = _merge_container(pod["containers"][0], model)
    container = json.loads(
        json.dumps(container).replace("{{.Name}}", metadata["name"]).replace("{{.Namespace}}", metadata["namespace"])
    )
    volumes, mounts = pod.get("volumes") or [], container.get("volumeMounts") or []
    empty = {v["name"]: v["name"] for v in volumes if "emptyDir" in v}
    maps = {v["name"]: v["configMap"]["name"] for v in volumes if "configMap" in v}
    claimed = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}
    scratch, config_maps, claims = (
        {m["mountPath"]: kind[m["name"]] for m in mounts if m["name"] in kind} for kind in (empty, maps, claimed)
    )
    return RevisionPlan(
        metadata["name"],
        metadata["namespace"],
        component,
        container,
        storage_uri=model["storageUri"] if model is not None else None,
        scratch=scratch,
        config_maps=config_maps,
        claims=claims,
        logger=Logger.of(isvc, component),
        timeout_s=float(spec.get("timeout") or RevisionPlan.timeout_s),
        workers=spec.get("containerConcurrency"),
    )


def _runtime(model: Mapping[str, Any], runtimes: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    runtime = runtimes.get(model["runtime"])
    if runtime is None:
        raise ManifestError(f"no ServingRuntime {model['runtime']!r}; there are {sorted(runtimes)}")
    formats = [f["name"] for f in runtime["supportedModelFormats"]]
    if model["modelFormat"].get("name") not in formats:
        raise ManifestError(
            f"ServingRuntime {model['runtime']!r} supports {formats}, not {model['modelFormat'].get('name')!r}"
        )
    return runtime


def _merge_container(runtime: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """KServe's merge: environment by name, arguments one after the other, the model's command and image win."""
    env = {e["name"]: e for e in [*(runtime.get("env") or []), *(model.get("env") or [])]}
    return {
        **runtime,
        **{k: model[k] for k in ("command", "image") if model.get(k)},
        "env": list(env.values()),
        "args": [*(runtime.get("args") or []), *(model.get("args") or [])],
    }


@dataclass(frozen=True)
class Process:
    """What is started: the full command and the container's environment."""

    command: list[str]
    env: dict[str, str]


def process(
    plan: RevisionPlan,
    images: Mapping[str, Image],
    *,
    revision: str,
    ports: tuple[int, int],
    folders: Mapping[str, Path],
    resolve: Resolve,
) -> Process:
    """The process of a revision.

    `ports` are (HTTP, gRPC); `folders` maps a mount path to the local folder that takes its place; `resolve` gives
    the local address of an InferenceService's host label.
    """
    container = plan.container
    image = _image(str(container.get("image")), images)
    words = [str(w) for w in [*(container.get("command") or []), *(container.get("args") or [])]]
    if not words or words[0] not in {"python", "python3"}:
        raise ManifestError(f"{plan.isvc} {plan.component}: the container's command must start with python")
    arguments = [_local_path(w, folders) for w in words[1:]]
    if plan.component == "transformer":
        arguments += _transformer_arguments(plan, arguments, resolve)
    arguments += ["--http_port", str(ports[0]), "--grpc_port", str(ports[1])]
    # What comes from a Secret or a ConfigMap is not here: the image table stands in for it.
    env = {
        e["name"]: local_url(_local_path(str(e.get("value", "")), folders), plan.namespace, resolve)
        for e in container.get("env") or []
        if "valueFrom" not in e
    }
    return Process([image.python, *arguments], {**env, "K_REVISION": revision, **image.env})


def _image(name: str, images: Mapping[str, Image]) -> Image:
    """An exact entry, or one for the name without its registry and tag."""
    short = re.split("[:@]", name.rsplit("/", 1)[-1])[0]
    for key in (name, name.rsplit("/", 1)[-1], short):
        if key in images:
            return images[key]
    raise ManifestError(f"no interpreter for image {name!r}; the image table has {sorted(images)}")


def _transformer_arguments(plan: RevisionPlan, arguments: list[str], resolve: Resolve) -> list[str]:
    """What KServe's controller appends; a gRPC protocol asks for the predictor's gRPC address."""
    joined = " ".join(arguments).replace("=", " ")
    grpc = "--predictor_protocol grpc-v2" in joined
    wanted = {
        "--model_name": plan.isvc,
        "--predictor_host": resolve(f"{plan.isvc}-predictor", grpc),
        **({} if plan.workers is None else {"--workers": str(plan.workers)}),
    }
    return [word for name, value in wanted.items() if name not in joined for word in (name, value)]


def _local_path(value: str, folders: Mapping[str, Path]) -> str:
    option, equals, path = value.rpartition("=")
    for mount, folder in folders.items():
        if path == mount or path.startswith(mount + "/"):
            return f"{option}{equals}{folder}{path.removeprefix(mount)}"
    return value


def local_url(value: str, namespace: str, resolve: Resolve) -> str:
    """An http or grpc URL of a service in this namespace, with the local router's address instead."""
    url = urlsplit(value)
    if url.scheme not in {"http", "https", "grpc"} or not url.hostname:
        return value
    label, _, rest = url.hostname.partition(".")
    if rest not in {namespace, f"{namespace}.svc", f"{namespace}.svc.cluster.local"}:
        return value
    scheme = "http" if url.scheme == "https" else url.scheme
    return urlunsplit((scheme, resolve(label, url.scheme == "grpc"), url.path, url.query, url.fragment))
