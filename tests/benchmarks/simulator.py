"""The city on one core: events a second, peak memory, and whether ten times the events take ten times as long.

Each world is written by a process of its own, pinned to one core, so that the peak is that world's alone. Throughput is
by the clock on the wall; the ratio is by processor time, which neighbours on a shared machine disturb less.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pipelines.report import Row

SMALL, LARGE = 100_000, 1_000_000
_ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Run:
    """What one child measured.

    Attributes:
        events: events written.
        wall_s: seconds on the wall, from the first import of the simulator to the end.
        cpu_s: seconds of processor time.
        peak_bytes: largest resident set.
    """

    events: int
    wall_s: float
    cpu_s: float
    peak_bytes: int


def run(large: int = LARGE, small: int = SMALL) -> list[Row]:
    """Writes a small world, a large one, and the small one again."""
    runs = [_child(small), _child(large), _child(small)]
    big, little = runs[1], min(runs[0], runs[2], key=lambda r: r.cpu_s)
    rate = big.events / big.wall_s
    to_million = big.wall_s * 1e6 / big.events
    peak = big.peak_bytes / 2**30
    ratio = (big.cpu_s / big.events) / (little.cpu_s / little.events)
    return [
        Row("simulator, one core", round(rate), "events/s", "at least 20,000", rate >= 20_000),
        Row("simulator, a million events", to_million, "s", "below 60", to_million < 60),
        Row(f"simulator, peak memory of {big.events:,} events", peak, "GiB", "below 2", peak < 2),
        Row(
            f"simulator, time per event of {big.events:,} over {little.events:,}",
            ratio,
            "",
            "at most 1.3",
            ratio <= 1.3,
        ),
    ]


def _child(events: int) -> Run:
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.simulator", str(events)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **_ONE_CORE})
    return Run(**json.loads(done.stdout))


def main() -> None:
    """The child: writes a world of the given number of events and prints a Run as JSON."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    started, used = time.perf_counter(), time.process_time()

    import pyarrow as pa

    from simulators.ride_hailing import WorldSettings, simulate
    from simulators.ride_hailing.scale import days_and_volume

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    days, volume = days_and_volume(int(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        summary = simulate(WorldSettings(days=days, events_per_day=volume), Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = Run(summary.events, time.perf_counter() - started, time.process_time() - used, peak)
    sys.stdout.write(json.dumps(found.__dict__))


if __name__ == "__main__":
    main()
