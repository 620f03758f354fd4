"""Work that takes minutes, in processes of one thread each; what is finished already is not done again."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Task:
    """One file to make.

    Attributes:
        out: the file, complete or absent; its name says all that its content depends on.
        make: a function of a module: called with `arguments` and the path to write to.
        arguments: what can be sent to another process.
    """

    out: Path
    make: Callable[..., None]
    arguments: tuple[Any, ...]


def perform(task: Task) -> None:
    """Makes one file."""
    task.out.parent.mkdir(parents=True, exist_ok=True)
    pending = task.out.with_name(f".{task.out.name}.part")
    task.make(*task.arguments, pending)
    pending.rename(task.out)


def perform_all(tasks: Sequence[Task], workers: int, progress: Callable[[int, int], None]) -> None:
    """Makes what is missing, in the order given as far as processes are free.

    Args:
        tasks: none of which needs another's file.
        workers: processes; 1 is this one.
        progress: called with (files that are there, files in all).
    """
    waiting = [task for task in tasks if not task.out.exists()]
    done = len(tasks) - len(waiting)
    progress(done, len(tasks))
    if workers == 1:
        for task in waiting:
            perform(task)
            done += 1
            progress(done, len(tasks))
        return
    if not waiting:
        return
    with _environment(_ONE_THREAD):
        pool = ProcessPoolExecutor(min(workers, len(waiting)), mp_context=get_context("spawn"), initializer=_quiet)
        try:
            futures: list[Future[None]] = [pool.submit(perform, task) for task in waiting]
            for future in as_completed(futures):
                future.result()
                done += 1
                progress(done, len(tasks))
        finally:
            pool.shutdown(cancel_futures=True)


def code_digest(*parts: str) -> str:
    """The hash of Python files and folders of the project: what other code computed is computed again."""
    digest = sha256()
    for part in parts:
        path = _ROOT / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(_ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets variables while inside: libraries read the number of threads when they load, before any code of ours."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _quiet() -> None:
    # Not by a filter: Feast sets its own when it is imported.
    warnings.showwarning = lambda *_, **__: None
    logging.getLogger("components").setLevel(logging.ERROR)
