"""The settings of the process that takes events."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.settings import RedisType
from feature_repo.streaming.dead_letters import MOST_LETTERS


class IngestionSettings(BaseSettings):
    """Ingestion settings, from environment variables that start with `FRAUD_INGESTION_`."""

    # A message about a setting would otherwise repeat what it was given: the key.
    model_config = SettingsConfigDict(env_prefix="FRAUD_INGESTION_", frozen=True, hide_input_in_errors=True)

    redis_url: str = Field("redis://127.0.0.1:6379", description="Redis that holds the streams, as the worker's.")
    redis_type: RedisType = Field(
        "redis", description="redis, or redis_cluster where the address is a server of a Redis Cluster."
    )
    key: SecretStr = Field(
        min_length=16, description="Secret text under which ids become pseudonyms; at least 16 characters."
    )
    key_id: int = Field(1, ge=1, le=255, description="Which key that is; part of every pseudonym.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(8080, ge=1, le=65535, description="Port to listen on.")
    token_file: Path | None = Field(
        None,
        description="File of bearer tokens, one a line, of which a producer must send one; read again when it changes. "
        "Unset: producers are not asked for any.",
    )
    most_events: int = Field(1000, ge=1, description="Most events that one request may hold.")
    most_bytes: int = Field(1 << 20, ge=1, description="Most bytes that one request may hold.")
    most_in_flight: int = Field(
        64, ge=1, description="Requests that may wait for Redis at a time; more are answered 503 at once."
    )
    redis_timeout_s: float = Field(2.0, gt=0, description="Longest wait for Redis before a request is answered 503.")
    most_dead_letters: int = Field(
        MOST_LETTERS,
        ge=1,
        description="Dead letters that may wait to be dealt with; while there are so many, a request that holds a bad "
        "event is answered 503.",
    )
    drain_s: float = Field(
        1.0,
        ge=0,
        description="After SIGTERM, how long it answers on while producers see it not ready, seconds.",
    )
    grace_s: int = Field(10, ge=1, description="After that, the longest that a request may take to end, seconds.")

    def pseudonymiser(self) -> Pseudonymiser:
        """What makes pseudonyms of ids."""
        return Pseudonymiser.of_secret(self.key.get_secret_value(), self.key_id)
