"""The InferenceServices that exist: the store behind the API."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from simulators.local_kserve.admission import COMPONENTS, Object, admit
from simulators.local_kserve.errors import ApiError, ManifestError, conflict, invalid, not_found, precondition_failed
from simulators.local_kserve.events import EventLog
from simulators.local_kserve.payload_log import Counts
from simulators.local_kserve.plan import Image, plan
from simulators.local_kserve.revision import Host
from simulators.local_kserve.router import Door, open_session
from simulators.local_kserve.service import Service
from simulators.local_kserve.volumes import Volumes


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
        self._closing: set[asyncio.Task[None]] = set()
        self.events = EventLog()
        self.requests: Counter[str] = Counter()
        self.payload_counts: dict[str, Counts] = {}

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

    def create(self, namespace: str, isvc: Object, *, dry_run: bool = False) -> Object:
        """Store a new object and start what it asks for; a dry run only says whether it would."""
        name = self._admit(isvc, namespace, None)
        if isvc["metadata"].get("resourceVersion"):
            raise ApiError(400, "BadRequest", "resourceVersion must not be set on an object that is created")
        if (namespace, name) in self._services:
            raise ApiError(409, "AlreadyExists", f'inferenceservices.serving.kserve.io "{name}" already exists')
        if dry_run:
            return isvc
        service = Service(name, self._host(namespace), partial(self.door, namespace), self.requests, self.events)
        self._services[namespace, name] = service
        service.apply(isvc, self._runtimes)
        return service.object()

    def replace(self, namespace: str, name: str, isvc: Object, *, dry_run: bool = False) -> Object:
        """Take a changed object over, unless it was made from an older version than the one stored."""
        service = self._find(namespace, name)
        self._admit(isvc, namespace, service.object())
        if isvc["metadata"].get("resourceVersion") not in {None, "", service.metadata["resourceVersion"]}:
            raise conflict(name)
        if dry_run:
            return {**isvc, "status": service.object()["status"]}
        service.apply(isvc, self._runtimes)
        return service.object()

    def delete(self, namespace: str, name: str, preconditions: Mapping[str, str], *, dry_run: bool = False) -> Object:
        """Forget the object, and return what it was; its processes are drained and ended after this returns.

        Raises ApiError (409) where a precondition, `uid` or `resourceVersion`, is not that of the object.
        """
        service = self._find(namespace, name)
        was = service.object()
        for field, wanted in preconditions.items():
            if wanted != was["metadata"][field]:
                raise precondition_failed(name, field, wanted, was["metadata"][field])
        if dry_run:
            return was
        del self._services[namespace, name]
        service.delete()
        for revision in service.revisions():
            # A new object of this name numbers its revisions from one again.
            self.requests.pop(revision, None)
            self.payload_counts.pop(revision, None)
        task = asyncio.create_task(service.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return was

    async def close(self) -> None:
        """End every process, then every listener."""
        await asyncio.gather(*(s.close() for s in self._services.values()), *self._closing)
        await asyncio.gather(*(door.close() for door in self._doors.values()))
        await self._session.close()

    def _host(self, namespace: str) -> Host:
        def resolve(label: str, grpc: bool) -> str:
            door = self.door(namespace, label)
            return f"127.0.0.1:{door.grpc_port if grpc else door.http_port}"

        return Host(self._volumes, self._session, self.payload_counts, self._images, resolve, *self._times)

    def _find(self, namespace: str, name: str) -> Service:
        if (namespace, name) not in self._services:
            raise not_found(name)
        return self._services[namespace, name]

    def _admit(self, isvc: Object, namespace: str, old: Object | None) -> str:
        admit(old, isvc, namespace)
        isvc["metadata"]["namespace"] = namespace
        name = str(isvc["metadata"]["name"])
        try:
            for component in COMPONENTS:
                if isvc["spec"].get(component) is not None:
                    plan(isvc, component, self._runtimes)
        except ManifestError as error:
            raise invalid(name, str(error)) from error
        return name
