"""The graph of the materialisation; `python -m pipelines.materialization_pipeline FOLDER` runs it on one machine."""

import sys

from kfp import dsl, kubernetes

from components.materialize_features.component import materialize_features
from components.validate_features.component import validate_features
from components.write_embeddings.component import write_embeddings
from components.write_profiles.component import write_profiles
from pipelines.local_pipeline import run_steps

# Where a cluster keeps the event log, Feast's files and the bundles; the local runner reads the folders themselves.
_FEATURES = ("fraud-features", "/mnt/features")
_BUNDLES = ("fraud-bundles", "/mnt/bundles")
# The address of Redis, with its credentials: an argument would be shown to everybody who may see the run.
_REDIS = ("fraud-redis", {"url": "FRAUD_FEATURES_REDIS_URL", "type": "FRAUD_FEATURES_REDIS_TYPE"})


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
    ).after(valid)  # and no retries: one that another run took over from would take over from that in turn
    for task in (profiles, embeddings, valid, written):
        # They read or write outside of the pipeline's own artifacts: a cached answer would be stale.
        task.set_caching_options(enable_caching=False)
        kubernetes.mount_pvc(task, *_FEATURES)
    for task in (profiles, embeddings):
        task.set_cpu_limit("2").set_memory_limit("4Gi")
    kubernetes.mount_pvc(embeddings, *_BUNDLES)
    kubernetes.use_secret_as_env(written, *_REDIS)


if __name__ == "__main__":
    run_steps(materialization_pipeline, sys.argv[1:])
