"""What a run of a pipeline needs to be told."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import AwareDatetime, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.build_training_set.logic import SplitSettings
from components.gate.logic import GateSettings
from components.train_gnn.settings import GnnSettings
from components.train_lightgbm.settings import LightGbmSettings
from components.volumes import VolumeSettings
from feature_repo.settings import FeatureSettings
from inference_services.bundle_address import MOUNT

Alias = Literal["champion", "challenger"]


class TrainingRun(BaseSettings):
    """One run of the training pipeline; from keywords, else from variables `FRAUD_TRAINING_*`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_TRAINING_", env_nested_delimiter="__", frozen=True)

    dataset: Path = Field(description="Folder of the dataset's snapshot.")
    work: Path = Field(description="Where the runner keeps the steps' outputs and logs.")
    tracking_uri: str = Field(description="MLflow server, http or https.")
    bundle_root: Path = Field(description="Where bundles are published for serving.")
    policy: Path = Field(description="threshold_settings.yaml.")
    alias: Alias = Field(description="Alias that the registered versions get.")
    team: str = Field("fraud", min_length=1, description="Tag of the MLflow run: who answers for it.")
    purpose: str = Field("training", min_length=1, description="Tag of the MLflow run: why it was made.")
    splits: SplitSettings = Field(default_factory=SplitSettings, description="Division of the days.")
    lightgbm: LightGbmSettings = Field(default_factory=LightGbmSettings, description="Choices of LightGBM's training.")
    gnn: GnnSettings = Field(default_factory=GnnSettings, description="Choices of the graph network's training.")
    gate: GateSettings = Field(default_factory=GateSettings, description="The gate's bounds.")
    volumes: VolumeSettings = Field(
        default_factory=VolumeSettings, description="How far the events may be from those of the dataset before."
    )


class MaterializationRun(BaseSettings):
    """One run of the materialisation pipeline; from keywords, else from variables `FRAUD_MATERIALIZATION_*`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_MATERIALIZATION_", env_nested_delimiter="__", frozen=True)

    events: Path = Field(description="Event log, a folder of day=*/*.parquet.")
    labels: Path = Field(description="Label log, laid out alike; what was observed after the cutoff stays out.")
    features: FeatureSettings = Field(description="Feast's registry, its offline files, and Redis.")
    work: Path = Field(description="Where the runner keeps the run's log.")
    cutoff: AwareDatetime = Field(description="Rows published later stay out.")
    gnn_bundles: tuple[Path, ...] = Field((), description="Folders of the graph models that serve or are about to.")
    volumes: VolumeSettings = Field(
        default_factory=VolumeSettings, description="How far the rows may be from those of the previous run."
    )


class KfpSettings(BaseSettings):
    """A Kubeflow Pipelines server and what its pods see; from keywords, else from variables `FRAUD_KFP_*`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_KFP_", frozen=True)

    token: SecretStr | None = Field(None, description="Bearer token.")
    token_file: Path | None = Field(None, description="File of the token, read again for each request; goes first.")
    ca_file: Path | None = Field(None, description="Certificates that sign the server's, where no public one does.")
    namespace: str = Field("", description="Namespace of runs where KFP serves several; empty on a single-user KFP.")
    service_account: str = Field("", description="Service account of the steps' pods; empty: KFP's own.")
    ui_host: str = Field("", description="Address of KFP's pages, where it differs from the API's.")
    tracking_uri: str = Field("", description="MLflow as the pods see it; empty: MLFLOW_TRACKING_URI.")
    datasets: PurePosixPath = Field(PurePosixPath("/mnt/datasets"), description="Datasets as the pods see them.")
    bundle_root: PurePosixPath = Field(
        PurePosixPath(MOUNT), description="Root of the claim fraud-bundles as the pods see it."
    )
    connect_timeout_s: float = Field(5, gt=0, description="How long a connection may take.")
    read_timeout_s: float = Field(30, gt=0, description="How long an answer may take.")
    poll_s: float = Field(5, gt=0, description="Time between two looks at the run.")
    patience_s: float = Field(120, ge=0, description="How long the server may be away while the run is watched.")
    wait_s: float = Field(6 * 3600, gt=0, description="How long the run is watched; then it goes on unwatched.")
