"""Where the feature store is: one settings class for the command line, the pipelines and the worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

FEAST_PROJECT = "fraud"
# Thirty-day windows, and the days an entity may idle before its state is worth nothing.
KEY_TTL_SECONDS = 35 * 86_400
EMBEDDING_DIM = 16
# As Feast names them.
RedisType = Literal["redis", "redis_cluster"]


class FeatureSettings(BaseSettings):
    """Feature store settings, from environment variables that start with `FRAUD_FEATURES_`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_FEATURES_", frozen=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379",
        description="Redis that holds the online store and the streams: redis:// or rediss://, with user and password "
        "where it wants them, and redis-py's TLS options as parameters (?ssl_ca_certs=/etc/redis/ca.crt).",
    )
    redis_type: RedisType = Field(
        "redis", description="redis, or redis_cluster where the online store's address is a server of a Redis Cluster."
    )
    registry: Path = Field(Path(".local/demo/registry.db"), description="Feast registry file.")
    offline: Path = Field(Path(".local/demo/offline"), description="Folder of the parquet files that Feast reads.")
    feast_settings: Path | None = Field(
        None,
        description="A feature_store.yaml to materialise under in place of these settings, such as "
        "feature_repo/feature_store.production.yaml; the address and type of Redis are needed here all the same.",
    )
    object_storage: str = Field(
        "",
        description="Address of the folder that Spark reads in place of `offline` (docs/scale.md), for example "
        "s3a://bucket/offline; empty without Spark.",
    )

    def repo_config(self) -> Any:
        """The same configuration that `feature_store.yaml` gives the `feast` command."""
        from feast import RepoConfig  # noqa: PLC0415 - the transformer's image has no Feast
        from redis.asyncio.connection import parse_url  # noqa: PLC0415

        given: dict[str, Any] = dict(parse_url(self.redis_url))
        address = f"{given.pop('host', 'localhost')}:{given.pop('port', 6379)}"
        if given.pop("connection_class", None) is not None:
            given["ssl"] = True
        options = [f"{name}={_quoted(value)}" for name, value in given.items()]
        return RepoConfig(
            project=FEAST_PROJECT,
            provider="local",
            registry=str(self.registry),
            offline_store={"type": "feature_repo.asof_store.AsofOfflineStore"},
            online_store={
                "type": "redis",
                "redis_type": self.redis_type,
                "connection_string": ",".join([address, *options]),
                "key_ttl_seconds": KEY_TTL_SECONDS,
            },
            entity_key_serialization_version=3,
        )

    def store_config(self) -> Any:
        """What materialisation runs under: `feast_settings` where they are given, else `repo_config`."""
        if self.feast_settings is None:
            return self.repo_config()
        from feast.repo_config import load_repo_config  # noqa: PLC0415 - the transformer's image has no Feast

        return load_repo_config(self.feast_settings.parent, self.feast_settings)


def _quoted(value: str | float | bool) -> str:
    """The value as Feast reads it back: it splits its connection string at commas and parses each value as JSON."""
    return json.dumps(value).replace(",", "\\u002c")
