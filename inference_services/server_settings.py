"""What all services have in common: whom they answer."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference_services.errors import BadSettings


class ServerSettings(BaseSettings):
    """Settings of the server around any model, from environment variables that start with `FRAUD_SERVER_`."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_SERVER_", frozen=True)

    token_file: Path | None = Field(
        None,
        description="File of bearer tokens, one a line, of which a caller must send one; read again when it changes. "
        "Unset: callers are not asked for any.",
    )

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
