"""The model registry: which version is the champion, and where serving finds it."""

from __future__ import annotations

from dataclasses import dataclass

from components.mlflow_client import mlflow_client
from components.register_model.logic import MODELS
from pipelines.errors import RegistryError
from pipelines.tracking import MlflowException


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version.

    Attributes:
        name: registered model name, for example fraud-lightgbm.
        version: number in the registry.
        sha12: content id of the bundle.
        storage_uri: where KServe fetches it, file://...
        aliases: for example ("champion",).
    """

    name: str
    version: int
    sha12: str
    storage_uri: str
    aliases: tuple[str, ...]


def list_versions(tracking_uri: str, name: str | None = None) -> list[ModelVersion]:
    """All versions of one model, or of all, in order of model and version."""
    client = mlflow_client(tracking_uri)
    chosen = MODELS if name is None else (name,)
    found = []
    for model in chosen:
        aliases: dict[int, list[str]] = {}
        try:
            for alias, version in client.get_registered_model(model).aliases.items():
                aliases.setdefault(int(version), []).append(alias)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue
        versions = client.search_model_versions(f"name = '{model}'")
        found += [_version(v, tuple(sorted(aliases.get(int(v.version), ())))) for v in versions]
    return sorted(found, key=lambda v: (MODELS.index(v.name) if v.name in MODELS else -1, v.version))


def get(tracking_uri: str, name: str, alias: str) -> ModelVersion:
    """The version of a model that an alias names.

    Raises:
        RegistryError: no version has the alias, or it was not published.
    """
    client = mlflow_client(tracking_uri)
    try:
        found = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        raise RegistryError(f"no {alias} registered: run `fraud train --alias {alias}`") from None
    version = _version(found, (alias,))
    if not version.storage_uri:
        raise RegistryError(f"{name} {version.version} was never published: run `fraud train --alias {alias}` again")
    return version


def promote(tracking_uri: str) -> list[ModelVersion]:
    """Makes the challenger of every model the champion; there is no challenger afterwards.

    Raises:
        RegistryError: a model has no challenger.
    """
    challengers = [get(tracking_uri, name, "challenger") for name in MODELS]
    client = mlflow_client(tracking_uri)
    for version in challengers:
        client.set_registered_model_alias(version.name, "champion", str(version.version))
    for version in challengers:
        client.delete_registered_model_alias(version.name, "challenger")
    return [get(tracking_uri, name, "champion") for name in MODELS]


def _version(found: object, aliases: tuple[str, ...]) -> ModelVersion:
    tags: dict[str, str] = getattr(found, "tags", {})
    name, number = getattr(found, "name", ""), int(getattr(found, "version", 0))
    return ModelVersion(name, number, tags.get("sha12", ""), tags.get("storage_uri", ""), aliases)
