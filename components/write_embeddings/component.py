"""KFP step: writes the entity embeddings of graph networks, as of an instant, for Feast to materialise."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def write_embeddings(
    events_path: str,
    labels_path: str,
    as_of: str,
    bundles: list,  # type: ignore[type-arg]  # KFP knows no parametrised list
    features: dsl.Output[dsl.Dataset],
) -> None:
    """Writes the embeddings.

    Args:
        events_path: event log, a folder of day=*/*.parquet; a dataset's `events` folder will do.
        labels_path: label log, laid out alike; it may be empty or missing.
        as_of: ISO 8601 instant with its offset, for example 2026-02-17T00:00:00+00:00.
        bundles: folders of fraud-gnn bundles, one for each version that serves or is about to.
        features: folder of `embeddings/<version>/<kind>.parquet`, laid out as Feast's offline files are.
    """
    from datetime import datetime
    from pathlib import Path

    out = Path(features.path)
    out.mkdir(parents=True, exist_ok=True)
    for bundle in bundles:
        from components.write_embeddings.logic import write_embeddings as write  # loads torch

        at = datetime.fromisoformat(as_of)
        written = write(Path(bundle), Path(events_path), Path(labels_path), at, out)
        features.metadata[Path(bundle).name] = written
