"""The whole training pipeline on a million events: seconds, memory, and whether ten times the events take ten times.

What is timed is `pipelines.training.run_local`, the pipeline that `fraud train` runs: KFP's local runner, a process for
each step, bundles registered in a real MLflow server. The world, its ingestion and the snapshot are made before the
clock starts. Memory is looked at five times a second: a step's is the largest resident set of any one process, and the
bound is on the sum over all processes of the run, MLflow's server aside.
"""

from __future__ import annotations

import os
import re
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

import psutil
from rich.console import Console

from feature_repo.datasets import Dataset, snapshot
from feature_repo.event_log import log_days
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from pipelines.errors import StepError
from pipelines.local_stack import MANIFESTS
from pipelines.report import Row
from pipelines.settings import TrainingRun
from pipelines.training import STEPS, run_local
from simulators.local_services import MlflowServer
from simulators.ride_hailing import WorldSettings, simulate
from simulators.ride_hailing.scale import days_and_volume

SMALL, LARGE = 100_000, 1_000_000
_GIB = 2**30
_MOST_MINUTES, _MOST_GIB, _MOST_RATIO = 12, 8, 1.3
_WATCH_S = 0.2
_ENDED = re.compile(r"Task .*?'([\w-]+)'.* finished with status .*?SUCCESS")


@dataclass(frozen=True)
class StepUse:
    """What a step took.

    Attributes:
        name: the step.
        wall_s: seconds since the step before ended.
        peak_bytes: largest resident set of any one process meanwhile.
    """

    name: str
    wall_s: float
    peak_bytes: int


@dataclass(frozen=True)
class PipelineUse:
    """What a run took.

    Attributes:
        events: events trained on.
        wall_s: seconds.
        cpu_s: seconds of processor time, all processes.
        peak_bytes: largest sum of resident sets.
        steps: by step, in the order of their ends.
        refusal: what the gate said when it let nothing be registered, else empty.
    """

    events: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    steps: tuple[StepUse, ...]
    refusal: str


def run(large: int = LARGE, small: int = SMALL) -> list[Row]:
    """Trains on the small dataset, then on the large one."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:2])
    try:
        little, big = measure(small), measure(large)
    finally:
        os.sched_setaffinity(0, cores)
    ratio = (big.wall_s / big.events) / (little.wall_s / little.events)
    name = f"training pipeline, {big.events:,} events"
    minutes, peak = big.wall_s / 60, big.peak_bytes / _GIB
    return [
        Row(f"training pipeline, {little.events:,} events", little.wall_s / 60, "min"),
        Row(name, minutes, "min", "below 12", minutes < _MOST_MINUTES),
        Row(f"{name}, processor time", big.cpu_s / 60, "min"),
        Row(f"{name}, peak memory", peak, "GiB", "below 8", peak < _MOST_GIB),
        Row(f"{name}, bundles registered", big.refusal or "yes", "", "yes", not big.refusal),
        *(row for step in big.steps for row in _of_step(step)),
        Row(
            f"training pipeline, time per event of {big.events:,} over {little.events:,}",
            ratio,
            "",
            "at most 1.3",
            ratio <= _MOST_RATIO,
        ),
    ]


def _of_step(step: StepUse) -> list[Row]:
    return [Row(f"  {step.name}", step.wall_s, "s"), Row(f"  {step.name}, peak", step.peak_bytes / _GIB, "GiB")]


def measure(events: int) -> PipelineUse:
    """Makes a world of about so many events and runs the pipeline on it."""
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status("") as status:
        scratch = Path(folder)
        status.update(f"simulating and ingesting {events:,} events")
        dataset = _dataset(scratch, events)
        with MlflowServer(scratch / "mlflow") as mlflow:
            settings = TrainingRun(
                dataset=dataset.path,
                work=scratch / "pipeline",
                tracking_uri=mlflow.url,
                bundle_root=scratch / "bundles",
                policy=MANIFESTS / "policy" / "threshold_settings.yaml",
                alias="champion",
                purpose="benchmark",
            )
            used, started = _processor_s(), time.perf_counter()
            with _Watch() as watch:

                def ended(done: int, steps: int) -> None:
                    watch.next_step()
                    status.update(f"training on {dataset.events:,} events: {done} of {steps} steps")

                refusal = _train(settings, ended)
            taken, used = time.perf_counter() - started, _processor_s() - used
        (log,) = settings.work.glob("*/steps.log")
        names = _ENDED.findall(log.read_text())
        assert refusal or sorted(names) == sorted(STEPS), names
    steps = tuple(StepUse(name, *step) for name, step in zip(names, watch.steps, strict=True))
    return PipelineUse(dataset.events, taken, used, watch.peak_bytes, steps, refusal)


def _train(settings: TrainingRun, ended: Callable[[int, int], None]) -> str:
    """Runs the pipeline; a gate that stays closed, before the short last step, costs the benchmark nothing else."""
    try:
        run_local(settings, ended)
    except StepError as error:
        if "'gate'" not in str(error):
            raise
        return str(error)
    return ""


def _dataset(scratch: Path, events: int) -> Dataset:
    days, volume = days_and_volume(events)
    simulate(WorldSettings(days=days, events_per_day=volume), scratch / "world")
    ingest_files(scratch / "world" / "events", scratch / "log", Pseudonymiser(b"a benchmark's key"))
    cutoff = log_days(scratch / "log")[-1] + timedelta(days=1)
    return snapshot(scratch / "log", scratch / "world" / "labels", scratch / "datasets", cutoff)


def _processor_s() -> float:
    """Processor time of the children that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Watch:
    """Looks at the processes that are started while it watches, five times a second.

    Attributes:
        steps: seconds and peak bytes of each step that has ended.
        peak_bytes: largest sum of resident sets.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []
        self.peak_bytes = 0
        self._us = psutil.Process()
        self._older = {child.pid for child in self._us.children()}
        self._step_peak = 0
        self._step_started = time.perf_counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def next_step(self) -> None:
        """Takes the step that ran until now as ended."""
        now = time.perf_counter()
        self.steps.append((now - self._step_started, self._step_peak))
        self._step_started, self._step_peak = now, 0

    def _run(self) -> None:
        while not self._ended.wait(_WATCH_S):
            roots = [child for child in self._us.children() if child.pid not in self._older]
            sizes = [_resident(p) for root in roots for p in (root, *_descendants(root))]
            self.peak_bytes = max(self.peak_bytes, sum(sizes))
            self._step_peak = max(self._step_peak, *sizes, 0)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
