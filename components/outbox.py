"""The outbox: what a run has to say to MLflow, written down first, so that nothing is lost while the server is away.

    <outbox>/<run>/<time>-<kind>/record.json   one `Record`
                                 files/...     what belongs to it
    <outbox>/<run>/run_id                      MLflow's id of the run, once it has one

A record appears complete or not at all, by rename, and goes when MLflow has taken it (`components.outbox_delivery`).
`<run>` is MLflow's id where the server answered when the run began, else a key of our own that starts with "kept-".
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

# The steps of a run find the outbox by this variable; without it they speak to MLflow or fail.
OUTBOX_VARIABLE = "FRAUD_OUTBOX"

_RECORD, _FILES, _RUN_ID = "record.json", "files", "run_id"
_OWNER, _DELIVERY = ".owner", ".delivery"
_KEY = "kept-"

Kind = Literal["run", "child", "params", "tags", "metrics", "artifacts", "register", "end"]


class Record(BaseModel):
    """One thing that a run says.

    | kind | name | values | files |
    |---|---|---|---|
    | run | the run's name | its tags | |
    | child | the nested run's name | `params.*`, `metrics.*`, `tags.*` | |
    | params, tags, metrics | | by name | |
    | artifacts | folder among the run's artifacts | | the files |
    | register | | the fields of `Registration` | one folder a model, `evaluation.json` |
    | end | FINISHED or FAILED | | |
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    kind: Kind
    at_ms: int = Field(description="When it was said, milliseconds since the epoch.")
    name: str = ""
    values: dict[str, str | float] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """A record that waits.

    Attributes:
        folder: where it lies.
        record: what it says.
    """

    folder: Path
    record: Record

    @property
    def key(self) -> str:
        """Names the record among all of its run."""
        return self.folder.name

    @property
    def files(self) -> Path:
        """What belongs to it."""
        return self.folder / _FILES

    def drop(self) -> None:
        """Removes the record: MLflow has it."""
        gone = self.folder.with_name(f".gone-{self.folder.name}")
        self.folder.rename(gone)
        shutil.rmtree(gone)


@dataclass(frozen=True, slots=True)
class Outbox:
    """The records of one run.

    Attributes:
        folder: `<outbox>/<run>`.
    """

    folder: Path

    @classmethod
    @contextmanager
    def new(cls, root: Path) -> Iterator[Outbox]:
        """An empty outbox of a run that MLflow does not know yet, owned while inside."""
        key = f"{_KEY}{uuid4().hex}"
        hidden = cls(root / f".{key}")
        hidden.folder.mkdir(parents=True)
        # Seen by nobody before it is owned.
        with hidden.owned():
            yield hidden.renamed(key)

    @classmethod
    def of_run(cls, root: Path, run_id: str) -> Outbox:
        """The outbox of a run that was opened; a name that does not start with "kept-" is MLflow's own id."""
        outbox = cls(root / run_id)
        outbox.folder.mkdir(parents=True, exist_ok=True)
        if not run_id.startswith(_KEY) and outbox.run_id() is None:
            outbox.write_run_id(run_id)
        return outbox

    def keep(
        self,
        kind: Kind,
        values: Mapping[str, str | float] | None = None,
        *,
        name: str = "",
        files: Mapping[str, Path] | None = None,
    ) -> None:
        """Writes a record down.

        Args:
            kind: what it is.
            values: see `Record`.
            name: see `Record`.
            files: files and folders by relative path; copied.
        """
        record = Record(kind=kind, at_ms=time.time_ns() // 1_000_000, name=name, values=dict(values or {}))
        pending = self.folder / f".pending-{uuid4().hex}"
        pending.mkdir(parents=True)
        for path, source in (files or {}).items():
            target = pending / _FILES / path
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if source.is_dir() else shutil.copyfile
            copy(source, target)
        (pending / _RECORD).write_text(record.model_dump_json(indent=2) + "\n", "utf-8")
        pending.rename(self.folder / f"{time.time_ns():020d}-{kind}")

    def waiting(self) -> list[Kept]:
        """The records in the order in which they were said."""
        folders = sorted(self.folder.glob("[0-9]*-*"))
        return [Kept(f, Record.model_validate_json((f / _RECORD).read_bytes())) for f in folders]

    def oldest(self) -> str:
        """The name of the first record that waits, which begins with its time; empty when none does."""
        return min((p.name for p in self.folder.glob("[0-9]*-*")), default="")

    def run_id(self) -> str | None:
        """MLflow's id of the run, None while it has none."""
        path = self.folder / _RUN_ID
        return path.read_text() if path.exists() else None

    def write_run_id(self, run_id: str) -> None:
        """Notes MLflow's id of the run."""
        pending = self.folder / f".pending-{uuid4().hex}"
        pending.write_text(run_id)
        pending.rename(self.folder / _RUN_ID)

    def renamed(self, name: str) -> Outbox:
        """The same outbox under another name."""
        return Outbox(self.folder.rename(self.folder.with_name(name)))

    def remove(self) -> None:
        """Removes what is left of it, once MLflow has everything."""
        shutil.rmtree(self.folder)

    @contextmanager
    def owned(self) -> Iterator[bool]:
        """Takes the run while inside, and yields whether it was to be had: another process may be alive with it.

        The mark goes with the process, however it ends.
        """
        with ExitStack() as held:
            yield self._take(held)

    def _take(self, held: ExitStack) -> bool:
        try:
            file = held.enter_context((self.folder / _OWNER).open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            return False
        # Whoever had it until now may have removed it.
        return self.folder.exists()

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Lets one process at a time deliver."""
        with (self.folder / _DELIVERY).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def outboxes(root: Path) -> list[Outbox]:
    """The runs that wait, the oldest first."""
    found = [Outbox(f) for f in root.glob("*") if f.is_dir() and not f.name.startswith(".")]
    return sorted(found, key=lambda outbox: (outbox.oldest(), outbox.folder.name))
