"""Which models are trained for a source, and where their scores are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from feature_repo.datasets import Dataset
from inference_services.policy_settings import ThresholdSettings
from pipelines.prequential import protocol
from pipelines.prequential.contenders import ModelName, log_odds
from pipelines.prequential.controls import shuffle_labels
from pipelines.prequential.material import Material, Source, entity_log
from pipelines.prequential.protocol import Refit
from pipelines.prequential.settings import PrequentialSettings
from pipelines.prequential.tasks import Task, code_digest

# Late labels are what a company has. The others are the upper bound and the controls.
Variant = Literal["late_labels", "clean_labels", "shuffled_edges", "shuffled_labels"]
# Slowest first, so that no long one is left for the end.
MODELS: dict[Variant, tuple[ModelName, ...]] = {
    "late_labels": ("gnn", "lightgbm_neighbours", "lightgbm"),
    "clean_labels": ("gnn", "lightgbm"),
    # The features stay as they are, and so do the trees that read nothing else.
    "shuffled_edges": ("gnn", "lightgbm_neighbours"),
    "shuffled_labels": ("lightgbm",),
}
# Their figures are held against those of the same events.
CONTROLS: tuple[Variant, ...] = ("shuffled_edges", "shuffled_labels")
_NOT_OF_A_JOB = {"control_refits", "weeks", "refit_every", "prefix_days", "upper_bound", "bootstrap_rounds", "workers"}
# What a score depends on: a change elsewhere, in how scores are judged say, trains nothing again.
CODE = (
    "feature_repo",
    "components/build_training_set",
    "components/train_gnn",
    "components/train_lightgbm",
    "components/calibration.py",
    "inference_services/gnn_predictor",
    "inference_services/lightgbm_predictor/scorer.py",
    *(
        f"pipelines/prequential/{name}.py"
        for name in ("contenders", "controls", "graph", "jobs", "material", "protocol", "wide_trees")
    ),
)


@dataclass(frozen=True)
class Job:
    """One model to train and to score.

    Attributes:
        material: files of its dataset.
        refit: when.
        variant: with what labels and edges.
        model: which.
        truth: parquet of the truth; read for clean labels only.
        settings: budgets, with the seed.
        policy: how long silence must last.
        out: parquet, see `contenders.log_odds`.
    """

    material: Material
    refit: Refit
    variant: Variant
    model: ModelName
    truth: Path | None
    settings: PrequentialSettings
    policy: ThresholdSettings
    out: Path

    def task(self) -> Task:
        """What trains it."""
        return Task(self.out, write_scores, (self,))


def jobs_of(
    source: Source, refits: list[Refit], settings: PrequentialSettings, policy: ThresholdSettings, work: Path
) -> list[Job]:
    """All trainings of a source, those that read the same log one after the other."""
    material = Material.of(source.dataset, work)
    truth = work / "truth" / f"{source.dataset.sha12}-{source.truth_digest()[:12]}.parquet"
    if source.truth is not None:
        truth.parent.mkdir(parents=True, exist_ok=True)
        source.truth.to_parquet(truth, index=False)
    seeded = settings.model_copy(
        update={
            "lightgbm": settings.lightgbm.model_copy(update={"seed": source.seed, "num_threads": 1}),
            "gnn": settings.gnn.model_copy(update={"seed": source.seed}),
        }
    )
    code = code_digest(*CODE)
    # All that a training reads of the policy: other costs train nothing again.
    silence = sorted(policy.label_maturation_days.items())
    found = []
    for variant, models in MODELS.items():
        clean = variant == "clean_labels"
        if clean and (source.truth is None or not settings.upper_bound):
            continue
        for refit in refits[: settings.control_refits] if variant in CONTROLS else refits:
            for model in models:
                parts = [source.dataset.sha256, variant, model, refit, code, silence]
                parts += [seeded.model_dump_json(exclude=_NOT_OF_A_JOB), source.truth_digest() if clean else ""]
                key = sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
                out = work / "scores" / f"{source.dataset.sha12}-{refit.cutoff}-{variant}-{model}-{key}.parquet"
                found.append(Job(material, refit, variant, model, truth if clean else None, seeded, policy, out))
    return found


def write_scores(job: Job, out: Path) -> None:
    """Trains one model on what its refit may know, and scores.

    Raises:
        TooFewLabels: a split has no fraud or no honest events.
    """
    frame = pd.read_parquet(job.material.frame)
    dataset = Dataset.open(job.material.dataset)
    first_day, settings = dataset.first_day, job.settings
    if job.truth is not None:
        learn = protocol.to_learn_from_truth(frame, pd.read_parquet(job.truth), job.refit, first_day, settings)
    else:
        learn = protocol.to_learn_from(
            frame, dataset.label_frame(), job.refit, first_day, policy=job.policy, settings=settings
        )
    if job.variant == "shuffled_labels":
        learn = shuffle_labels(learn, np.random.default_rng(settings.lightgbm.seed))
    judge = protocol.judged(frame, job.refit)
    del frame

    log = partial(entity_log, job.material, shuffled=job.variant == "shuffled_edges")
    log_odds(job.model, learn, judge, log, settings).to_parquet(out, index=False)
