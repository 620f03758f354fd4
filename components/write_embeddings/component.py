"""KFP step: writes the entity embeddings of a graph network, as of an instant, for Feast to materialise."""

from kfp import dsl


@dsl.component(base_image="fraud-pipelines:0.1.0", install_kfp_package=False)
def write_embeddings(events_path: str, offline_path: str, as_of: str, model: dsl.Input[dsl.Model]) -> dict:  # type: ignore[type-arg]
    """Writes the embeddings.

    Args:
        events_path: event log, a folder of day=*/*.parquet; a dataset's `events` folder will do.
        offline_path: root of Feast's offline files.
        as_of: ISO 8601 instant with its offset, for example 2026-02-17T00:00:00+00:00.
        model: a fraud-gnn bundle.

    Returns:
        How many entities of each kind were written.
    """
    from datetime import datetime
    from pathlib import Path

    from components.write_embeddings.logic import write_embeddings as write

    return write(Path(model.path), Path(events_path), datetime.fromisoformat(as_of), Path(offline_path))
