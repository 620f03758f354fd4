"""Writes a world's files: events by the day they were sent, labels by the day they were observed, the truth."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from simulators.ride_hailing.emission import EVENT_SCHEMA, TRUTH_FIELDS
from simulators.ride_hailing.errors import SimulationError
from simulators.ride_hailing.labels import LABEL_SCHEMA, label
from simulators.ride_hailing.settings import WorldSettings

MANIFEST = "world.json"
_FOLDERS = ("events", "labels", "truth")


class WorldSummary(BaseModel):
    """What `world.json` says: the settings, the counts, and a digest of all files."""

    model_config = ConfigDict(frozen=True)

    format: int
    settings: WorldSettings
    days: int
    events: int
    fraud_events: int
    labels: int
    events_by_type: dict[str, int]
    fraud_by_typology: dict[str, int]
    digest: str


def day_folder(world: Path, kind: str, day: date) -> Path:
    """Where the files of a day lie: `<world>/<kind>/day=YYYY-MM-DD`."""
    return world / kind / f"day={day.isoformat()}"


def prepare(out: Path, *, force: bool) -> None:
    """Makes the folder, and empties it of an older world when forced.

    Raises:
        SimulationError: it holds something and `force` is not set, or it is not a folder.
    """
    if out.exists() and not out.is_dir():
        raise SimulationError(f"{out} is a file: give a folder for the world")
    if out.is_dir() and any(out.iterdir()):
        if not force:
            raise SimulationError(f"{out} is not empty: choose another folder, or force to replace the world in it")
        # Only what a world consists of: the folder may be somebody's home.
        (out / MANIFEST).unlink(missing_ok=True)
        for name in _FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)


class WorldWriter:
    """Takes each day's events as they happen and publishes them on the day they are sent."""

    def __init__(self, settings: WorldSettings, out: Path) -> None:
        self._settings = settings
        self._out = out
        self._pending: list[pa.Table] = []
        self._labels: list[pa.Table] = []
        self._truth: list[pa.Table] = []
        self._types: Counter[str] = Counter()
        self._fraud: Counter[str] = Counter()

    def write_day(self, events: pa.Table, day: int) -> None:
        """Publishes what was sent by the end of day `day`; the rest waits, and after the last day is not told."""
        waiting = pa.concat_tables([*self._pending, events])
        due = pc.less(waiting["sent_at"], _midnight(self._settings, day + 1))
        self._pending = [waiting.filter(pc.invert(due))]
        rows = waiting.filter(due).sort_by([("sent_at", "ascending"), ("event_id", "ascending")])
        folder = day_folder(self._out, "events", _date(self._settings, day))
        _write(rows.select(EVENT_SCHEMA.names), folder / "events.parquet")
        self._labels.append(label(rows, self._settings, day))
        is_fraud = rows["typology"].is_valid()
        truth = rows.select(["event_id", *TRUTH_FIELDS]).add_column(1, "is_fraud", is_fraud)
        self._truth.append(truth)
        self._types.update(rows["event_type"].to_pylist())
        self._fraud.update(rows["typology"].drop_null().to_pylist())

    def finish(self) -> WorldSummary:
        """Writes labels, truth and, last of all, `world.json`."""
        labels = self._write_labels()
        _write(pa.concat_tables(self._truth), self._out / "truth" / "events.parquet")
        summary = WorldSummary(
            format=1,
            settings=self._settings,
            days=self._settings.days,
            events=self._types.total(),
            fraud_events=self._fraud.total(),
            labels=labels,
            events_by_type=dict(sorted(self._types.items())),
            fraud_by_typology=dict(sorted(self._fraud.items())),
            digest=_digest(self._out),
        )
        manifest = json.dumps(summary.model_dump(mode="json"), indent=2) + "\n"
        (self._out / MANIFEST).write_text(manifest, "utf-8")
        return summary

    def _write_labels(self) -> int:
        labels = pa.concat_tables(self._labels)
        observed_on = pc.floor_temporal(labels["observed_at"], unit="day")
        for moment in sorted(pc.unique(observed_on).to_pylist()):
            rows = labels.filter(pc.equal(observed_on, pa.scalar(moment, observed_on.type)))
            rows = rows.sort_by([("observed_at", "ascending"), ("event_id", "ascending")])
            _write(rows, day_folder(self._out, "labels", moment.date()) / "labels.parquet")
        return int(labels.num_rows)


def _date(settings: WorldSettings, day: int) -> date:
    return settings.first_day + timedelta(days=day)


def _midnight(settings: WorldSettings, day: int) -> Any:
    return pa.scalar(datetime.combine(_date(settings, day), time(), UTC), LABEL_SCHEMA.field("observed_at").type)


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def _digest(out: Path) -> str:
    """SHA-256 over the sorted lines `path NUL sha256-of-file` of all data files."""
    lines = []
    for path in out.rglob("*.parquet"):
        name = path.relative_to(out).as_posix()
        if name.split("/")[0] in _FOLDERS:
            lines.append(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
