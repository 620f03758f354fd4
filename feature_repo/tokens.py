"""Bearer tokens in a file, one a line, which may be changed while the process runs.

To rotate: add the new token to the servers' file, then give it to the callers, then take the old one away.
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

from feature_repo.errors import BadSettings

AUTHORIZATION = "authorization"
# 32 hexadecimal digits carry the 128 bits below which a token can be guessed.
LEAST_LENGTH = 32
_RECHECK_S = 1.0
# RFC 6750, section 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")

log = logging.getLogger("fraud")


class TokenFile:
    """The tokens of one file.

    A file that becomes unusable while the process runs is told once, and the tokens that were read last hold on:
    a half-written file must lock nobody out.

    Args:
        path: the file.
        clock: seconds, rising; the file is looked at once a second at most.

    Raises:
        BadSettings: the file cannot be read, is empty, or has a token that is too short or malformed.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._state = self._stat()
        self._tokens = read_tokens(path)
        self._checked = clock()

    def accepts(self, authorization: bytes) -> bool:
        """Whether the value of an `authorization` header is `Bearer` and one of the tokens."""
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        given = given.strip()
        # All are compared, so that the time taken does not tell which one matched.
        return sum(hmac.compare_digest(given, token) for token in self._current()) > 0

    def authorization(self) -> str:
        """The header's value for a caller: `Bearer` and the first token."""
        return f"Bearer {self._current()[0].decode()}"

    def _current(self) -> tuple[bytes, ...]:
        now = self._clock()
        if now - self._checked < _RECHECK_S:
            return self._tokens
        self._checked = now
        state = self._stat()
        if state != self._state:
            self._state = state
            try:
                self._tokens = read_tokens(self._path)
                log.warning("read the tokens of %s again", self._path)
            except BadSettings as error:
                log.error("%s; the tokens read before stay valid", error)
        return self._tokens

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def read_tokens(path: Path) -> tuple[bytes, ...]:
    """The tokens of a file, at least one; no message repeats any.

    Raises:
        BadSettings: the file cannot be read, is empty, or has a token that is too short or malformed.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadSettings(f"the token file {path} cannot be read: {reason}") from None
    tokens = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not tokens:
        raise BadSettings(f"the token file {path} is empty: write a token of {LEAST_LENGTH} characters or more into it")
    for number, token in tokens:
        if not _TOKEN.fullmatch(token):
            raise BadSettings(f"line {number} of the token file {path} is not a token: letters, digits and -._~+/ only")
        if len(token) < LEAST_LENGTH:
            raise BadSettings(f"the token on line {number} of {path} is shorter than {LEAST_LENGTH} characters")
    return tuple(token.encode() for _, token in tokens)
