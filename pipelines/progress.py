"""Progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Callback = Callable[[int, int], None]


class Bars:
    """Shows how far each long step is.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draws bars while inside; where nobody watches, each finished step prints one line."""
        if not self._console.is_terminal:
            yield
            return
        columns = TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._console) as self._bars:
            yield
        self._bars = None

    def bar(self, title: str) -> Callback:
        """A callback (done, total) that moves the bar `title`."""
        started = time.monotonic()
        if self._bars is None:
            return _Lines(self._console, title, started)
        bars = self._bars
        task = bars.add_task(title, total=None)

        def moved(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        return moved


class _Lines:
    def __init__(self, console: Console, title: str, started: float) -> None:
        self._console, self._title, self._started, self._finished = console, title, started, False

    def __call__(self, done: int, total: int) -> None:
        if done >= total and not self._finished:
            self._finished = True
            took = time.monotonic() - self._started
            self._console.print(f"  {self._title}: {total:,} in {took:.1f} s", highlight=False)
            sys.stdout.flush()
