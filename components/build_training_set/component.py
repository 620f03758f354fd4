"""KFP step: joins features, labels and splits into one training set."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def build_training_set(
    dataset_path: str,
    dataset_sha256: str,
    policy: str,
    settings: dict,  # type: ignore[type-arg]  # KFP knows no parametrised dict
    training_set: dsl.Output[dsl.Dataset],
) -> None:
    """Builds the training set.

    Args:
        dataset_path: folder of the dataset's snapshot.
        dataset_sha256: what `validate_events` found there.
        policy: text of threshold_settings.yaml; its label_maturation_days is used.
        settings: fields of `SplitSettings` that differ from its defaults.
        training_set: parquet, one row per scored event.
    """
    import tempfile
    from pathlib import Path

    import yaml

    from components.build_training_set.logic import SplitSettings, build
    from components.build_training_set.schema import check_training_set
    from feature_repo.datasets import Dataset
    from inference_services.policy_settings import ThresholdSettings

    maturation_days = ThresholdSettings.model_validate(yaml.safe_load(policy)).label_maturation_days
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Dataset.open(Path(dataset_path))
        frame = build(dataset, Path(scratch), maturation_days, SplitSettings.model_validate(settings))
    check_training_set(frame)
    frame.to_parquet(training_set.path, index=False)
    training_set.metadata["dataset_sha256"] = dataset_sha256
    training_set.metadata.update({f"{split}_rows": int(n) for split, n in frame["split"].value_counts().items()})
