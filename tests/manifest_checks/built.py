"""What one kustomization builds, and the pods that a cluster would run for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.manifest_checks.finding import Object, labels, namespace, title

_TEMPLATES = {
    "Deployment": "spec.template",
    "StatefulSet": "spec.template",
    "DaemonSet": "spec.template",
    "Job": "spec.template",
    "CronJob": "spec.jobTemplate.spec.template",
}
_JOBS = {"Job", "CronJob"}
COMPONENTS = ("predictor", "transformer", "explainer")
PREDICTOR_CONTAINER = "kserve-container"
# Kubeflow Pipelines labels the pods of its steps so.
STEP_LABEL = "pipelines.kubeflow.org/v2_component"


@dataclass(frozen=True)
class Container:
    """A container and where it is written: a predictor's is its runtime's.

    Attributes:
        object: kind and name of the object that declares it.
        path: of the container in that object.
        spec: the container, with what an InferenceService adds to its runtime's.
        init: whether it has to end before the others start.
    """

    object: str
    path: str
    spec: Object
    init: bool = False

    @property
    def env(self) -> dict[str, Object]:
        return {entry["name"]: entry for entry in self.spec.get("env") or []}

    @property
    def ports(self) -> list[Object]:
        return self.spec.get("ports") or []


@dataclass(frozen=True)
class Pod:
    """A pod as its owner's template describes it.

    Attributes:
        owner: kind and name of what makes it.
        namespace: where it runs.
        labels: its own, and those that KServe and Knative give it.
        spec: the pod's specification.
        path: of `spec` in the owner.
        containers: init containers included.
        job: whether it ends by itself.
        isvc: name of the InferenceService whose component it is.
        annotations: those of its template.
    """

    owner: str
    namespace: str
    labels: Mapping[str, str]
    spec: Object
    path: str
    containers: tuple[Container, ...]
    job: bool = False
    isvc: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def service_account(self) -> str:
        return self.spec.get("serviceAccountName") or "default"

    def volume(self, name: str) -> Object:
        return next((v for v in self.spec.get("volumes") or [] if v["name"] == name), {})


@dataclass(frozen=True)
class Step:
    """A step of a compiled pipeline.

    Attributes:
        object: kind and name of the PipelineVersion.
        path: of the container in it.
        container: image, command, resources, in Kubeflow Pipelines' own form.
        added: what kfp-kubernetes adds to the pod: secrets, volumes, environment.
    """

    object: str
    path: str
    container: Object
    added: Object


@dataclass(frozen=True)
class Built:
    """The objects of one kustomization.

    Attributes:
        name: its folder in `manifests`, with the components added to it.
        objects: everything that it builds.
        whole: whether kustomize built it; if not, names and references are not final.
    """

    name: str
    objects: tuple[Object, ...] = field(repr=False)
    whole: bool = True

    def of(self, *kinds: str) -> list[Object]:
        return [thing for thing in self.objects if thing["kind"] in kinds]

    def find(self, kind: str, name: str, where: str | None = None) -> Object | None:
        """An object by name, in the namespace `where` unless that is None."""
        found = (t for t in self.of(kind) if t["metadata"]["name"] == name and where in {None, namespace(t)})
        return next(found, None)

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        templates = [_of_template(thing) for thing in self.of(*_TEMPLATES)]
        served = [pod for thing in self.of("InferenceService") for pod in _of_service(thing, self)]
        return (*templates, *served)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for thing in self.of("PipelineVersion") for step in _steps(thing))

    @cached_property
    def step_pods(self) -> tuple[Pod, ...]:
        """The pods that steps of pipelines become, as far as the compiled pipeline says."""
        return tuple(_of_step(thing, step) for thing in self.of("PipelineVersion") for step in _steps(thing))

    def containers(self) -> Iterator[tuple[Pod, Container]]:
        for pod in self.pods:
            for container in pod.containers:
                yield pod, container


def at(thing: Object, path: str) -> Any:
    for part in path.split("."):
        thing = thing[part]
    return thing


def _containers(owner: str, spec: Object, path: str) -> tuple[Container, ...]:
    return tuple(
        Container(owner, f"{path}.{key}[{index}]", container, init=key == "initContainers")
        for key in ("initContainers", "containers")
        for index, container in enumerate(spec.get(key) or [])
    )


def _of_template(thing: Object) -> Pod:
    path = _TEMPLATES[thing["kind"]]
    template = at(thing, path)
    spec, path = template["spec"], f"{path}.spec"
    given = template.get("metadata") or {}
    owner = title(thing)
    return Pod(
        owner,
        namespace(thing),
        given.get("labels") or {},
        spec,
        path,
        _containers(owner, spec, path),
        job=thing["kind"] in _JOBS,
        annotations=given.get("annotations") or {},
    )


def _of_service(thing: Object, built: Built) -> Iterator[Pod]:
    name = thing["metadata"]["name"]
    for component in COMPONENTS:
        spec = thing["spec"].get(component)
        if spec is None:
            continue
        given = {
            "component": component,
            "serving.kserve.io/inferenceservice": name,
            "serving.knative.dev/service": f"{name}-{component}",
        }
        marks = {**labels(thing), **(spec.get("labels") or {}), **given}
        path = f"spec.{component}"
        containers = _containers(title(thing), spec, path)
        pod = spec
        if "model" in spec:
            pod, containers = _with_runtime(spec, built, containers)
        yield Pod(title(thing), namespace(thing), marks, pod, path, containers, isvc=name)


def _with_runtime(spec: Object, built: Built, own: tuple[Container, ...]) -> tuple[Object, tuple[Container, ...]]:
    """KServe's merge: the runtime's pod, with the model's container laid over the runtime's."""
    model = spec["model"]
    runtime = built.find("ServingRuntime", model.get("runtime", ""))
    if runtime is None:
        return spec, own
    base = runtime["spec"]
    containers = [
        Container(c.object, c.path, _laid_over(c.spec, model) if c.spec["name"] == PREDICTOR_CONTAINER else c.spec)
        for c in _containers(title(runtime), base, "spec")
    ]
    volumes = [*(base.get("volumes") or []), *(spec.get("volumes") or [])]
    return {**base, **spec, "volumes": volumes}, (*containers, *own)


def _laid_over(base: Object, model: Object) -> Object:
    env = {e["name"]: e for e in [*(base.get("env") or []), *(model.get("env") or [])]}
    mounts = {m["mountPath"]: m for m in [*(base.get("volumeMounts") or []), *(model.get("volumeMounts") or [])]}
    return {
        **base,
        **{key: model[key] for key in ("command", "image", "resources", "securityContext") if model.get(key)},
        "args": [*(base.get("args") or []), *(model.get("args") or [])],
        "env": list(env.values()),
        "volumeMounts": list(mounts.values()),
    }


def _of_step(thing: Object, step: Step) -> Pod:
    marks = {STEP_LABEL: "true", **((step.added.get("podMetadata") or {}).get("labels") or {})}
    env = [
        {
            "name": entry["envVar"],
            "valueFrom": {"secretKeyRef": {"name": secret["secretName"], "key": entry["secretKey"]}},
        }
        for secret in step.added.get("secretAsEnv") or []
        for entry in secret["keyToEnv"]
    ]
    container = Container(step.object, step.path, {**step.container, "env": env})
    return Pod(step.object, namespace(thing), marks, {}, step.path, (container,), job=True)


def _steps(thing: Object) -> Iterator[Step]:
    spec = thing["spec"]
    platforms = (spec.get("platformSpec") or {}).get("platforms") or {}
    added = ((platforms.get("kubernetes") or {}).get("deploymentSpec") or {}).get("executors") or {}
    for name, executor in spec["pipelineSpec"]["deploymentSpec"]["executors"].items():
        if "container" in executor:
            path = f"spec.pipelineSpec.deploymentSpec.executors.{name}.container"
            yield Step(title(thing), path, executor["container"], added.get(name) or {})
