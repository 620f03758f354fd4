"""`python -m tests.checks.parity`: lives through a busy week and compares all that serving knew with training's values.

A past of a month fills the longest windows. The week then goes through ingestion, the streaming worker and midnight's
publications, in lockstep (see `tests/parity/lockstep.py`). At the end the store is rebuilt from the log, and deliberate
skews on a small world show that the comparison can fail.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import feast  # noqa: F401 - it sets warning filters when imported, and ours must come after
import redis
from rich.console import Console

from feature_repo.settings import FEAST_PROJECT
from feature_repo.streaming.rebuild import rebuild
from pipelines.local_stack import PROJECT_ROOT
from pipelines.progress import Bars
from pipelines.report import Row
from simulators.local_services import RedisServer
from simulators.ride_hailing import WorldSettings
from tests.bounds import conclude
from tests.parity.comparison import TOLERANCE, Compared, Offline, compare, compare_embeddings
from tests.parity.network import untrained_bundle
from tests.parity.rebuilt import differing_keys
from tests.parity.skews import SKEWS, offline_with
from tests.parity.week import Week, live_through

LEAST_EVENTS = 100_000
LATE_SHARE = 0.02
SMALL = WorldSettings(days=7, events_per_day=500, riders=400, drivers=50, late_share=LATE_SHARE)
_SMALL_LIVE_DAYS = 2
Bar = Callable[[str], Callable[[int, int], None]]


def check(settings: WorldSettings, live_days: int, least: int, folder: Path, bar: Bar) -> list[Row]:
    """All rows of the report.

    Args:
        settings: the world whose last days are lived through.
        live_days: how many.
        least: how many scored events must have been compared.
        folder: an empty folder.
        bar: title -> progress callback.
    """
    bundle = untrained_bundle(folder / "bundle")
    with RedisServer(folder / "redis") as server:
        week = live_through(settings, live_days, folder / "week", server.url, bar, bundle=bundle)
        step = bar("compare")
        step(0, 3)
        offline = Offline.of(week.dataset, folder / "work")
        step(1, 3)
        found = compare(week.online, offline)
        step(2, 3)
        last_day = int(offline.log.arrival_day.max())
        embeddings = compare_embeddings(week.online, offline, bundle, last_day, server.url)
        step(3, 3)
        rows = [
            *parity_rows(week, found, least),
            *embedding_rows(embeddings),
            *_rebuild_rows(week, server, folder, bar),
        ]
    return [*rows, _skew_row(folder / "skews", bar)]


def parity_rows(week: Week, found: list[Compared], least: int) -> list[Row]:
    """What was compared, and how far apart it is."""
    n, wrong, largest = len(week.online), sum(c.wrong for c in found), max(c.largest for c in found)
    names = ", ".join(c.name for c in found if c.wrong)
    return [
        Row("scored events compared", n, "", f"at least {least:,}", n >= least),
        Row("events that came over a minute late", week.late, "", "some", week.late > 0),
        Row("events that were published twice", week.repeated, "", "some", week.repeated > 0),
        Row("features and graph tensors compared", len(found)),
        Row("values compared", sum(c.values for c in found)),
        Row(f"values that differ{': ' + names if names else ''}", wrong, "", "none", wrong == 0),
        Row("largest difference", largest, "", f"at most {TOLERANCE:g}", largest <= TOLERANCE),
    ]


def embedding_rows(found: list[Compared]) -> list[Row]:
    """The same for the embeddings of the last day."""
    wrong = sum(c.wrong for c in found)
    return [
        Row("embedding values compared, of the last day", sum(c.values for c in found)),
        Row("embedding values that differ", wrong, "", "none", wrong == 0),
    ]


def _rebuild_rows(week: Week, server: RedisServer, folder: Path, bar: Bar) -> list[Row]:
    with (
        RedisServer(folder / "rebuilt") as other,
        redis.Redis.from_url(server.url) as worked,
        redis.Redis.from_url(other.url) as rebuilt,
    ):
        rebuild(week.log, rebuilt, FEAST_PROJECT, bar("rebuild"))
        compared, different = differing_keys(worked, rebuilt)
    return [
        Row("entities rebuilt from the log", compared, "", "some", compared > 0),
        Row("entities whose bytes differ from the worker's", len(different), "", "none", not different),
    ]


def _skew_row(folder: Path, bar: Bar) -> Row:
    step, missed = bar("deliberate skews"), []
    with RedisServer(folder / "redis") as server:
        week = live_through(SMALL, _SMALL_LIVE_DAYS, folder / "week", server.url, lambda _: lambda _done, _total: None)
    for n, skew in enumerate(SKEWS):
        offline = offline_with(skew, week.log, folder / "week" / "world" / "labels", folder / str(n))
        if skew.shows_in not in {c.name for c in compare(week.online, offline) if c.wrong}:
            missed.append(skew.name)
        step(n + 1, len(SKEWS))
    name = f"deliberate skews found, of {len(SKEWS)}{', but not: ' + ', '.join(missed) if missed else ''}"
    return Row(name, len(SKEWS) - len(missed), "", "all", not missed)


def main() -> int:
    """Returns 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--days", type=int, default=38, help="days of the world")
    parser.add_argument("--live-days", type=int, default=7, help="the last of them, which are lived through")
    parser.add_argument("--events-per-day", type=int, default=14_500)
    parser.add_argument("--least", type=int, default=LEAST_EVENTS, help="scored events that must have been compared")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / ".local" / "reports" / "check-parity.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    # A check that is ended stops its servers, as one that is interrupted does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    bars = Bars(console)
    settings = WorldSettings(
        seed=given.seed, days=given.days, events_per_day=given.events_per_day, late_share=LATE_SHARE
    )
    with tempfile.TemporaryDirectory(prefix="check-parity-") as folder, bars.shown():
        rows = check(settings, given.live_days, given.least, Path(folder), bars.bar)
    return conclude(rows, given.out, console)


if __name__ == "__main__":
    code = main()
    # DuckDB's binding reports its own types as leaks, forty lines, when Python shuts down: leave before that.
    sys.stdout.flush()
    os._exit(code)
