"""KFP step: publishes batch features and brings the online store up to date with them."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def materialize_features(
    *,
    profiles: dsl.Input[dsl.Dataset],
    embeddings: dsl.Input[dsl.Dataset],
    offline_path: str,
    registry_path: str,
    cutoff: str,
    report: dsl.Output[dsl.Artifact],
) -> None:
    """Publishes the files and writes what is new or changed into the online store: FRAUD_FEATURES_REDIS_URL and _TYPE.

    Args:
        profiles: folder of `write_profiles`, validated.
        embeddings: folder of `write_embeddings`, validated.
        offline_path: root of Feast's offline files.
        registry_path: Feast's registry file.
        cutoff: ISO 8601 instant with its offset; rows published later stay out.
        report: JSON, for each view the rows written, why, and when its newest row became usable.
    """
    import json
    from datetime import datetime
    from pathlib import Path

    from components.materialize_features.logic import publish_and_materialize
    from feature_repo.settings import FeatureSettings

    settings = FeatureSettings(offline=Path(offline_path), registry=Path(registry_path))
    staged = [Path(profiles.path), Path(embeddings.path)]
    runs = publish_and_materialize(staged, settings, datetime.fromisoformat(cutoff))
    Path(report.path).write_text(json.dumps(runs, indent=2) + "\n")
