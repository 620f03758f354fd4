"""KFP step: trains the graph network on a dataset and scores every event of it."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def train_gnn(
    dataset_path: str,
    training_set: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    scores: dsl.Output[dsl.Dataset],
    settings: dict,  # type: ignore[type-arg]  # KFP knows no parametrised dict
) -> None:
    """Trains the graph network.

    Args:
        dataset_path: folder of the dataset's snapshot.
        training_set: parquet of `build_training_set`.
        model: the fraud-gnn bundle.
        scores: parquet with event_id, gnn_raw, gnn_log_odds and gnn_log_odds_no_graph of every scored event.
        settings: fields of `GnnSettings` that differ from its defaults.
    """
    from pathlib import Path

    import pandas as pd

    from components.train_gnn.settings import GnnSettings
    from components.train_gnn.step import train_and_write
    from feature_repo.datasets import Dataset

    frame = pd.read_parquet(training_set.path)
    choices = GnnSettings.model_validate(settings)
    bundle, scored = train_and_write(Dataset.open(Path(dataset_path)), frame, choices, Path(model.path))
    scored.to_parquet(scores.path, index=False)
    model.metadata.update({"sha12": bundle.sha12, **bundle.metadata})
