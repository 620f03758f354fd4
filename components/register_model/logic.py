"""From a bundle in a pipeline's scratch space to a registered version that a predictor can fetch."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from inference_services import model_names
from inference_services.bundle import MANIFEST, REGISTRATION, Bundle, verify

MODELS = model_names.MODELS


def register_all(
    client: MlflowClient,
    run_id: str,
    folders: Mapping[str, Path],
    *,
    bundle_root: Path,
    dataset_version: str,
    alias: str,
) -> dict[str, int]:
    """Registers one bundle of each model, then moves the alias of all of them.

    Args:
        client: MLflow.
        run_id: the run that the versions belong to.
        folders: bundle folder by model name.
        bundle_root: where serving fetches bundles from.
        dataset_version: short name of the dataset.
        alias: "champion" or "challenger".

    Returns:
        Version by model name.

    Raises:
        BundleError: a bundle is not what its manifest says.
    """
    versions = {
        model: register(client, run_id, verify(folder, model), bundle_root, dataset_version)
        for model, folder in folders.items()
    }
    # Last, so that an alias never points at a version that cannot be fetched.
    for model, version in versions.items():
        client.set_registered_model_alias(model, alias, str(version))
    return versions


def register(client: MlflowClient, run_id: str, bundle: Bundle, bundle_root: Path, dataset_version: str) -> int:
    """Registers a bundle and publishes it; returns the version, the known one when its content is registered."""
    known = find_version(client, bundle)
    if known is None:
        client.log_artifacts(run_id, str(bundle.folder), bundle.model)
        known = _new_version(client, run_id, bundle, dataset_version)
    target = publish(bundle, bundle_root, known)
    client.set_model_version_tag(bundle.model, str(known), "storage_uri", target.absolute().as_uri())
    return known


def find_version(client: MlflowClient, bundle: Bundle) -> int | None:
    """The version that has the bundle's content, None when there is none."""
    found = client.search_model_versions(f"name = '{bundle.model}'")
    return next((int(v.version) for v in found if v.tags.get("sha256") == bundle.sha256), None)


def publish(bundle: Bundle, bundle_root: Path, version: int) -> Path:
    """Copies a bundle to `<root>/<model>/<version>-<sha12>/`, complete or not at all; that folder never changes."""
    target = bundle_root / bundle.model / f"{version}-{bundle.sha12}"
    if target.exists():
        verify(target, bundle.model)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pending-") as scratch:
        pending = Path(scratch) / target.name
        names = [*json.loads((bundle.folder / MANIFEST).read_text())["files"], MANIFEST]
        for name in names:
            (pending / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / name, pending / name)
        (pending / REGISTRATION).write_text(json.dumps({"version": version}) + "\n")
        verify(pending, bundle.model)
        pending.rename(target)
    return target


def _new_version(client: MlflowClient, run_id: str, bundle: Bundle, dataset_version: str) -> int:
    try:
        client.create_registered_model(bundle.model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags: dict[str, Any] = {"sha12": bundle.sha12, "sha256": bundle.sha256, "dataset_version": dataset_version}
    if service := bundle.metadata.get("feature_service"):
        tags["feature_service"] = service
    source = f"{client.get_run(run_id).info.artifact_uri}/{bundle.model}"
    return int(client.create_model_version(bundle.model, source, run_id, tags).version)
