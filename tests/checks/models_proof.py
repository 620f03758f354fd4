"""`python -m tests.checks.models_proof`: what the models must show on worlds that development never saw.

Simulates world-v1 for each seed, refits every contender as if in the past, and judges it by the truth on the weeks
after. What is finished is kept in .local/check-models, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shutil
import time
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from feature_repo.datasets import Dataset, list_datasets, snapshot
from feature_repo.event_log import log_days
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from inference_services.policy_settings import ThresholdSettings
from pipelines.local_stack import MANIFESTS, PROJECT_ROOT
from pipelines.report import Row
from pipelines.terminal import bars, console
from simulators.ride_hailing import read_truth, simulate
from simulators.ride_hailing.worlds import world_settings
from tests.bounds import conclude, leave

if TYPE_CHECKING:
    from pipelines.prequential.material import Source
    from pipelines.prequential.run import Bar, Evaluation
    from pipelines.prequential.settings import PrequentialSettings

WORLD = "world-v1"
# Never used in development; the development seed is 7.
SEEDS = (102, 103, 104)
_QUICK_DAYS = 56
_TRUTH = ["event_id", "is_fraud", "typology", "ring_id"]


def main() -> int:
    """Returns 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--weeks", type=int, default=6, help="weeks to judge, the last of each world")
    parser.add_argument("--quick", action="store_true", help="one seed, one refit, small budgets: shows that it runs")
    parser.add_argument("--scratch", type=Path, default=PROJECT_ROOT / ".local" / "check-models")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / ".local" / "reports" / "check-models.json")
    given = parser.parse_args()
    # Feast set filters of its own when it was imported above, and torch-geometric warns as it loads.
    warnings.simplefilter("ignore")
    from pipelines.prequential.material import Source, recent
    from pipelines.prequential.settings import PrequentialSettings, quick
    from tests.checks.model_bounds import bound_rows, context_rows

    started = time.monotonic()
    settings = quick() if given.quick else PrequentialSettings(weeks=given.weeks)
    with bars.shown():
        sources = [source(seed, given.scratch, bars.bar) for seed in given.seeds[: 1 if given.quick else None]]
        if given.quick:
            sources = [Source(s.name, recent(s.dataset, _QUICK_DAYS, given.scratch), s.seed, s.truth) for s in sources]
        found = evaluate(sources, settings, given.scratch / "work", bars.bar)
    found.write(given.out.with_suffix(""))
    took = Row("whole run (what was kept from an earlier one costs nothing)", (time.monotonic() - started) / 60, "min")
    status = conclude([*context_rows(found), *bound_rows(found), took], given.out, console)
    console.print(f"report: {given.out.with_suffix('') / 'report.html'}")
    return status


def evaluate(sources: Sequence[Source], settings: PrequentialSettings, work: Path, bar: Bar) -> Evaluation:
    """Under the policy of the manifests."""
    from pipelines.prequential.run import evaluate_over_time

    policy = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
    return evaluate_over_time(sources, settings, policy, work, bar)


def source(seed: int, scratch: Path, bar: Bar) -> Source:
    """A world's dataset with its truth; made once."""
    from pipelines.prequential.material import Source

    folder = scratch / f"{WORLD}-{seed}"
    ready = folder / "READY"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        make_dataset(seed, folder, bar)
        ready.touch()
    truth: pd.DataFrame = read_truth(folder / "world").to_pandas()[_TRUTH]
    return Source(f"seed {seed}", list_datasets(folder / "datasets")[-1], seed, truth)


def make_dataset(seed: int, folder: Path, bar: Bar) -> Dataset:
    """Simulates, ingests, and freezes."""
    simulate(world_settings(WORLD, seed), folder / "world", progress=bar(f"seed {seed}: simulated days"))
    key = Pseudonymiser(b"a key for the checks only")
    ingest_files(folder / "world" / "events", folder / "log", key, progress=bar(f"seed {seed}: ingested days"))
    cutoff = log_days(folder / "log")[-1] + timedelta(days=1)
    return snapshot(folder / "log", folder / "world" / "labels", folder / "datasets", cutoff)


if __name__ == "__main__":
    leave(main())
