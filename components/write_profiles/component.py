"""KFP step: computes the batch features of every entity and city, as far as they are published at a cutoff."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def write_profiles(events_path: str, labels_path: str, cutoff: str, features: dsl.Output[dsl.Dataset]) -> None:
    """Computes the profiles and the city norms.

    Args:
        events_path: event log, a folder of day=*/*.parquet.
        labels_path: label log, laid out alike; it may be empty or missing.
        cutoff: ISO 8601 instant with its offset, for example 2026-02-17T00:00:00+00:00.
        features: folder of `<view>.parquet`, laid out as Feast's offline files are.
    """
    from datetime import datetime
    from pathlib import Path

    from components.write_profiles.logic import write_profiles as write

    at = datetime.fromisoformat(cutoff)
    features.metadata["events"] = write(Path(events_path), Path(labels_path), at, Path(features.path))
