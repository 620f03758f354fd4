"""KFP step: trains the tabular model and scores every event."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def train_lightgbm(
    training_set: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    scores: dsl.Output[dsl.Dataset],
    settings: dict,  # type: ignore[type-arg]  # KFP knows no parametrised dict
) -> None:
    """Trains the trees.

    Args:
        training_set: parquet of `build_training_set`.
        model: the fraud-lightgbm bundle.
        scores: parquet with event_id, lgb_raw, lgb_log_odds and lgb_log_odds_no_store of every row.
        settings: fields of `LightGbmSettings` that differ from its defaults.
    """
    from pathlib import Path

    import pandas as pd

    from components.train_lightgbm.bundle import write_bundle
    from components.train_lightgbm.logic import score, train
    from components.train_lightgbm.settings import LightGbmSettings

    frame = pd.read_parquet(training_set.path)
    choices = LightGbmSettings.model_validate(settings)
    trained = train(frame, choices)
    bundle = write_bundle(Path(model.path), trained, frame, choices, training_set.metadata["dataset_sha256"])
    score(trained, frame).to_parquet(scores.path, index=False)
    model.metadata.update({"sha12": bundle.sha12, **bundle.metadata})
