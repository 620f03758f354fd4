"""What KFP tells of a run, as far as a command line shows it: the state, the finished steps, why one failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_ENDED = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
_DONE = {"SUCCEEDED", "SKIPPED"}  # skipped: the answer came from the cache
# KFP starts two pods for a step; this one resolves its inputs, and may fail for that.
_DRIVER = "-driver"


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step that failed.

    Attributes:
        name: for example "gate".
        reason: what KFP says; the step's own words are in its log.
        pod: where that log is; empty when KFP does not say.
    """

    name: str
    reason: str
    pod: str


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as it was when asked.

    Attributes:
        run_id: KFP's.
        state: KFP's word, for example RUNNING.
        steps: state by name, of the steps that have started.
        failed: the steps that failed, first those that failed first.
        error: what KFP says of the run as a whole; empty where it says nothing.
        arguments: the pipeline's parameters.
    """

    run_id: str
    state: str
    steps: Mapping[str, str]
    failed: tuple[FailedStep, ...] = ()
    error: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in _ENDED

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.state in _DONE

    def done(self, steps: Iterable[str]) -> int:
        """How many of these steps have succeeded."""
        return sum(self.steps.get(name) in _DONE for name in steps)


def view(run: Any) -> RunView:
    """A `V2beta1Run` as a `RunView`.

    Its task details are flat: for each step one named for it, one for its driver, and one named "executor", a child of
    the step's, whose tries have names of their own ("executor(0)").
    """
    details = (run.run_details.task_details if run.run_details else None) or []
    known = {key: task for task in details for key in (task.task_id, task.pod_name) if key}
    steps = {task.display_name: task.state for task in details if task.display_name and task.state}
    failed = sorted((t for t in details if t.state == "FAILED" and _is_step(t)), key=_ended_at)
    config = run.runtime_config
    return RunView(
        run_id=run.run_id,
        state=run.state or "PENDING",
        steps=steps,
        failed=tuple(_failure(task, known) for task in failed),
        error=_message(run),
        arguments=(config.parameters if config else None) or {},
    )


def _is_step(task: Any) -> bool:
    """Whether a task is a step of the pipeline, or a step's driver: not the whole, nor a try of a step."""
    name = (task.display_name or "").removesuffix(_DRIVER)
    return bool(name) and name != "root" and not name.startswith("executor") and not name.endswith(")")


def _ended_at(task: Any) -> tuple[bool, Any]:
    return task.end_time is None, task.end_time or 0


def _failure(task: Any, known: Mapping[str, Any]) -> FailedStep:
    """The innermost failure has the reason; those around it say that a child has failed."""
    innermost, seen = task, {id(task)}
    reason, pod = _message(task), task.pod_name or ""
    while True:
        keys = [key for child in innermost.child_tasks or [] for key in (child.task_id, child.pod_name) if key]
        pod = next((c.pod_name for c in innermost.child_tasks or [] if c.pod_name), pod)
        below = [known[key] for key in keys if key in known and id(known[key]) not in seen]
        found = next((t for t in below if t.state == "FAILED"), None)
        if found is None:
            name = task.display_name.removesuffix(_DRIVER)
            return FailedStep(name, reason or "KFP gives no reason", pod)
        innermost = found
        seen.add(id(found))
        reason, pod = _message(found) or reason, found.pod_name or pod


def _message(thing: Any) -> str:
    """The error of a task or run, in one line; KFP may keep it in the history only."""
    errors = [thing.error, *(past.error for past in reversed(thing.state_history or []))]
    return next((" ".join(e.message.split()) for e in errors if e is not None and e.message), "")
