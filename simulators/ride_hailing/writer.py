"""Publishes a world as it happens, day by day; only what lies in the future is held in memory.

Events go to the day they were sent, labels to the day they were observed, decisions (where a policy decides) to the
day of their event, pictures of the population to the day they show; the truth is one file, a row group a day.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from simulators.ride_hailing.adversary import Feedback
from simulators.ride_hailing.emission import EVENT_SCHEMA, TRUTH_FIELDS
from simulators.ride_hailing.errors import SimulationError
from simulators.ride_hailing.folders import day_folder, digest, prepare, publish, write_table
from simulators.ride_hailing.labels import LABEL_SCHEMA, held_out, label
from simulators.ride_hailing.policy import ALLOW, BLOCK, Blocked, Policy, ask
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.snapshots import is_due, picture

_TIME = LABEL_SCHEMA.field("observed_at").type
DECISION_SCHEMA = pa.schema([("event_id", pa.string()), ("decision", pa.string())])
_TRUTH_SCHEMA = pa.schema(
    [("event_id", pa.string()), ("is_fraud", pa.bool_()), *((name, pa.string()) for name in TRUTH_FIELDS)]
)


class WorldSummary(BaseModel):
    """What `world.json` says: the settings, the counts, and a digest of all files."""

    model_config = ConfigDict(frozen=True)

    format: int
    settings: WorldSettings
    days: int
    events: int
    fraud_events: int
    blocked_events: int
    labels: int
    events_by_type: dict[str, int]
    fraud_by_typology: dict[str, int]
    digest: str


class WorldWriter:
    """Takes each day's events as they happen and publishes them on the day they are sent.

    Args:
        settings: the world's settings.
        out: an empty or new folder.
        force: replace a world that is already there.
        policy: who decides on what is published; None for nobody.
        batch_hours: how much of a day the policy is shown at once.

    Raises:
        SimulationError: `out` is not empty and `force` is not set, or `batch_hours` is not 1 to 24.
    """

    def __init__(
        self, settings: WorldSettings, out: Path, *, force: bool, policy: Policy | None = None, batch_hours: int = 24
    ) -> None:
        if not 1 <= batch_hours <= 24:
            raise SimulationError(f"batch_hours is {batch_hours}: a policy can be shown 1 to 24 hours at once")
        self._settings, self._policy, self._batch_hours = settings, policy, batch_hours
        self._out, self._folder = out, prepare(out, force=force)
        self._blocked = Blocked()
        self._pending: list[pa.Table] = []
        self._labels = LABEL_SCHEMA.empty_table()
        (self._folder / "truth").mkdir()
        self._truth = pq.ParquetWriter(self._folder / "truth" / "events.parquet", _TRUTH_SCHEMA, compression="zstd")
        self._types: Counter[str] = Counter()
        self._fraud: Counter[str] = Counter()
        self._counts = Counter(labels=0, blocked=0)

    def picture(self, people: Population, day: int) -> None:
        """Keeps a picture of the population as the day begins, where one is due."""
        today = _date(self._settings, day)
        if is_due(day, self._settings.first_day, today):
            folder = day_folder(self._folder, "snapshots", today)
            for name, table in picture(self._settings, people, day).items():
                write_table(table, folder / f"{name}.parquet")

    def write_day(self, events: pa.Table, day: int) -> dict[str, Feedback]:
        """Publishes what was sent by the end of day `day`; the rest waits, and after the last day is not told.

        Returns:
            What the abusers of each typology saw of the day.
        """
        waiting = pa.concat_tables([*self._pending, events])
        due = pc.less(waiting["sent_at"], _midnight(self._settings, day + 1))
        self._pending = [waiting.filter(pc.invert(due)).combine_chunks()]
        rows = waiting.filter(due).sort_by([("sent_at", "ascending"), ("event_id", "ascending")])
        rows = self._decide(rows, day)
        today = _date(self._settings, day)
        write_table(rows.select(EVENT_SCHEMA.names), day_folder(self._folder, "events", today) / "events.parquet")
        if self._policy is not None:
            decisions = rows.select(DECISION_SCHEMA.names)
            write_table(decisions, day_folder(self._folder, "decisions", today) / "decisions.parquet")
        truth = rows.select(["event_id", *TRUTH_FIELDS]).add_column(1, "is_fraud", rows["typology"].is_valid())
        self._truth.write_table(truth.cast(_TRUTH_SCHEMA))
        self._labels = pa.concat_tables([self._labels, label(rows, self._settings, day)]).combine_chunks()
        # Labels come after their event was sent, so today's are complete.
        self._write_labels(_midnight(self._settings, day + 1))
        self._types.update(_counts(rows["event_type"]))
        self._fraud.update(_counts(rows["typology"]))
        self._counts["blocked"] += pc.sum(pc.equal(rows["decision"], BLOCK)).as_py() or 0
        return _feedback(rows)

    def finish(self) -> WorldSummary:
        """Writes the labels still to come, closes the truth and, last of all, publishes with `world.json`."""
        self._truth.close()
        self._write_labels(None)
        summary = WorldSummary(
            format=2,
            settings=self._settings,
            days=self._settings.days,
            events=self._types.total(),
            fraud_events=self._fraud.total(),
            blocked_events=self._counts["blocked"],
            labels=self._counts["labels"],
            events_by_type=dict(sorted(self._types.items())),
            fraud_by_typology=dict(sorted(self._fraud.items())),
            digest=digest(self._folder),
        )
        publish(self._out, json.dumps(summary.model_dump(mode="json"), indent=2) + "\n")
        return summary

    def _decide(self, rows: pa.Table, day: int) -> pa.Table:
        """The rows that happen after all, with what was decided, batch by batch."""
        if self._policy is None:
            return rows.append_column("decision", pa.array(np.full(rows.num_rows, ALLOW), pa.string()))
        ends = [_midnight(self._settings, day, hour) for hour in range(0, 24, self._batch_hours)][1:]
        sent = rows["sent_at"].cast(pa.int64()).to_numpy()
        cuts = np.searchsorted(sent, [end.cast(pa.int64()).as_py() for end in ends])
        done = []
        for start, end in zip([0, *cuts], [*cuts, rows.num_rows], strict=True):
            batch = rows.slice(start, end - start)
            batch = batch.filter(pa.array(self._blocked.possible(batch)))
            decision = ask(self._policy, batch.select(EVENT_SCHEMA.names), held_out(batch, self._settings))
            batch = batch.append_column("decision", decision)
            self._blocked.remember(batch, day)
            done.append(batch.filter(pa.array(self._blocked.possible(batch))))
        return pa.concat_tables(done)

    def _write_labels(self, before: Any) -> None:
        """Writes the labels observed before that moment, all of them where it is None."""
        due, self._labels = self._labels, LABEL_SCHEMA.empty_table()
        if before is not None:
            now = pc.less(due["observed_at"], before)
            due, self._labels = due.filter(now), due.filter(pc.invert(now))
        observed_on = pc.floor_temporal(due["observed_at"], unit="day")
        for moment in sorted(pc.unique(observed_on).to_pylist()):
            rows = due.filter(pc.equal(observed_on, pa.scalar(moment, observed_on.type)))
            rows = rows.sort_by([("observed_at", "ascending"), ("event_id", "ascending")])
            write_table(rows, day_folder(self._folder, "labels", moment.date()) / "labels.parquet")
        self._counts["labels"] += due.num_rows


def _feedback(rows: pa.Table) -> dict[str, Feedback]:
    """Of each typology's scored events: how many there were, how many were blocked."""
    scored = rows.filter(pc.is_in(rows["event_type"], pa.array(SCORED_EVENT_TYPES)))
    tried = _counts(scored["typology"])
    blocked = _counts(scored.filter(pc.equal(scored["decision"], BLOCK))["typology"])
    return {name: Feedback(n, blocked.get(name, 0)) for name, n in tried.items()}


def _counts(names: pa.ChunkedArray) -> dict[str, int]:
    """How often each name occurs; nulls are not counted."""
    found = pc.value_counts(names.drop_null().combine_chunks())
    return dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))


def _date(settings: WorldSettings, day: int) -> date:
    return settings.first_day + timedelta(days=day)


def _midnight(settings: WorldSettings, day: int, hour: int = 0) -> pa.Scalar:
    return pa.scalar(datetime.combine(_date(settings, day), time(hour), UTC), _TIME)
