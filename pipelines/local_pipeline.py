"""Runs a pipeline in this machine's processes: one process for the whole, since KFP's runner keeps global state."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import StepError
from pipelines.step_settings import LOCAL_RUN

_WATCH_S = 0.5
_FINISHED = re.compile(r"Task .*?'([\w-]+)'.* finished with status .*?(SUCCESS|FAILURE)")
_RAISED = re.compile(r"^\s*(?:\w+\.)*[A-Z]\w+: (.+)$")
# Pydantic names the field and what is wrong with it on the two lines below.
_REFUSED_SETTINGS = re.compile(r"validation errors? for \w+$")


def compile_pipeline(pipeline: Any, path: Path) -> None:
    """Writes a pipeline as the YAML that Kubeflow takes; the same bytes every time."""
    from kfp.compiler import Compiler  # noqa: PLC0415 - KFP takes seconds to load

    path.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(pipeline, str(path))


def run_steps(pipeline: Any, command: Sequence[str]) -> None:
    """Runs a pipeline here: what a pipeline's module does when it is run.

    Args:
        pipeline: the pipeline.
        command: a folder with the pipeline's parameters in `arguments.json`, where every step's outputs go under
            `steps`; and, from `run_process`, its process id, with which this process ends.
    """
    from kfp import local  # noqa: PLC0415

    folder, root = Path(command[0]), Path(command[0]) / "steps"
    for parent in command[1:]:
        threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    # Without a workspace of its own KFP makes, and deletes, one in the system's temporary folder.
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), workspace_root=str(root / "workspace"))
    pipeline(**json.loads((folder / "arguments.json").read_text()))


def run_process(
    module: str,
    arguments: Mapping[str, Any],
    folder: Path,
    *,
    finished: Callable[[int], None],
    line: Callable[[str], None] = lambda _: None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs a pipeline's module, which calls `run_steps`, in a process of its own, and waits for it.

    Args:
        module: for example "pipelines.training_pipeline".
        arguments: the pipeline's parameters.
        folder: where its outputs and `steps.log` go; created.
        finished: called with the number of steps that have succeeded.
        line: called with each line of the log.
        environment: variables on top of this process's.

    Raises:
        StepError: a step failed; the message has its reason and the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "arguments.json").write_text(json.dumps(arguments))
    command = [sys.executable, "-W", "ignore", "-m", module, str(folder), str(os.getpid())]
    # Spinning OpenMP threads make every other process wait, see the README of train_lightgbm.
    passive = {"OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1", LOCAL_RUN: "1"}
    variables = {**os.environ, **passive, **(environment or {})}
    failed, reason, below, done = "", "see the log", 0, 0
    with (
        (folder / "steps.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(  # noqa: S603 - our own module
            command,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            for text in process.stdout or ():
                log.write(text)
                line(text)
                raised, ended = _RAISED.match(text), _FINISHED.search(text)
                if raised and not failed:
                    reason, below = raised[1], 2 if _REFUSED_SETTINGS.search(raised[1]) else 0
                elif below:
                    reason, below = f"{reason} {text.strip()}", below - 1
                if ended and ended[2] == "SUCCESS":
                    done += 1
                    finished(done)
                elif ended:
                    failed = ended[1]
        finally:
            # The steps are its children: an interrupted run must not go on to write or register anything.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise StepError(f"step {failed or 'of the runner'!r} failed: {reason} (log: {folder / 'steps.log'})")


def _end_with(parent: int) -> None:
    """Kills this process and its steps once the parent is gone: killed itself, it could not do that."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os.killpg(os.getpgid(0), signal.SIGKILL)
