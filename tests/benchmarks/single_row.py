"""One row through the trees: LightGBM's single-row interface against `Booster.predict`.

The trees are trained on a simulated company as the pipeline trains them, and each call scores another row.
"""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from components.build_training_set.logic import SplitSettings, build
from components.train_lightgbm.bundle import write_bundle
from components.train_lightgbm.logic import train
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.datasets import snapshot
from feature_repo.event_log import log_days
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from inference_services.bundle import Bundle
from inference_services.lightgbm_predictor.scorer import LightGbmScorer, Matrix
from inference_services.lightgbm_predictor.single_row import SingleRow
from inference_services.policy_settings import ThresholdSettings
from pipelines.local_stack import MANIFESTS
from pipelines.report import Row
from simulators.ride_hailing import WorldSettings, simulate
from tests.benchmarks.rounds import Comparison, compare

DAYS, EVENTS_PER_DAY = 100, 1000
ROWS = 10_000
_LEAST_RATIO = 2.5


def run(days: int = DAYS) -> list[Row]:
    """Compares the scores, then times both ways."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        status = stack.enter_context(Console(stderr=True).status("training the trees"))
        bundle, frame = _trained(scratch, days)
        scorer = LightGbmScorer.load(bundle.folder)
        rows = _rows(scorer, frame)
        status.update(f"scoring {len(rows):,} rows")
        found = _compared(scorer, rows)
    name = f"one row through {scorer.booster.num_trees()} trees"
    return [
        Row(f"{name}, LightGBM's single-row interface", found.ours_s * 1e6, "us"),
        Row(f"{name}, Booster.predict(num_threads=1)", found.peer_s * 1e6, "us"),
        Row(f"{name}, bit-identical of {len(rows):,}", len(rows)),
        Row(
            f"{name}, single-row interface against Booster.predict",
            found.ratio,
            "times",
            f"at least {_LEAST_RATIO}",
            found.ratio >= _LEAST_RATIO,
        ),
    ]


def _trained(scratch: Path, days: int) -> tuple[Bundle, pd.DataFrame]:
    """A bundle with the pipeline's settings, and the rows that it was trained on."""
    simulate(WorldSettings(days=days, events_per_day=EVENTS_PER_DAY), scratch / "world")
    ingest_files(scratch / "world" / "events", scratch / "log", Pseudonymiser(b"a benchmark's key"))
    cutoff = log_days(scratch / "log")[-1] + timedelta(days=1)
    dataset = snapshot(scratch / "log", scratch / "world" / "labels", scratch / "datasets", cutoff)
    policy = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
    frame = build(dataset, scratch / "features", policy.label_maturation_days, SplitSettings())
    settings = LightGbmSettings()
    return write_bundle(scratch / "lightgbm", train(frame, settings), frame, settings, dataset.sha256), frame


def _rows(scorer: LightGbmScorer, frame: pd.DataFrame) -> Matrix:
    """Rows as served, a tenth of their values missing and their categories any code, known or not."""
    rng = np.random.default_rng(0)
    sample = frame.sample(ROWS, replace=True, random_state=0)
    X = scorer.encode({name: sample[name].to_numpy() for name in scorer.features}, ROWS)
    for name, levels in scorer.categorical.items():
        X[:, scorer.features.index(name)] = rng.integers(-1, len(levels) + 2, ROWS)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


def _compared(scorer: LightGbmScorer, rows: Matrix) -> Comparison:
    alone, booster = SingleRow(scorer.booster), scorer.booster
    whole = booster.predict(rows, raw_score=True)
    np.testing.assert_array_equal([alone(row) for row in rows], whole)
    for i in range(0, len(rows), 10):
        assert booster.predict(rows[i : i + 1], raw_score=True, num_threads=1)[0] == whole[i]
    ours, peer = itertools.cycle(rows), itertools.cycle(rows[:, None])
    return compare(
        lambda: alone(next(ours)), lambda: booster.predict(next(peer), raw_score=True, num_threads=1), len(rows) // 5
    )
