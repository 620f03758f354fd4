"""What happened to the InferenceServices, numbered: from it come resource versions, and what a watch is told."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

# Of all objects together; who asks for older ones is told to list again.
_KEPT = 1000


@dataclass(frozen=True)
class Event:
    """A change of an object.

    Attributes:
        version: the resource version that the change made.
        kind: ADDED, MODIFIED or DELETED.
        thing: the object after it, or as it was last.
    """

    version: int
    kind: str
    thing: dict[str, Any]


class EventLog:
    """The latest events. Lives in one event loop."""

    def __init__(self) -> None:
        self.version = 0
        self.closed = False
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._news = asyncio.Event()

    def next_version(self) -> int:
        """A version that nothing has had before."""
        self.version += 1
        return self.version

    def add(self, event: Event) -> None:
        """Append an event and wake whoever waits for one."""
        self._events.append(event)
        self._wake()

    def close(self) -> None:
        """Nothing more will happen: every wait ends."""
        self.closed = True
        self._wake()

    def expired(self, version: int) -> bool:
        """Whether events after `version` may have been dropped."""
        full = len(self._events) == _KEPT
        return full and version < self._events[0].version - 1

    async def after(self, version: int) -> list[Event]:
        """The events later than `version`, once there are any; none when the log is closed."""
        while True:
            found = [event for event in self._events if event.version > version]
            if found or self.closed:
                return found
            await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
