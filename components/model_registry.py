"""Registered versions: which ones an alias names, and where serving finds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.errors import RegistryError
from components.mlflow_client import MlflowException, mlflow_client
from components.register_model.logic import MODELS
from inference_services.bundle_address import MOUNT, folder_of
from inference_services.errors import BundleError

_UNKNOWN = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


class BundleSettings(BaseSettings):
    """Where this machine finds what a cluster published; from keywords, else from variables `FRAUD_BUNDLES_*`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_BUNDLES_", frozen=True)

    root: Path = Field(MOUNT, description="Where the claim of a pvc:// address is mounted.")


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


@dataclass(frozen=True, slots=True)
class ModelSet:
    """The versions of one alias, which serve together."""

    lightgbm: ModelVersion
    gnn: ModelVersion
    fusion: ModelVersion


def registered(tracking_uri: str, alias: str) -> ModelSet:
    """The three models of an alias.

    Raises:
        RegistryError: one has no such version.
    """
    return ModelSet(*(get(tracking_uri, name, alias) for name in MODELS))
