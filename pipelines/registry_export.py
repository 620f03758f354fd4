"""The whole registry as one document: what `fraud models export` writes and the other commands read.

The same registry gives the same bytes: nothing in it is of the moment at which it was read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from components.mlflow_client import MlflowClient, MlflowException, mlflow_client
from components.register_model.card import PAIR
from components.register_model.logic import MODELS

EXPORT_FILE = "fraud_model_versions.json"


class Lineage(BaseModel):
    """Where a version comes from; empty where it is not known or not the model's."""

    model_config = ConfigDict(frozen=True)

    dataset_sha256: str = Field("", description="Content hash of the dataset that it was trained on.")
    dataset_version: str = Field("", description="The first 12 digits of it.")
    git_commit: str = Field("", description="Commit of the code that trained it.")
    mlflow_run: str = Field("", description="MLflow's run that registered it.")
    pipeline_run: str = Field("", description="Kubeflow's run; the local runner's own id where there was no Kubeflow.")
    feature_service: str = Field("", description="Feast service that gives its features.")
    features_version: str = Field("", description="Version of the ordered feature list (fraud-lightgbm).")
    policy_sha256: str = Field("", description="Hash of the cost policy that its thresholds are for (fraud-fusion).")
    lightgbm: str = Field("", description="Content id of the LightGBM version that it was made for (fraud-fusion).")
    gnn: str = Field("", description="Content id of the graph model that it was made for (fraud-fusion).")


class Version(BaseModel):
    """A registered version."""

    model_config = ConfigDict(frozen=True)

    model: str = Field(description="Registered model.")
    version: int = Field(description="Number in the registry.")
    aliases: tuple[str, ...] = Field(description="champion, challenger; sorted.")
    sha256: str = Field(description="Content id of the bundle.")
    sha12: str = Field(description="The first 12 digits of it, by which decisions and fusion bundles name it.")
    created: str = Field(description="When it was registered, ISO 8601, UTC.")
    storage_uri: str = Field(description="Where KServe fetches the bundle; empty when it was never published.")
    lineage: Lineage = Field(description="Where it comes from.")
    metrics: dict[str, float | None] = Field(
        description="What its run measured of it on that run's test days, by dotted name; null where not a number."
    )

    @property
    def average_precision(self) -> float | None:
        """The key metric; None where it was not measured."""
        return self.metrics.get("average_precision")


class RegisteredModel(BaseModel):
    """A registered model."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="fraud-lightgbm, fraud-gnn or fraud-fusion.")
    aliases: dict[str, int] = Field(description="Version by alias.")
    versions: tuple[Version, ...] = Field(description="In order.")


class Registry(BaseModel):
    """All of it."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = Field(1, description="Goes up when a field changes its meaning or goes.")
    models: tuple[RegisteredModel, ...] = Field(description="In the order LightGBM, GNN, fusion; those that there are.")

    def versions(self) -> list[Version]:
        """Every version of every model, in order."""
        return [version for model in self.models for version in model.versions]

    def model(self, name: str) -> RegisteredModel | None:
        """The model of that name, None when it is not registered."""
        return next((model for model in self.models if model.name == name), None)


def read_registry(tracking_uri: str) -> Registry:
    """Reads the three models from MLflow.

    Raises:
        MlflowUnreachable: the server is away.
    """
    client = mlflow_client(tracking_uri)
    measured: dict[str, dict[str, float]] = {}
    models = []
    for name in MODELS:
        try:
            aliases = {alias: int(v) for alias, v in client.get_registered_model(name).aliases.items()}
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue
        found = client.search_model_versions(f"name = '{name}'")
        versions = [_version(client, v, aliases, measured) for v in sorted(found, key=lambda v: int(v.version))]
        models.append(RegisteredModel(name=name, aliases=dict(sorted(aliases.items())), versions=tuple(versions)))
    return Registry(models=tuple(models))


def write_export(registry: Registry, path: Path) -> None:
    """Writes the document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(f".{path.name}.pending")
    pending.write_text(registry.model_dump_json(indent=2) + "\n", "utf-8")
    pending.rename(path)


def _version(
    client: MlflowClient, found: Any, aliases: dict[str, int], measured: dict[str, dict[str, float]]
) -> Version:
    tags: dict[str, str] = found.tags
    number = int(found.version)
    if found.run_id not in measured:
        measured[found.run_id] = _run_metrics(client, found.run_id)
    return Version(
        model=found.name,
        version=number,
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == number)),
        sha256=tags.get("sha256", ""),
        sha12=tags.get("sha12", ""),
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(timespec="milliseconds"),
        storage_uri=tags.get("storage_uri", ""),
        lineage=Lineage.model_validate(tags),
        metrics=_own(measured[found.run_id], PAIR[found.name]),
    )


def _run_metrics(client: MlflowClient, run_id: str | None) -> dict[str, float]:
    if not run_id:
        return {}
    try:
        return dict(client.get_run(run_id).data.metrics)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}  # an old run, cleared away


def _own(metrics: dict[str, float], pair: str) -> dict[str, float | None]:
    """The measures of one pair, without its name, and those of the test days that have no pair."""
    prefix = f"pairs.{pair}."
    own = {name.removeprefix(prefix): v for name, v in metrics.items() if name.startswith(prefix)}
    days = {name: v for name, v in metrics.items() if "." not in name}
    return dict(sorted((days | own).items()))
