"""The rules in force: those of the last file that could be used. A thread reads the file again when it changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from inference_services.errors import BadSettings
from inference_services.transformer.rules import metrics
from inference_services.transformer.rules.outcome import RuleOutcome
from inference_services.transformer.rules.rule_set import RuleSet

log = logging.getLogger("fraud")


class RuleBook:
    """Judges events by the rules in force.

    A mounted ConfigMap changes by a swap of links, which a watch on the file would not see: its content is compared.

    Args:
        path: the rules file.

    Raises:
        BadSettings: the file cannot be used; without rules to fall back on, the service must not start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rules = RuleSet.read(path)
        self._seen = self._rules.sha256
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        metrics.in_force(self._rules)

    def judge(self, batch: EventBatch, features: Mapping[str, NDArray[Any]]) -> RuleOutcome:
        """What the rules say of n events (see `RuleSet.judge`), counted."""
        outcome = self._rules.judge(batch, features)
        metrics.count(outcome)
        return outcome

    @classmethod
    def watching(cls, path: Path, every_s: float) -> RuleBook:
        """A book whose file a thread looks at every so many seconds, until it is closed.

        Raises:
            BadSettings: see the class.
        """
        book = cls(path)
        book._thread = threading.Thread(target=book._watch, args=(every_s,), name="rules", daemon=True)
        book._thread.start()
        return book

    def close(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Takes the file over if it changed and can be used; else the rules stay, and one line says why."""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._refuse("", f"cannot read the rules file {self._path}: {error.strerror}")
            return
        digest = sha256(content).hexdigest()
        if digest == self._seen:
            return
        try:
            new = RuleSet.load(content, str(self._path))
        except BadSettings as error:
            self._refuse(digest, str(error))
            return
        # Judging takes the reference once, so no event is judged by two sets.
        old, self._rules, self._seen = self._rules, new, digest
        metrics.in_force(new, old)
        live = sum(not rule.dry_run for rule in new.rules)
        log.warning("rules %s are in force: %d live, %d in dry run", digest[:12], live, len(new.rules) - live)

    def _refuse(self, seen: str, problem: str) -> None:
        if seen != self._seen:
            self._seen = seen
            metrics.refused()
            log.error("the rules %s stay in force: %s", self._rules.sha256[:12], problem)

    def _watch(self, every_s: float) -> None:
        while not self._stopping.wait(every_s):
            try:
                self.look()
            except Exception:
                # A thread that dies would leave later rules unread, and nobody would notice.
                metrics.refused()
                log.exception("the rules file could not be looked at")
