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
        training_set: parquet, one row per scored event; its metadata has the rows by split and the windows by type.
    """
    import tempfile
    from pathlib import Path

    import pandas as pd
    import yaml

    from components.build_training_set.logic import SplitSettings, build
    from components.build_training_set.maturation import maturation_windows, resolve_labels
    from components.build_training_set.schema import check_training_set
    from feature_repo.datasets import Dataset
    from inference_services.policy_settings import ThresholdSettings

    days_by_typology = ThresholdSettings.model_validate(yaml.safe_load(policy)).label_maturation_days
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Dataset.open(Path(dataset_path))
        frame = build(dataset, Path(scratch), days_by_typology, SplitSettings.model_validate(settings))
    check_training_set(frame)
    frame.to_parquet(training_set.path, index=False)
    training_set.metadata["dataset_sha256"] = dataset_sha256
    verdicts = resolve_labels(dataset.label_frame(), pd.Timestamp(dataset.cutoff, tz="UTC"))
    training_set.metadata["maturation_days"] = maturation_windows(frame, verdicts, days_by_typology)
    training_set.metadata.update({f"{split}_rows": int(n) for split, n in frame["split"].value_counts().items()})
