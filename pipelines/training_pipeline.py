"""The graph of the training pipeline; `python -m pipelines.training_pipeline FOLDER` runs it in local processes."""

import sys

from kfp import dsl

from components.build_training_set.component import build_training_set
from components.evaluate.component import evaluate
from components.fuse_and_calibrate.component import fuse_and_calibrate
from components.gate.component import gate
from components.register_model.component import register_model
from components.train_gnn.component import train_gnn
from components.train_lightgbm.component import train_lightgbm
from components.validate_events.component import validate_events
from pipelines import step_settings
from pipelines.local_pipeline import run_steps
from pipelines.step_settings import (
    BUNDLES,
    DATASETS,
    LARGE,
    MINUTES,
    MLFLOW,
    PATIENCE,
    SMALL,
    THREADS,
    StepSettings,
)

SETTINGS = {
    "validate-events": StepSettings(
        SMALL,
        timeout_s=30 * MINUTES,
        retries=1,
        twice="only reads the dataset; once more, since a bad dataset is as bad the third time",
        volumes=(DATASETS,),
    ),
    "build-training-set": StepSettings(
        LARGE,
        timeout_s=60 * MINUTES,
        retries=2,
        twice="reads an immutable dataset and writes its own artifact whole",
        volumes=(DATASETS,),
        variables=(THREADS,),
    ),
    "train-lightgbm": StepSettings(
        LARGE,
        timeout_s=120 * MINUTES,
        retries=2,
        twice="seeded, writes its own artifacts; a search logs its trials again",
        variables=(THREADS, MLFLOW, PATIENCE),
    ),
    "train-gnn": StepSettings(
        LARGE,
        timeout_s=120 * MINUTES,
        retries=2,
        twice="seeded; reads an immutable dataset and writes its own artifacts",
        volumes=(DATASETS,),
        variables=(THREADS,),
    ),
    "fuse-and-calibrate": StepSettings(
        LARGE,
        timeout_s=60 * MINUTES,
        retries=2,
        twice="reads immutable bundles and an immutable dataset, and writes its own artifacts",
        volumes=(DATASETS, BUNDLES),
        variables=(THREADS,),
    ),
    "evaluate": StepSettings(
        SMALL,
        timeout_s=60 * MINUTES,
        retries=2,
        twice="logs the same metrics and artifacts to the same MLflow run again",
        variables=(MLFLOW, PATIENCE),
    ),
    "gate": StepSettings(
        SMALL,
        timeout_s=10 * MINUTES,
        retries=0,
        twice="safe and useless: the same evaluation breaks the same bounds",
    ),
    "register-model": StepSettings(
        SMALL,
        timeout_s=30 * MINUTES,
        retries=3,
        twice="a content that is registered keeps its version, a published folder stays, the aliases move last",
        volumes=(BUNDLES,),
        variables=(MLFLOW, PATIENCE),
    ),
}


@dsl.pipeline(name="fraud-training", description="Dataset to registered, gated LightGBM, GNN and fusion bundles.")
def training_pipeline(  # noqa: PLR0917 - KFP passes them by position
    dataset_path: str,
    policy: str,
    alias: str,
    bundle_root: str,
    tracking_uri: str,
    run_id: str,
    champion_lightgbm: str = "",
    champion_gnn: str = "",
    splits: dict = {},  # type: ignore[type-arg]  # noqa: B006 - KFP reads the default, nothing mutates it
    lightgbm_settings: dict = {},  # type: ignore[type-arg]  # noqa: B006
    gnn_settings: dict = {},  # type: ignore[type-arg]  # noqa: B006
    gate_settings: dict = {},  # type: ignore[type-arg]  # noqa: B006
    volume_settings: dict = {},  # type: ignore[type-arg]  # noqa: B006
    bundle_claim: str = step_settings.BUNDLES.claim,
) -> None:
    """Trains, fuses, evaluates, gates and registers.

    Args:
        dataset_path: folder of the dataset's snapshot.
        policy: text of threshold_settings.yaml.
        alias: "champion" or "challenger".
        bundle_root: where bundles are published for serving.
        tracking_uri: MLflow server.
        run_id: an open MLflow run.
        champion_lightgbm: folder of the champion's bundle, empty when there is none.
        champion_gnn: folder of the champion's bundle, empty when there is none.
        splits: fields of `SplitSettings`.
        lightgbm_settings: fields of `LightGbmSettings`.
        gnn_settings: fields of `GnnSettings`.
        gate_settings: fields of `GateSettings`.
        volume_settings: fields of `VolumeSettings`.
        bundle_claim: the claim whose root is `bundle_root`; empty in a local run, where it is a folder.
    """
    valid = validate_events(dataset_path=dataset_path, settings=volume_settings)
    rows = build_training_set(
        dataset_path=dataset_path, dataset_sha256=valid.outputs["Output"], policy=policy, settings=splits
    )
    training_set = rows.outputs["training_set"]
    trees = train_lightgbm(
        training_set=training_set, settings=lightgbm_settings, tracking_uri=tracking_uri, run_id=run_id
    )
    graph = train_gnn(dataset_path=dataset_path, training_set=training_set, settings=gnn_settings)
    fused = fuse_and_calibrate(
        dataset_path=dataset_path,
        policy=policy,
        training_set=training_set,
        lightgbm=trees.outputs["model"],
        lightgbm_scores=trees.outputs["scores"],
        gnn=graph.outputs["model"],
        gnn_scores=graph.outputs["scores"],
        champion_lightgbm=champion_lightgbm,
        champion_gnn=champion_gnn,
    )
    judged = evaluate(
        policy=policy,
        scores=fused.outputs["scores"],
        lightgbm=trees.outputs["model"],
        gnn=graph.outputs["model"],
        fusion=fused.outputs["fusion"],
        tracking_uri=tracking_uri,
        run_id=run_id,
    )
    passed = gate(evaluation=judged.outputs["evaluation"], settings=gate_settings)
    registered = register_model(
        lightgbm=trees.outputs["model"],
        gnn=graph.outputs["model"],
        fusion=fused.outputs["fusion"],
        evaluation=judged.outputs["evaluation"],
        bundle_root=bundle_root,
        bundle_claim=bundle_claim,
        tracking_uri=tracking_uri,
        run_id=run_id,
        dataset_sha256=valid.outputs["Output"],
        alias=alias,
        pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    ).after(passed)
    step_settings.apply((valid, rows, trees, graph, fused, judged, passed, registered), SETTINGS)


if __name__ == "__main__":
    run_steps(training_pipeline, sys.argv[1:])
