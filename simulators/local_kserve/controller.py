"""The InferenceServices that exist, and what runs for each: the store behind the API."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from simulators.local_kserve.admission import COMPONENTS, Object, admit
from simulators.local_kserve.component import Component, Condition
from simulators.local_kserve.errors import ApiError, ManifestError, invalid, not_found
from simulators.local_kserve.plan import Image, plan
from simulators.local_kserve.revision import Host, State
from simulators.local_kserve.router import Door, open_session
from simulators.local_kserve.volumes import Volumes


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Controller:
    """Keeps each InferenceService's processes as its object says. Lives in one event loop."""

    def __init__(
        self,
        runtimes: Mapping[str, dict[str, Any]],
        images: Mapping[str, Image],
        volumes: Volumes,
        *,
        ready_timeout_s: float,
        backoff_s: float,
        drain_s: float,
    ) -> None:
        self._runtimes = runtimes
        self._images = images
        self._volumes = volumes
        self._times = (ready_timeout_s, backoff_s, drain_s)
        self._services: dict[tuple[str, str], Service] = {}
        self._doors: dict[tuple[str, str], Door] = {}
        self._session = open_session()
        self._version = 0
        self._closing: set[asyncio.Task[None]] = set()
        self.requests: Counter[str] = Counter()

    def door(self, namespace: str, label: str) -> Door:
        """The listeners of a service, opened when they are first asked for, its InferenceService there or not."""
        key = (namespace, label)
        if key not in self._doors:
            self._doors[key] = Door(f"{label}.{namespace}", self._session)
        return self._doors[key]

    def list(self, namespace: str | None) -> list[Object]:
        """The objects of one namespace, or of all."""
        return [s.object() for (ns, _), s in sorted(self._services.items()) if namespace in {None, ns}]

    def get(self, namespace: str, name: str) -> Object:
        """One object with its status now."""
        return self._find(namespace, name).object()

    def create(self, namespace: str, isvc: Object) -> Object:
        """Store a new object and start what it asks for."""
        name = self._admit(isvc, namespace, None)
        if (namespace, name) in self._services:
            message = f'inferenceservices.serving.kserve.io "{name}" already exists'
            raise ApiError(409, "AlreadyExists", message)
        service = Service(self, self._host(namespace), namespace, name)
        self._services[namespace, name] = service
        service.apply(isvc, self._runtimes, self._next_version())
        return service.object()

    def replace(self, namespace: str, name: str, isvc: Object) -> Object:
        """Take a changed object over, unless it was made from an older version than the one stored."""
        service = self._find(namespace, name)
        self._admit(isvc, namespace, service.object())
        version = isvc["metadata"].get("resourceVersion")
        if version not in {None, service.metadata["resourceVersion"]}:
            message = (
                f'Operation cannot be fulfilled on inferenceservices.serving.kserve.io "{name}": the object '
                "has been modified; please apply your changes to the latest version and try again"
            )
            raise ApiError(409, "Conflict", message)
        service.apply(isvc, self._runtimes, self._next_version())
        return service.object()

    def delete(self, namespace: str, name: str) -> None:
        """Forget the object; its processes are drained and ended after this returns."""
        service = self._find(namespace, name)
        del self._services[namespace, name]
        for revision in service.revisions():
            # A new object of this name numbers its revisions from one again.
            self.requests.pop(revision, None)
        task = asyncio.create_task(service.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """End every process, then every listener."""
        await asyncio.gather(*(s.close() for s in self._services.values()), *self._closing)
        await asyncio.gather(*(door.close() for door in self._doors.values()))
        await self._session.close()

    def _host(self, namespace: str) -> Host:
        def resolve(label: str, grpc: bool) -> str:
            door = self.door(namespace, label)
            return f"127.0.0.1:{door.grpc_port if grpc else door.http_port}"

        return Host(self._volumes, self._images, resolve, *self._times)

    def _find(self, namespace: str, name: str) -> Service:
        if (namespace, name) not in self._services:
            raise not_found(namespace, name)
        return self._services[namespace, name]

    def _admit(self, isvc: Object, namespace: str, old: Object | None) -> str:
        admit(old, isvc, namespace)
        isvc["metadata"]["namespace"] = namespace
        name = str(isvc["metadata"]["name"])
        try:
            for component in COMPONENTS:
                if component in isvc["spec"]:
                    plan(isvc, component, self._runtimes)
        except ManifestError as error:
            raise invalid(name, str(error)) from error
        return name

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)


class Service:
    """One InferenceService: its object, its components, its conditions."""

    def __init__(self, controller: Controller, host: Host, namespace: str, name: str) -> None:
        self._controller, self._host = controller, host
        self._namespace, self._name = namespace, name
        self.metadata: Object = {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 0}
        self._spec: Object = {}
        self._components: dict[str, Component] = {}
        self._conditions: dict[str, tuple[Condition, str]] = {}

    def apply(self, isvc: Object, runtimes: Mapping[str, dict[str, Any]], version: str) -> None:
        """Make the stored object, and what runs, like `isvc`."""
        own = {k: self.metadata[k] for k in ("uid", "creationTimestamp", "generation")}
        self.metadata = {**isvc["metadata"], **own, "resourceVersion": version}
        if isvc["spec"] != self._spec:
            self.metadata["generation"] += 1
        self._spec = isvc["spec"]
        for kind in COMPONENTS:
            if kind in self._spec:
                if kind not in self._components:
                    self._components[kind] = Component(
                        self._name, kind, self._host, self._controller.requests, self._refresh
                    )
                self._components[kind].apply({"metadata": self.metadata, "spec": self._spec}, runtimes)
            elif kind in self._components:
                self._door(kind).router = None
                gone = self._components.pop(kind)
                self._removal = asyncio.create_task(gone.close())
        self._refresh()

    def _door(self, kind: str | None) -> Door:
        return self._controller.door(self._namespace, f"{self._name}-{kind}" if kind else self._name)

    def _refresh(self) -> None:
        """Point the addresses at the components, and note when a condition changed."""
        for kind, component in self._components.items():
            self._door(kind).router = component.router
        entry = self._components.get("transformer") or self._components["predictor"]
        self._door(None).router = entry.router
        parts = {f"{k.capitalize()}Ready": c.condition() for k, c in self._components.items()}
        routed = Condition("True") if entry.router.targets else Condition("Unknown", "Deploying", "no revision yet")
        worst = min([*parts.values(), routed], key=lambda c: ("False", "Unknown", "True").index(c.status))
        now = _now()
        fresh = {}
        for name, condition in {**parts, "IngressReady": routed, "Ready": worst}.items():
            before = self._conditions.get(name)
            unchanged = before is not None and before[0].status == condition.status
            fresh[name] = (condition, before[1] if before is not None and unchanged else now)
        self._conditions = fresh

    def object(self) -> Object:
        """The object as the API shows it."""
        components = {
            kind: component.status(self._door(kind).http_port, self._door(kind).grpc_port)
            for kind, component in self._components.items()
        }
        url = f"http://127.0.0.1:{self._door(None).http_port}"
        status = {
            "observedGeneration": self.metadata["generation"],
            "deploymentMode": "Knative",
            "conditions": [
                {"type": name, "lastTransitionTime": since, **_condition(condition)}
                for name, (condition, since) in sorted(self._conditions.items())
            ],
            "url": url,
            "address": {"url": url},
            "components": components,
            "modelStatus": _model_status(self._components["predictor"]),
        }
        return {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": self.metadata,
            "spec": self._spec,
            "status": status,
        }

    def revisions(self) -> Iterator[str]:
        """The names of all its revisions."""
        return (name for component in self._components.values() for name in component.revisions)

    async def close(self) -> None:
        """End its processes: the transformer first, which may still be asking the predictor."""
        for kind in ("transformer", "predictor"):
            if kind in self._components:
                await self._components[kind].close()
        for kind_or_entry in (*self._components, None):
            self._door(kind_or_entry).router = None


def _condition(condition: Condition) -> dict[str, str]:
    found = {"status": condition.status, "reason": condition.reason, "message": condition.message}
    return {k: v for k, v in found.items() if v}


def _model_status(predictor: Component) -> Object:
    created, ready = predictor.created, predictor.latest_ready
    target = {State.FAILED: "FailedToLoad", State.STARTING: "Loading"}.get(created.state, "Loaded")
    transition = {"FailedToLoad": "BlockedByFailedLoad", "Loading": "InProgress"}.get(target, "UpToDate")
    status: Object = {
        "transitionStatus": transition,
        "states": {"activeModelState": "Loaded" if ready else "", "targetModelState": target},
    }
    if created.state is State.FAILED:
        status["lastFailureInfo"] = {
            "reason": "ModelLoadFailed",
            "message": created.message,
            "modelRevisionName": created.name,
        }
    return status
