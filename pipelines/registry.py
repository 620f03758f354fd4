"""The model registry: which version is the champion, and where serving finds it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from components.errors import MlflowUnreachable
from components.mlflow_client import MlflowException, mlflow_client
from components.register_model.logic import MODELS
from inference_services.bundle_address import folder_of
from inference_services.errors import BundleError
from pipelines.errors import RegistryError
from pipelines.settings import BundleSettings

_LOG = logging.getLogger(__name__)
_UNKNOWN = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version.

    Attributes:
        name: registered model name, for example fraud-lightgbm.
        version: number in the registry.
        sha12: content id of the bundle.
        storage_uri: where KServe finds it, file:// or pvc://.
        aliases: for example ("champion",).
    """

    name: str
    version: int
    sha12: str
    storage_uri: str
    aliases: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where the bundle lies on this machine.

        Raises:
            RegistryError: it lies elsewhere.
        """
        return bundle_folder(f"{self.name} {self.version}", self.storage_uri)


def bundle_folder(what: str, storage_uri: str, root: Path | None = None) -> Path:
    """The folder that a storage address names.

    Args:
        what: whose it is, for the message.
        storage_uri: file:// or pvc://.
        root: where a claim is mounted; None: `BundleSettings.root`.

    Raises:
        RegistryError: it is not one of this machine's.
    """
    try:
        return folder_of(storage_uri, root or BundleSettings().root)
    except BundleError as error:
        raise RegistryError(f"{what} cannot be read from a folder: {error}") from None


def get(tracking_uri: str, name: str, alias: str) -> ModelVersion:
    """The version of a model that an alias names.

    Raises:
        RegistryError: no version has the alias, or it was not published.
        MlflowUnreachable: the server is away.
    """
    client = mlflow_client(tracking_uri)
    try:
        found = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in _UNKNOWN:
            raise
        raise RegistryError(f"no {alias} registered: run `fraud train --alias {alias}`") from None
    tags: dict[str, str] = found.tags
    version = ModelVersion(name, int(found.version), tags.get("sha12", ""), tags.get("storage_uri", ""), (alias,))
    if not version.storage_uri:
        raise RegistryError(f"{name} {version.version} was never published: run `fraud train --alias {alias}` again")
    return version


def champion_folders(tracking_uri: str, memory: Path, alias: str) -> dict[str, str]:
    """The champion's bundle folders by model, empty texts where there is no champion yet.

    They are noted in a file each time, so that a challenger can be trained and held to the champion while MLflow is
    away.

    Args:
        tracking_uri: MLflow server.
        memory: the file.
        alias: of what is being trained: a challenger needs a champion.

    Raises:
        RegistryError: there is no champion to challenge, or none is known while MLflow is away.
    """
    try:
        found = {name: str(get(tracking_uri, name, "champion").folder) for name in MODELS}
    except RegistryError:
        if alias != "champion":
            raise
        return dict.fromkeys(MODELS, "")
    except MlflowUnreachable as error:
        return _remembered(memory, alias, error)
    pending = memory.with_suffix(".pending")
    pending.write_text(json.dumps(found, indent=2) + "\n")
    pending.rename(memory)
    return found


def _remembered(memory: Path, alias: str, error: MlflowUnreachable) -> dict[str, str]:
    if memory.exists():
        found: dict[str, str] = json.loads(memory.read_text())
        _LOG.warning("held to the champion that was last seen, %s", Path(found[MODELS[0]]).name)
        return found
    if alias != "champion":
        raise RegistryError(f"{error} No champion was ever seen from here, so there is none to challenge") from None
    _LOG.warning("no champion is known while MLflow is away: the gate compares with none")
    return dict.fromkeys(MODELS, "")
