"""The transformer's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from feature_repo.settings import RedisType
from inference_services.bundle_address import MOUNT, folder_of
from inference_services.errors import BadSettings, BundleError


class TransformerSettings(BaseSettings):
    """Transformer settings, from environment variables that start with `FRAUD_TRANSFORMER_`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_TRANSFORMER_", frozen=True)

    redis_url: str = Field(description="Redis that holds the online store.")
    decision_redis_url: str = Field("", description="Redis that takes the decision stream; empty: that of the store.")
    redis_type: RedisType = Field(
        "redis", description="redis, or redis_cluster where the address is a server of a Redis Cluster."
    )
    fusion_uri: str = Field(description="Address of the fraud-fusion bundle, file:// or pvc://.")
    bundle_root: Path = Field(MOUNT, description="Where the claim of a pvc:// address is mounted.")
    gnn_url: str = Field(description="Base address of the fraud-gnn predictor, http://host:port.")
    spool_dir: Path = Field(description="Folder where decisions wait while Redis is away.")
    latency_budget_ms: float = Field(50.0, gt=0, description="Within which a chunk of events is decided, milliseconds.")
    breaker_failures: int = Field(
        5, ge=1, description="Failures in a row after which a part (store, lightgbm, gnn) is not asked."
    )
    breaker_retry_s: float = Field(
        1.0, gt=0, description="How long it is not asked before one decision tries it again, seconds."
    )
    feast_project: str = Field("fraud", description="Feast project whose keys are read.")
    rules_file: Path | None = Field(None, description="File of the rules; without one, the models alone decide.")
    rules_poll_s: float = Field(5.0, gt=0, description="How often the rules file is looked at for a change, seconds.")
    spool_max_bytes: int = Field(64 * 2**20, ge=0, description="Size at which the spool takes no more decisions.")

    predictor_token_file: Path | None = Field(
        None,
        description="File whose first line is the bearer token that both predictors are sent; read again when it "
        "changes. Unset: none is sent.",
    )

    @classmethod
    def read(cls) -> TransformerSettings:
        """Reads the environment.

        Raises:
            BadSettings: a variable is missing or out of range.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = "FRAUD_TRANSFORMER_" + "_".join(map(str, first["loc"])).upper()
            raise BadSettings(f"environment variable {name}: {first['msg']}") from None

    @property
    def fusion_folder(self) -> Path:
        """The fusion bundle's folder.

        Raises:
            BadSettings: the address names no folder.
        """
        try:
            return folder_of(self.fusion_uri, self.bundle_root)
        except BundleError as error:
            raise BadSettings(f"FRAUD_TRANSFORMER_FUSION_URI: {error}") from None
