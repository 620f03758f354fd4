"""KFP step: combines both models and derives the decision thresholds."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def fuse_and_calibrate(
    *,
    dataset_path: str,
    policy: str,
    training_set: dsl.Input[dsl.Dataset],
    lightgbm: dsl.Input[dsl.Model],
    lightgbm_scores: dsl.Input[dsl.Dataset],
    gnn: dsl.Input[dsl.Model],
    gnn_scores: dsl.Input[dsl.Dataset],
    champion_lightgbm: str,
    champion_gnn: str,
    fusion: dsl.Output[dsl.Model],
    scores: dsl.Output[dsl.Dataset],
) -> None:
    """Fits the pair table on the split "calibrate".

    Args:
        dataset_path: folder of the dataset's snapshot.
        policy: text of threshold_settings.yaml.
        training_set: parquet of `build_training_set`.
        lightgbm: the new fraud-lightgbm bundle.
        lightgbm_scores: its step's scores.
        gnn: the new fraud-gnn bundle.
        gnn_scores: its step's scores.
        champion_lightgbm: folder of the champion's fraud-lightgbm bundle, empty when there is none.
        champion_gnn: folder of the champion's fraud-gnn bundle, empty when there is none.
        fusion: the fraud-fusion bundle.
        scores: parquet, one fused probability per pair for every labelled event of the splits.
    """
    from pathlib import Path

    import pandas as pd
    import yaml

    from components.event_context import event_context
    from components.fuse_and_calibrate import step
    from feature_repo.datasets import Dataset
    from inference_services.policy_settings import ThresholdSettings

    costs = ThresholdSettings.model_validate(yaml.safe_load(policy))
    dataset = Dataset.open(Path(dataset_path))
    frame = pd.read_parquet(training_set.path).join(event_context(dataset.event_table()), on="event_id")
    new_lightgbm, new_gnn = step.new_candidates(
        Path(lightgbm.path), pd.read_parquet(lightgbm_scores.path), Path(gnn.path), pd.read_parquet(gnn_scores.path)
    )
    of_lightgbm, of_gnn = [new_lightgbm], [new_gnn]
    if champion_lightgbm and champion_gnn:
        of_lightgbm.append(step.score_lightgbm(Path(champion_lightgbm), frame))
        of_gnn.append(step.score_gnn(Path(champion_gnn), dataset, frame))
    fused = step.fuse(frame, of_lightgbm, of_gnn, costs)
    facts = {"dataset": training_set.metadata["dataset_sha256"], "pairs": len(fused.rows)}
    bundle = step.write_bundle(
        Path(fusion.path), fused, lightgbm=new_lightgbm.sha12, gnn=new_gnn.sha12, policy=costs, facts=facts
    )
    fused.scores.to_parquet(scores.path, index=False)
    fusion.metadata.update({"sha12": bundle.sha12, **bundle.metadata})
