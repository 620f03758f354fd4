"""The settings of the process that writes the decision log."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from feature_repo.settings import RedisType


class DecisionLogSettings(BaseSettings):
    """Decision log settings, from environment variables that start with `FRAUD_DECISION_LOG_`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_DECISION_LOG_", frozen=True)

    redis_url: str = Field("redis://127.0.0.1:6379", description="Redis with the decision stream.")
    redis_type: RedisType = Field(
        "redis", description="redis, or redis_cluster where the address is a server of a Redis Cluster."
    )
    folder: Path = Field(description="Folder of the log: day=YYYY-MM-DD/*.parquet.")
    flush_s: float = Field(
        30.0, ge=0, description="Pause between two files while fewer decisions wait than fill one, seconds."
    )
    keep: int = Field(
        10_000, ge=0, description="About how many decisions the stream keeps once written, for its other readers."
    )
    metrics_port: int = Field(0, ge=0, le=65535, description="Port of the Prometheus metrics; 0 for none.")
