"""The settings of the drift detector and of the bridge that feeds it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from feature_repo.settings import RedisType


class DriftSettings(BaseSettings):
    """Drift detector settings, from environment variables that start with `FRAUD_DRIFT_`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_DRIFT_", frozen=True)

    window: int = Field(500, ge=50, le=100_000, description="Rows that are judged together.")
    q_value: float = Field(0.01, gt=0, lt=1, description="False discovery rate at which a window counts as drifted.")
    least_distance: float = Field(0.1, ge=0, le=1, description="Smallest Kolmogorov-Smirnov distance that matters.")


class BridgeSettings(BaseSettings):
    """Bridge settings, from environment variables that start with `FRAUD_DRIFT_BRIDGE_`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_DRIFT_BRIDGE_", frozen=True)

    redis_url: str = Field("redis://127.0.0.1:6379", description="Redis with the decision stream.")
    redis_type: RedisType = Field(
        "redis", description="redis, or redis_cluster where the address is a server of a Redis Cluster."
    )
    target_url: str = Field("http://127.0.0.1:8080", description="Base address of the drift detector.")
    token_file: Path | None = Field(
        None, description="File whose first line is the bearer token for the drift detector. Unset: none is sent."
    )
    batch: int = Field(100, ge=1, le=1024, description="Most decisions in one CloudEvent.")
    attempts: int = Field(5, ge=1, description="Tries before a batch is given up.")
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of the Prometheus metrics; 0 for none.")
