"""Processes that a test did not start itself, and so cannot wait for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

_PATIENCE_S = 120

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="looks for processes as Linux lists them"
)


def processes_with(argument: str) -> list[int]:
    """The ids of the running processes whose command line contains a text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if argument.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def wait_until(done: Callable[[], object]) -> None:
    """Waits, for two minutes at most."""
    deadline = time.monotonic() + _PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
