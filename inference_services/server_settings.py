"""What all services have in common: whom they answer, how much they take on, and how they end."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference_services.admission import Bounds
from inference_services.errors import BadSettings


class ServerSettings(BaseSettings):
    """Settings of the server around any model, from environment variables that start with `FRAUD_SERVER_`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_SERVER_", frozen=True)

    token_file: Path | None = Field(
        None,
        description="File of bearer tokens, one a line, of which a caller must send one; read again when it changes. "
        "Unset: callers are not asked for any.",
    )
    target_ms: float = Field(
        25.0, gt=0, description="Time in the server, milliseconds, above which fewer requests are taken on at a time."
    )
    least_in_flight: int = Field(16, ge=1, description="Requests in flight that are always taken on.")
    start_in_flight: int = Field(64, ge=1, description="Requests in flight that a new process takes on.")
    most_in_flight: int = Field(512, ge=1, description="Requests in flight beyond which none is taken on.")
    drain_s: float = Field(
        1.0, ge=0, description="After SIGTERM, how long it answers on while callers see that it is not ready, seconds."
    )
    grace_s: float = Field(10.0, ge=0, description="After that, the longest that a request may take to end, seconds.")

    @model_validator(mode="after")
    def _rising(self) -> ServerSettings:
        if not self.least_in_flight <= self.start_in_flight <= self.most_in_flight:
            raise ValueError("least_in_flight, start_in_flight and most_in_flight must rise")
        return self

    @classmethod
    def read(cls) -> ServerSettings:
        """Reads the environment.

        Raises:
            BadSettings: a variable is out of range.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = "FRAUD_SERVER_" + "_".join(map(str, first["loc"])).upper()
            raise BadSettings(f"environment variable {name}: {first['msg']}") from None

    @property
    def bounds(self) -> Bounds:
        """Of the requests in flight."""
        return Bounds(self.target_ms / 1000, self.least_in_flight, self.start_in_flight, self.most_in_flight)
