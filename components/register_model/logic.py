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
from pydantic import BaseModel, ConfigDict, Field

from components.register_model.card import CARD_FILE, model_card, shortened
from components.register_model.lineage import COMMIT_TAG, lineage_tags
from inference_services import model_names
from inference_services.bundle import MANIFEST, REGISTRATION, Bundle, verify
from inference_services.bundle_address import address_of

MODELS = model_names.MODELS


class Registration(BaseModel):
    """What is asked of the registry for three bundles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alias: str = Field(min_length=1, description="Alias that the versions get: champion or challenger.")
    bundle_root: Path = Field(description="Where bundles are published for serving.")
    bundle_claim: str = Field("", description="Claim whose root that is; empty: a folder of this machine.")
    dataset_sha256: str = Field(min_length=12, description="What they were trained on.")
    pipeline_run: str = Field("", description="Kubeflow's id of the run.")

    def values(self) -> dict[str, str | float]:
        """The fields as a record of the outbox holds them."""
        return dict(self.model_dump(mode="json"))


def register_all(
    client: MlflowClient,
    run_id: str,
    folders: Mapping[str, Path],
    request: Registration,
    *,
    evaluation: Path | None = None,
) -> dict[str, int]:
    """Registers one bundle of each model, then moves the alias of all of them.

    Done twice, the registry is as after the first time. An alias that a later run has taken since stays there: a run
    that waited for the server does not push a newer one aside.

    Args:
        client: MLflow.
        run_id: the run that the versions belong to.
        folders: bundle folder by model name.
        request: what to register them as.
        evaluation: JSON of the step `evaluate`, for the model cards; None or a missing file where there is none.

    Returns:
        Version by model name.

    Raises:
        BundleError: a bundle is not what its manifest says; nothing has been registered.
    """
    bundles = {model: verify(folder, model) for model, folder in folders.items()}
    measured = json.loads(evaluation.read_text("utf-8")) if evaluation is not None and evaluation.exists() else {}
    versions = {
        model: register(client, run_id, bundle, request, evaluation=measured) for model, bundle in bundles.items()
    }
    if not any(_later_run_has(client, model, request.alias, run_id) for model in versions):
        # Last, so that an alias never points at a version that cannot be fetched.
        for model, version in versions.items():
            client.set_registered_model_alias(model, request.alias, str(version))
    return versions


def register(
    client: MlflowClient, run_id: str, bundle: Bundle, request: Registration, *, evaluation: Mapping[str, Any]
) -> int:
    """Registers a bundle and publishes it; returns the version, the known one when its content is registered."""
    version = find_version(client, bundle)
    if version is None:
        commit = client.get_run(run_id).data.tags.get(COMMIT_TAG, "")
        tags = lineage_tags(
            bundle, request.dataset_sha256, commit=commit, run_id=run_id, pipeline_run=request.pipeline_run
        )
        client.log_artifacts(run_id, str(bundle.folder), bundle.model)
        version = _new_version(client, run_id, bundle, tags)
    _describe(client, bundle, version, evaluation)
    target = publish(bundle, request.bundle_root, version)
    address = address_of(target, request.bundle_root, request.bundle_claim)
    client.set_model_version_tag(bundle.model, str(version), "storage_uri", address)
    return version


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


def _new_version(client: MlflowClient, run_id: str, bundle: Bundle, tags: Mapping[str, str]) -> int:
    try:
        client.create_registered_model(bundle.model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{bundle.model}"
    return int(client.create_model_version(bundle.model, source, run_id, dict(tags)).version)


def _describe(client: MlflowClient, bundle: Bundle, version: int, evaluation: Mapping[str, Any]) -> None:
    """Gives a version its card: whole among the artifacts of the run that registered it, and as its description."""
    registered = client.get_model_version(bundle.model, str(version))
    if registered.description:
        return
    card = model_card(bundle, version, registered.tags, evaluation)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / CARD_FILE
        path.write_text(card, "utf-8")
        client.log_artifact(registered.run_id, str(path), f"cards/{bundle.model}")
    # Last: a version with a description has its artifact too.
    client.update_model_version(bundle.model, str(version), shortened(card, f"cards/{bundle.model}/{CARD_FILE}"))


def _later_run_has(client: MlflowClient, model: str, alias: str, run_id: str) -> bool:
    version = client.get_registered_model(model).aliases.get(alias)
    if version is None:
        return False
    holder = client.get_model_version(model, str(version)).run_id
    if not holder or holder == run_id:
        return False
    try:
        started = client.get_run(holder).info.start_time
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False  # an old run, cleared away
    return bool(started > client.get_run(run_id).info.start_time)
