"""Bearer tokens in a file, as ingestion reads them; one that cannot be used is this package's error."""

from __future__ import annotations

from pathlib import Path

from feature_repo import tokens
from feature_repo.errors import BadSettings as UnusableFile
from inference_services.errors import BadSettings


class TokenFile(tokens.TokenFile):
    """The tokens of one file; see `feature_repo.tokens.TokenFile`.

    Args:
        path: the file.

    Raises:
        BadSettings: the file cannot be read, is empty, or has a token that is too short or malformed.
    """

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path)
        except UnusableFile as error:
            raise BadSettings(str(error)) from None
