"""A predictor or a transformer: its revisions, the rollout between them, and its part of the status."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from simulators.local_kserve.plan import plan, template_hash
from simulators.local_kserve.revision import Host, Revision, State
from simulators.local_kserve.router import Router
from simulators.local_kserve.status import NOT_ROUTED, READY, ComponentConditions, Condition, worst
from simulators.local_kserve.traffic import Rollout, advance, plan_traffic


class Component:
    """One component of one InferenceService."""

    def __init__(self, isvc: str, kind: str, host: Host, requests: Counter[str], changed: Callable[[], None]) -> None:
        self.name = f"{isvc}-{kind}"
        self.kind = kind
        self.revisions: dict[str, Revision] = {}
        self.router = Router(self.name, self.revisions, requests)
        self._host, self._changed = host, changed
        self._template = ""
        self._percent: int | None = None
        self._rollout = Rollout()

    @property
    def created(self) -> Revision:
        """The newest revision."""
        return next(reversed(self.revisions.values()))

    @property
    def latest_ready(self) -> Revision | None:
        """The newest revision that has been ready."""
        return next((r for r in reversed(self.revisions.values()) if r.ever_ready), None)

    def apply(self, isvc: Mapping[str, Any], runtimes: Mapping[str, dict[str, Any]]) -> None:
        """Take over the component's spec: a changed template starts a new revision, a changed share re-routes."""
        self._percent = isvc["spec"][self.kind].get("canaryTrafficPercent")
        template = template_hash(isvc, self.kind)
        if template != self._template:
            wanted = plan(isvc, self.kind, runtimes)
            self._template = template
            name = f"{self.name}-{len(self.revisions) + 1:05d}"
            self.revisions[name] = Revision(name, wanted, self._host, self._on_revision)
            self.revisions[name].start()
        self._settle()

    def _on_revision(self) -> None:
        self._settle()
        self._changed()

    def _settle(self) -> None:
        """Route to what is ready; until all of it is, leave the traffic where it was. End what is not needed."""
        ready = self.latest_ready
        if ready is None:
            return
        self._rollout = advance(self.created.name, ready.name, self._percent, self._rollout)
        targets = plan_traffic(ready.name, self._percent, self._rollout)
        waiting = [self.revisions[t.revision] for t in targets if not self.revisions[t.revision].serving]
        for revision in waiting:
            revision.start()
        if waiting:
            return
        if targets != self.router.targets:
            self.router.route(targets)
        needed = {self.created.name, *(t.revision for t in targets)}
        for name, revision in self.revisions.items():
            if name not in needed and revision.state is not State.STOPPED:
                revision.stop()

    def conditions(self) -> ComponentConditions:
        """Whether the newest revision is ready, and whether what has traffic is, and is what should have it."""
        routed = [self.revisions[t.revision] for t in self.router.targets if t.percent]
        if not routed:
            route = NOT_ROUTED
        elif not self._settled:
            route = Condition("Unknown", "Deploying", "waiting for the revision that traffic goes to")
        else:
            route = worst(map(_condition, routed))
        return ComponentConditions(_condition(self.created), route)

    @property
    def _settled(self) -> bool:
        ready = self.latest_ready
        return ready is not None and self.router.targets == plan_traffic(ready.name, self._percent, self._rollout)

    def status(self, http_port: int, grpc_port: int) -> dict[str, Any]:
        """KServe's `status.components.<kind>`."""
        ready = self.latest_ready
        found = {
            "latestCreatedRevision": self.created.name,
            "latestReadyRevision": ready.name if ready else None,
            "latestRolledoutRevision": self._rollout.rolled_out,
            "previousRolledoutRevision": self._rollout.previous,
        }
        return {
            **{k: v for k, v in found.items() if v is not None},
            "traffic": [
                {
                    "revisionName": t.revision,
                    "percent": t.percent,
                    "latestRevision": t.latest,
                    **({} if t.latest else {"tag": "prev"}),
                }
                for t in self.router.targets
            ],
            "url": f"http://127.0.0.1:{http_port}",
            "restUrl": f"http://127.0.0.1:{http_port}",
            "grpcUrl": f"grpc://127.0.0.1:{grpc_port}",
            "address": {"url": f"http://127.0.0.1:{http_port}"},
        }

    async def close(self) -> None:
        """Drain and end every revision."""
        self.router.route(())
        await asyncio.gather(*(revision.stop() for revision in self.revisions.values()))


def _condition(revision: Revision) -> Condition:
    if revision.state is State.FAILED:
        return Condition(
            "False", "RevisionFailed", f'Revision "{revision.name}" failed with message: {revision.message}'
        )
    if revision.state is State.RESTARTING:
        message = f'Revision "{revision.name}" is being restarted: {revision.message}'
        return Condition("False", "ContainerRestarting", message)
    if revision.state is State.STARTING:
        return Condition("Unknown", "Deploying", f'Revision "{revision.name}" is starting')
    return READY
