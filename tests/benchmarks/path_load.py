"""The whole path under load, from an event to its decision, against a stock KServe transformer with Feast's SDK.

Both read the same store, ask both models and fuse. Ours checks more, keeps deadlines, gives reasons and records; the
peer (`stock_transformer`) does not. What both say is compared first, for every event that is then sent. In every round
both sides meet the same load: as many requests as they answer, one connection alone, Poisson arrivals while another
process keeps a core busy, and, ours alone, 256 events in one request and one by one. The arrivals come at half of our
peak, once of the peak on all cores, and once of the peak beside that process.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pipelines.report import Row
from simulators.local_services import LocalProcess
from tests.benchmarks.served import rows_of_servers
from tests.benchmarks.whole_paths import BUDGET_MS, EVENTS, Paths, body, start
from tests.load_generator import Load, Work, load

CONNECTIONS, ROUNDS, SECONDS = 8, 5, 3.0
_CONNECTIONS_OF_ARRIVALS = 64
_LEAST_RATIO, _LEAST_BATCH_RATIO, _LEAST_TAIL_RATIO = 5.0, 10.0, 3.0
# Nothing was missing: an answer that lacks a part is no answer here.
_WHOLE = '"degraded","shape":[1],"datatype":"BYTES","parameters":null,"data":[""]'
_MOST_DEGRADED = 0.01
_SIDES = ("ours", "stock")


def run(rounds: int = ROUNDS, seconds: float = SECONDS) -> list[Row]:
    """Compares the decisions, then measures."""
    with ExitStack() as stack:
        status = stack.enter_context(Console(stderr=True).status("simulating a town, starting both paths"))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = start(stack, scratch)
        status.update("measuring the whole path")
        works = _works(paths, CONNECTIONS, seconds)
        for work in works:
            load(work)
        many = _in_turn(works, rounds)
        one = _in_turn(_works(paths, 1, seconds / 2), rounds)
        plain = _in_turn([paths.work(side[0], 1, seconds) for side in (paths.ours, paths.plain)], rounds)
        with LocalProcess([sys.executable, "-c", "while True: pass"], scratch / "busy.log"):
            beside = _in_turn(works[:1], rounds)
            rates = [_median(peak, lambda found: found.rate) / 2 for peak in (many[0], beside[0])]
            pools = [replace(work, connections=_CONNECTIONS_OF_ARRIVALS) for work in works]
            arrivals = [_in_turn([replace(work, rate=rate) for work in pools], rounds) for rate in rates]
        batches = _batches(paths, seconds, rounds)
        names = (
            *("transformer", "LightGBM predictor", "GNN predictor"),
            *("stock transformer", "stock predictor"),
        )
        servers = dict(zip(names, (*paths.ours, *paths.stock), strict=True))
        resources = rows_of_servers(servers, "whole path, ")
    peaks = ("the peak", "the peak beside it")
    opened = [row for found, rate, peak in zip(arrivals, rates, peaks, strict=True) for row in _open(found, rate, peak)]
    return [*_closed(many, one), *_lone_rows(plain), *opened, *batches, *resources]


def _works(paths: Paths, connections: int, seconds: float) -> list[Work]:
    ours, stock = (paths.work(side[0], connections, seconds) for side in (paths.ours, paths.stock))
    return [replace(ours, must_hold=_WHOLE), stock]


def _in_turn(works: Sequence[Work], rounds: int) -> list[list[Load]]:
    """The loads of each side, by round; the arrivals of a round are the same for both."""
    return [
        list(side) for side in zip(*([load(replace(w, seed=n)) for w in works] for n in range(rounds)), strict=True)
    ]


def _closed(many: Sequence[Sequence[Load]], one: Sequence[Sequence[Load]]) -> list[Row]:
    found = []
    for connections, loads in ((CONNECTIONS, many), (1, one)):
        for side, of_side in zip(_SIDES, loads, strict=True):
            name = f"whole path, {connections} connection{'s' * (connections > 1)}, {side}"
            found += [
                Row(name, _median(of_side, lambda found: found.rate), "requests/s"),
                Row(f"{name}, p50", _median(of_side, lambda found: found.p50_ms), "ms"),
                Row(f"{name}, p99", _median(of_side, lambda found: found.p99_ms), "ms"),
                _lost(name, of_side),
            ]
    rate = _ratio(many, lambda ours, stock: ours.rate / stock.rate)
    p50 = _ratio(many, lambda ours, stock: stock.p50_ms / ours.p50_ms)
    alone = _ratio(one, lambda ours, stock: stock.p50_ms / ours.p50_ms)
    bound = f"at least {_LEAST_RATIO:g}"
    return [
        *found,
        Row("whole path, requests/s against stock", rate, "times", bound, rate >= _LEAST_RATIO),
        Row(f"whole path, p50 against stock, {CONNECTIONS} connections", p50, "times", bound, p50 >= _LEAST_RATIO),
        Row("whole path, p50 against stock, 1 connection", alone, "times"),
    ]


def _lone_rows(loads: Sequence[Sequence[Load]]) -> list[Row]:
    """What LightGBM's single-row interface gives the path, beside what `bench-models` says of it alone."""
    gain = _ratio(loads, lambda ours, plain: plain.p50_ms / ours.p50_ms - 1)
    name = "whole path, 1 connection, p50 above ours with Booster.predict for a lone row"
    return [Row(name, gain, "share")]


def _open(arrivals: Sequence[Sequence[Load]], rate: float, peak: str) -> list[Row]:
    name = f"whole path, a core busy, {rate:.0f} arrivals a second, half of {peak}"
    found = [Row(f"{name}, ours, p50", _median(arrivals[0], lambda found: found.p50_ms), "ms")]
    p99, stock = (_median(side, lambda found: found.p99_ms) for side in arrivals)
    tail = _ratio(arrivals, lambda ours, stock: stock.p99_ms / ours.p99_ms)
    return [
        *found,
        Row(f"{name}, ours, p99", p99, "ms", f"at most {BUDGET_MS:g}", p99 <= BUDGET_MS),
        _lost(f"{name}, ours", arrivals[0]),
        Row(f"{name}, stock, p99 (at least)", stock, "ms"),
        Row(f"{name}, stock, answered", _median(arrivals[1], lambda found: found.rate), "requests/s"),
        Row(f"{name}, p99 against stock", tail, "times", f"at least {_LEAST_TAIL_RATIO:g}", tail >= _LEAST_TAIL_RATIO),
    ]


def _batches(paths: Paths, seconds: float, rounds: int) -> list[Row]:
    """256 events in one request against the same events in 256 requests, one after the other."""
    (single, _) = _works(paths, 1, seconds)
    whole = replace(single, bodies=[body(paths.events)], must_hold='"decision"')
    loads = _in_turn([whole, single], rounds)
    ratio = _ratio(loads, lambda batch, one: batch.rate * EVENTS / one.rate)
    bound = f"at least {_LEAST_BATCH_RATIO:g}"
    return [
        Row(f"{EVENTS} events in one request", _median(loads[0], lambda found: found.rate) * EVENTS, "events/s"),
        Row(f"{EVENTS} events in one request, p50", _median(loads[0], lambda found: found.p50_ms), "ms"),
        Row(f"{EVENTS} events in {EVENTS} requests", _median(loads[1], lambda found: found.rate), "events/s"),
        Row("one request against many", ratio, "times", bound, ratio >= _LEAST_BATCH_RATIO),
    ]


def _lost(name: str, loads: Sequence[Load]) -> Row:
    share = sum(found.failures for found in loads) / max(1, sum(found.requests for found in loads))
    return Row(
        f"{name}, failed or without a part", share, "share", f"at most {_MOST_DEGRADED:.0%}", share <= _MOST_DEGRADED
    )


def _median(loads: Sequence[Load], of: Callable[[Load], float]) -> float:
    return statistics.median(map(of, loads))


def _ratio(loads: Sequence[Sequence[Load]], of: Callable[[Load, Load], float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(of(*both) for both in zip(*loads, strict=True))
