"""KFP step: refuses a dataset that should not be trained on."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def validate_events(
    dataset_path: str,
    settings: dict,  # type: ignore[type-arg]  # KFP knows no parametrised dict
    report: dsl.Output[dsl.Artifact],
) -> str:
    """Checks a dataset's bytes, schema, volumes and labels.

    Args:
        dataset_path: folder of the dataset's snapshot, beside those of earlier datasets.
        settings: fields of `VolumeSettings` that differ from its defaults.
        report: JSON of what was found.

    Returns:
        The dataset's SHA-256, recomputed from its files.
    """
    import json
    from pathlib import Path

    from components.validate_events.logic import check_dataset
    from components.volumes import VolumeSettings
    from feature_repo.datasets import Dataset

    found = check_dataset(Dataset.open(Path(dataset_path)), VolumeSettings.model_validate(settings))
    Path(report.path).write_text(json.dumps(found.as_dict(), indent=2) + "\n")
    return found.sha256
