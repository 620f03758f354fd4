"""The graph of the materialisation; `python -m pipelines.materialization_pipeline FOLDER` runs it on one machine."""

import sys

from kfp import dsl

from components.materialize_features.component import materialize_features
from components.validate_features.component import validate_features
from components.write_embeddings.component import write_embeddings
from components.write_profiles.component import write_profiles
from pipelines import step_settings
from pipelines.local_pipeline import run_steps
from pipelines.step_settings import BUNDLES, FEATURES, LARGE, MINUTES, REDIS, SMALL, THREADS, StepSettings

_COMPUTES = "reads the event log and writes its own artifact; what it computes is as of the cutoff"

SETTINGS = {
    "write-profiles": StepSettings(
        LARGE, timeout_s=60 * MINUTES, retries=2, twice=_COMPUTES, volumes=(FEATURES,), variables=(THREADS,)
    ),
    "write-embeddings": StepSettings(
        LARGE, timeout_s=60 * MINUTES, retries=2, twice=_COMPUTES, volumes=(FEATURES, BUNDLES), variables=(THREADS,)
    ),
    "validate-features": StepSettings(
        SMALL,
        timeout_s=30 * MINUTES,
        retries=1,
        twice="only reads; once more, since bad features are as bad the third time",
        volumes=(FEATURES,),
    ),
    "materialize-features": StepSettings(
        SMALL,
        timeout_s=60 * MINUTES,
        retries=0,
        twice="one that another run took over from would take over from that in turn; the next run finishes it",
        volumes=(FEATURES,),
        variables=(REDIS,),
    ),
}


@dsl.pipeline(name="fraud-materialization", description="Event log to validated batch features in the online store.")
def materialization_pipeline(  # noqa: PLR0917 - KFP passes them by position
    events_path: str,
    labels_path: str,
    offline_path: str,
    registry_path: str,
    cutoff: str,
    gnn_bundles: list = [],  # type: ignore[type-arg]  # noqa: B006 - KFP reads the default, nothing mutates it
    volume_settings: dict = {},  # type: ignore[type-arg]  # noqa: B006
) -> None:
    """Computes the batch features, validates them, and brings the online store up to date.

    Args:
        events_path: event log, a folder of day=*/*.parquet.
        labels_path: label log, laid out alike; it may be empty.
        offline_path: root of Feast's offline files.
        registry_path: Feast's registry file.
        cutoff: ISO 8601 instant with its offset, for example 2026-02-17T00:00:00+00:00; rows published later stay out.
        gnn_bundles: folders of the fraud-gnn bundles that serve or are about to.
        volume_settings: fields of `VolumeSettings`.
    """
    profiles = write_profiles(events_path=events_path, labels_path=labels_path, cutoff=cutoff)
    embeddings = write_embeddings(events_path=events_path, labels_path=labels_path, as_of=cutoff, bundles=gnn_bundles)
    valid = validate_features(
        profiles=profiles.outputs["features"],
        embeddings=embeddings.outputs["features"],
        offline_path=offline_path,
        cutoff=cutoff,
        settings=volume_settings,
    )
    written = materialize_features(
        profiles=profiles.outputs["features"],
        embeddings=embeddings.outputs["features"],
        offline_path=offline_path,
        registry_path=registry_path,
        cutoff=cutoff,
    ).after(valid)
    step_settings.apply((profiles, embeddings, valid, written), SETTINGS)


if __name__ == "__main__":
    run_steps(materialization_pipeline, sys.argv[1:])
