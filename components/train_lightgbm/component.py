"""KFP step: trains the tabular model and scores every event."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def train_lightgbm(  # noqa: PLR0917 - KFP passes them by name
    training_set: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    scores: dsl.Output[dsl.Dataset],
    settings: dict,  # type: ignore[type-arg]  # KFP knows no parametrised dict
    tracking_uri: str = "",
    run_id: str = "",
) -> None:
    """Trains the trees.

    Args:
        training_set: parquet of `build_training_set`.
        model: the fraud-lightgbm bundle.
        scores: parquet with event_id, lgb_raw, lgb_log_odds and lgb_log_odds_no_store of every row.
        settings: fields of `LightGbmSettings` that differ from its defaults.
        tracking_uri: MLflow server that keeps the trials of a search; empty for none.
        run_id: the open MLflow run that they lie under; empty for none.
    """
    from pathlib import Path

    import pandas as pd

    from components.train_lightgbm.bundle import write_bundle
    from components.train_lightgbm.logic import score, train
    from components.train_lightgbm.settings import LightGbmSettings

    frame = pd.read_parquet(training_set.path)
    choices = LightGbmSettings.model_validate(settings)
    found = None
    if choices.trials:
        from components.train_lightgbm.search import search
        from components.train_lightgbm.trial_runs import TrialRuns

        found = search(frame, choices, TrialRuns(tracking_uri, run_id))
        choices = found.settings
    trained = train(frame, choices)
    bundle = write_bundle(
        Path(model.path), trained, frame, choices, training_set.metadata["dataset_sha256"], found=found
    )
    score(trained, frame).to_parquet(scores.path, index=False)
    model.metadata.update({"sha12": bundle.sha12, **bundle.metadata})
