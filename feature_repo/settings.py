"""Where the feature store is: one settings class for the command line, the pipelines and the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

FEAST_PROJECT = "fraud"
# Thirty-day windows, and the days an entity may idle before its state is worth nothing.
KEY_TTL_SECONDS = 35 * 86_400
EMBEDDING_DIM = 16


class FeatureSettings(BaseSettings):
    """Feature store settings, from environment variables that start with `FRAUD_FEATURES_`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_FEATURES_", frozen=True)

    redis_url: str = Field("redis://127.0.0.1:6379", description="Redis that holds the online store and the streams.")
    registry: Path = Field(Path(".local/demo/registry.db"), description="Feast registry file.")
    offline: Path = Field(Path(".local/demo/offline"), description="Folder of the parquet files that Feast reads.")

    def repo_config(self) -> Any:
        """The same configuration that `feature_store.yaml` gives the `feast` command."""
        from feast import RepoConfig  # noqa: PLC0415 - the transformer's image has no Feast

        address = urlsplit(self.redis_url)
        options = [f"{address.hostname}:{address.port or 6379}"]
        options += [f"db={address.path.strip('/')}"] if address.path.strip("/") else []
        options += [f"username={unquote(address.username)}"] if address.username else []
        options += [f"password={unquote(address.password)}"] if address.password else []
        options += ["ssl=true"] if address.scheme == "rediss" else []
        return RepoConfig(
            project=FEAST_PROJECT,
            provider="local",
            registry=str(self.registry),
            offline_store={"type": "feature_repo.asof_store.AsofOfflineStore"},
            online_store={
                "type": "redis",
                "connection_string": ",".join(options),
                "key_ttl_seconds": KEY_TTL_SECONDS,
            },
            entity_key_serialization_version=3,
        )
