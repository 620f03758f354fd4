"""How new the materialised features are that decisions read, for their records: looked up aside, now and then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from feature_repo.materialization_ledger import AWAY, ledger_client, read_facts
from feature_repo.settings import RedisType

EVERY_S = 60.0
_TIMEOUT_S = 2.0

log = logging.getLogger("fraud")


class MaterialisedViews:
    """The newest row of every materialised view, as a thread last found it.

    Args:
        connect: makes a synchronous Redis client that returns bytes.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._client: Any = None
        self._newest: Mapping[str, int] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def watching(cls, url: str, redis_type: RedisType, every_s: float = EVERY_S) -> MaterialisedViews:
        """Looks at once and then every so many seconds, in a thread, until closed."""
        views = cls(lambda: ledger_client(url, redis_type, _TIMEOUT_S))
        views._thread = threading.Thread(target=views._watch, args=(every_s,), name="materialised-views", daemon=True)
        views._thread.start()
        return views

    def newest(self) -> Mapping[str, int]:
        """By view, when its newest row became usable, microseconds since the epoch; empty while that is not known."""
        return self._newest

    def look(self) -> None:
        """Reads the ledger of materialisation; while the store is away, what was known stays."""
        try:
            if self._client is None:
                self._client = self._connect()
            self._newest = {view: facts.newest_us for view, facts in read_facts(self._client).items()}
        except AWAY as error:
            log.debug("the ages of materialised features cannot be read: %r", error)

    def close(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._client is not None:
            self._client.close()

    def _watch(self, every_s: float) -> None:
        self.look()
        while not self._stopping.wait(every_s):
            self.look()
