"""Datasets: immutable snapshots of the event and label logs, named by the hash of their content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.errors import CorruptValue, MissingData
from feature_repo.event_log import log_days, read_log
from feature_repo.labels import read_labels

_RECORD = "dataset.json"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One snapshot: what had arrived before `cutoff`.

    Attributes:
        path: its folder: `events/day=*/`, `labels/day=*/` and `dataset.json`.
        sha256: hash over the cutoff, and the relative path and hash of every file.
        cutoff: events and labels that arrived before this UTC day are in.
        first_day: first arrival day.
        last_day: last arrival day.
        events: number of events.
        labels: number of labels.
    """

    path: Path
    sha256: str
    cutoff: date
    first_day: date
    last_day: date
    events: int
    labels: int

    @property
    def sha12(self) -> str:
        """The short name: the first 12 digits of the hash."""
        return self.sha256[:12]

    @classmethod
    def open(cls, path: Path) -> Dataset:
        """Opens a snapshot.

        Raises:
            MissingData: the folder is not a dataset.
        """
        try:
            record = json.loads((path / _RECORD).read_text())
        except FileNotFoundError:
            raise MissingData(f"{path} is not a dataset: list them with `fraud data list`") from None
        for name in ("cutoff", "first_day", "last_day"):
            record[name] = date.fromisoformat(record[name])
        return cls(path=path, **record)

    def verify(self) -> None:
        """Recomputes the content hash.

        Raises:
            CorruptValue: a file or the cutoff was changed, or a file added or removed, since the snapshot.
        """
        found = _content_hash(self.path, self.cutoff)
        if found != self.sha256:
            raise CorruptValue(
                f"dataset {self.sha12} holds content {found[:12]}: a file or the cutoff in {self.path} was changed"
            )

    def event_table(self, columns: list[str] | None = None) -> pa.Table:
        """The events in stream order, with `stream_seq` and `ingested_at`; of all columns only those named, if any."""
        return read_log(self.path / "events", columns)

    def volumes(self) -> dict[tuple[str, date], int]:
        """How many events there are, by type and arrival day."""
        files = sorted(self.path.glob("events/day=*/*.parquet"))
        events = pa.concat_tables([pq.ParquetFile(f).read(columns=["event_type", "ingested_at"]) for f in files])
        days = pc.cast(events.column("ingested_at"), pa.date32())
        counts = (
            pa.table({"type": events.column("event_type"), "day": days})
            .group_by(["type", "day"])
            .aggregate([([], "count_all")])
        )
        return {(row["type"], row["day"]): row["count_all"] for row in counts.to_pylist()}

    def label_table(self) -> pa.Table:
        """The labels without their typologies: `LABEL_COLUMNS`."""
        return read_labels(self.path / "labels")

    def label_frame(self) -> pd.DataFrame:
        """The labels: event_id, is_fraud, typology, source, observed_at."""
        files = sorted(self.path.glob("labels/day=*/*.parquet"))
        labels: pd.DataFrame = pd.concat([pq.ParquetFile(f).read().to_pandas() for f in files], ignore_index=True)
        return labels


def snapshot(
    event_log: Path,
    label_log: Path,
    datasets: Path,
    cutoff: date,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Copies what arrived before `cutoff` into a dataset; returns the existing one when the content is known.

    Raises:
        MissingData: nothing had arrived before the cutoff.
    """
    datasets.mkdir(parents=True, exist_ok=True)
    pending = datasets / f".pending-{cutoff}"
    shutil.rmtree(pending, ignore_errors=True)
    event_days = [d for d in log_days(event_log) if d < cutoff]
    label_days = [d for d in log_days(label_log) if d < cutoff]
    if not event_days or not label_days:
        missing = event_log if not event_days else label_log
        what = "events: ingest an earlier period" if missing == event_log else "labels: wait for the first ones"
        raise MissingData(f"{missing} has nothing before {cutoff}: there are no {what}")
    copies = [("events", event_log, d) for d in event_days] + [("labels", label_log, d) for d in label_days]
    rows = {"events": 0, "labels": 0}
    for done, (kind, source, day) in enumerate(copies, 1):
        for file in sorted((source / f"day={day}").glob("[!.]*.parquet")):
            target = pending / kind / f"day={day}" / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            rows[kind] += pq.read_metadata(target).num_rows
        if progress:
            progress(done, len(copies))
    digest = _content_hash(pending, cutoff)
    dataset = Dataset(pending, digest, cutoff, event_days[0], event_days[-1], rows["events"], rows["labels"])
    final = datasets / dataset.sha12
    if final.exists():
        shutil.rmtree(pending)
        return Dataset.open(final)
    record = {k: str(v) if isinstance(v, date) else v for k, v in asdict(dataset).items() if k != "path"}
    (pending / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
    pending.rename(final)
    return replace(dataset, path=final)


def list_datasets(datasets: Path) -> list[Dataset]:
    """All snapshots, oldest cutoff first."""
    return sorted((Dataset.open(p.parent) for p in datasets.glob(f"[!.]*/{_RECORD}")), key=lambda d: d.cutoff)


def previous_dataset(dataset: Dataset) -> Dataset | None:
    """The newest snapshot beside a dataset that was cut off before it; None for the first."""
    earlier = [d for d in list_datasets(dataset.path.parent) if d.cutoff < dataset.cutoff]
    return earlier[-1] if earlier else None


def find(datasets: Path, name: str) -> Dataset:
    """The dataset whose hash starts with `name`, verified.

    Raises:
        MissingData: none, or more than one.
    """
    found = [d for d in list_datasets(datasets) if d.sha256.startswith(name)]
    if len(found) != 1:
        known = ", ".join(d.sha12 for d in list_datasets(datasets)) or "none"
        raise MissingData(f"{len(found)} datasets match {name!r}; there are: {known}")
    found[0].verify()
    return found[0]


def _content_hash(folder: Path, cutoff: date) -> str:
    lines = [
        f"{file.relative_to(folder).as_posix()}\0{sha256(file.read_bytes()).hexdigest()}\n"
        for file in sorted(folder.rglob("*.parquet"))
    ]
    return sha256("".join([f"cutoff\0{cutoff}\n", *sorted(lines)]).encode()).hexdigest()
