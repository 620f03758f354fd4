"""One InferenceService: its object, its components, its status."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from simulators.local_kserve.admission import API_VERSION, COMPONENTS, KIND, Object
from simulators.local_kserve.component import Component
from simulators.local_kserve.events import Event, EventLog
from simulators.local_kserve.revision import Host, State
from simulators.local_kserve.router import Door
from simulators.local_kserve.status import NOT_ROUTED, READY, Condition, as_json, conditions, model_status


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Service:
    """Keeps what runs like its object says, and tells every change of the object to an event log."""

    def __init__(
        self, name: str, host: Host, door: Callable[[str], Door], requests: Counter[str], events: EventLog
    ) -> None:
        self._name, self._host = name, host
        self._doors, self._requests, self._events = door, requests, events
        self.metadata: Object = {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 0}
        self._spec: Object = {}
        self._components: dict[str, Component] = {}
        self._conditions: dict[str, tuple[Condition, str]] = {}
        self._told: Object | None = None
        self._deleted = False
        self._closing: set[asyncio.Task[None]] = set()

    def apply(self, isvc: Object, runtimes: Mapping[str, dict[str, Any]]) -> None:
        """Make the stored object, and what runs, like `isvc`."""
        own = ("uid", "creationTimestamp", "generation", "resourceVersion")
        self.metadata = {**isvc["metadata"], **{k: self.metadata[k] for k in own if k in self.metadata}}
        if isvc["spec"] != self._spec:
            self.metadata["generation"] += 1
        self._spec = isvc["spec"]
        for kind in COMPONENTS:
            if self._spec.get(kind) is not None:
                if kind not in self._components:
                    self._components[kind] = Component(self._name, kind, self._host, self._requests, self._refresh)
                self._components[kind].apply({"metadata": self.metadata, "spec": self._spec}, runtimes)
            elif kind in self._components:
                self._door(kind).router = None
                task = asyncio.create_task(self._components.pop(kind).close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        self._refresh()

    def _door(self, kind: str | None) -> Door:
        return self._doors(f"{self._name}-{kind}" if kind else self._name)

    def _refresh(self) -> None:
        """Point the addresses at the components, note when a condition changed, and tell who watches."""
        for kind, component in self._components.items():
            self._door(kind).router = component.router
        entry = self._components.get("transformer") or self._components["predictor"]
        self._door(None).router = entry.router
        parts = {kind: component.conditions() for kind, component in self._components.items()}
        now, fresh = _now(), {}
        for name, condition in conditions(parts, READY if entry.router.targets else NOT_ROUTED).items():
            before = self._conditions.get(name)
            unchanged = before is not None and before[0].status == condition.status
            fresh[name] = (condition, before[1] if before is not None and unchanged else now)
        self._conditions = fresh
        self._tell()

    def _tell(self) -> None:
        """Give the object a new version, if anything about it is new."""
        kind = "ADDED" if self._told is None else "MODIFIED"
        if self._deleted or self.object() == self._told:
            return
        self.metadata = {**self.metadata, "resourceVersion": str(self._events.next_version())}
        self._told = self.object()
        self._events.add(Event(self._events.version, kind, self._told))

    def object(self) -> Object:
        """The object as the API shows it."""
        components = {
            kind: component.status(self._door(kind).http_port, self._door(kind).grpc_port)
            for kind, component in self._components.items()
        }
        url = f"http://127.0.0.1:{self._door(None).http_port}"
        status: Object = {
            "observedGeneration": self.metadata["generation"],
            "deploymentMode": "Knative",
            "conditions": [as_json(name, *found) for name, found in sorted(self._conditions.items())],
            "url": url,
            "address": {"url": url},
            "components": components,
            "modelStatus": self._model_status(),
        }
        model = self._spec["predictor"].get("model")
        if model:
            status["servingRuntimeName"] = model["runtime"]
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": self.metadata,
            "spec": self._spec,
            "status": status,
        }

    def _model_status(self) -> Object:
        predictor = self._components["predictor"]
        created = predictor.created
        return model_status(
            loading=created.state is State.STARTING,
            failure=created.message if created.state is State.FAILED else "",
            revision=created.name,
            active=predictor.latest_ready is not None,
        )

    def revisions(self) -> Iterator[str]:
        """The names of all its revisions."""
        return (name for component in self._components.values() for name in component.revisions)

    def delete(self) -> None:
        """Say that the object is gone; what runs goes with `close`."""
        self._deleted = True
        version = self._events.next_version()
        gone = self.object()
        gone["metadata"] = {**self.metadata, "resourceVersion": str(version)}
        self._events.add(Event(version, "DELETED", gone))

    async def close(self) -> None:
        """End its processes: the transformer first, which may still be asking the predictor."""
        for kind in ("transformer", "predictor"):
            if kind in self._components:
                await self._components[kind].close()
        await asyncio.gather(*self._closing)
        for kind_or_entry in (*self._components, None):
            self._door(kind_or_entry).router = None
