"""KFP step: refuses batch features that must not reach the online store."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def validate_features(
    *,
    profiles: dsl.Input[dsl.Dataset],
    embeddings: dsl.Input[dsl.Dataset],
    offline_path: str,
    cutoff: str,
    settings: dict,  # type: ignore[type-arg]  # KFP knows no parametrised dict
    report: dsl.Output[dsl.Artifact],
) -> None:
    """Checks the columns, ranges, nulls and volumes of every batch view.

    Args:
        profiles: folder of `write_profiles`.
        embeddings: folder of `write_embeddings`.
        offline_path: root of Feast's offline files, which hold what the previous run published.
        cutoff: ISO 8601 instant with its offset; no row may be published later.
        settings: fields of `VolumeSettings` that differ from its defaults.
        report: JSON of what was found.
    """
    import json
    from datetime import datetime
    from pathlib import Path

    from components.validate_features.logic import check_features
    from components.volumes import VolumeSettings

    found = check_features(
        Path(profiles.path),
        Path(embeddings.path),
        Path(offline_path),
        datetime.fromisoformat(cutoff),
        VolumeSettings.model_validate(settings),
    )
    Path(report.path).write_text(json.dumps(found, indent=2) + "\n")
