"""Pseudonyms: a keyed hash in place of every account, phone and card number.

A pseudonym reads `<kind><key id>-<16 hex digits>`, for example `r1-00ab34cd...`: the digits are the first 64 bits
of BLAKE2b (RFC 7693) under a secret key, so they are uniform and double as the hash of the distinct-counterpart
sketches. Two of a hundred million accounts collide with probability 0.03 %, which costs a shared history, never
an error. The key id lets keys rotate: old pseudonyms stay readable beside new ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

ENTITY_KINDS = ("rider", "driver", "device", "payment_instrument")
KIND_LETTERS = {"rider": "r", "driver": "d", "device": "v", "payment_instrument": "p"}


@dataclass(frozen=True)
class Pseudonymiser:
    """Turns raw ids into pseudonyms under one key.

    Attributes:
        key: secret key, 16 to 64 bytes.
        key_id: which key this is, 1 to 255; part of every pseudonym.
    """

    key: bytes = field(repr=False)
    key_id: int = 1

    def __post_init__(self) -> None:
        if not 16 <= len(self.key) <= 64:
            raise ValueError("key must have 16 to 64 bytes")
        if not 1 <= self.key_id <= 255:
            raise ValueError("key_id must be between 1 and 255")

    @classmethod
    def of_secret(cls, secret: str, key_id: int = 1) -> Pseudonymiser:
        """A pseudonymiser under a secret text of any length, which should carry 128 bits of chance."""
        return cls(blake2b(secret.encode(), digest_size=32).digest(), key_id)

    def __call__(self, kind: str, raw_id: str) -> str:
        """Returns the pseudonym of `raw_id`, an id of one of `ENTITY_KINDS`."""
        return _pseudonym(self.key, self.key_id, KIND_LETTERS[kind], raw_id)


@lru_cache(maxsize=200_000)
def _pseudonym(key: bytes, key_id: int, letter: str, raw_id: str) -> str:
    digest = blake2b(raw_id.encode(), digest_size=8, key=key, person=letter.encode())
    return f"{letter}{key_id}-{digest.hexdigest()}"


def format_pseudonym(kind: str, key_id: int, hash64: int) -> str:
    """Writes a pseudonym from its parts; the inverse of `parse_pseudonym`."""
    return f"{KIND_LETTERS[kind]}{key_id}-{hash64:016x}"


def parse_pseudonym(pseudonym: str) -> tuple[int, int]:
    """Returns (key id, 64-bit hash) of a pseudonym.

    Raises:
        ValueError: the text is not a pseudonym.
    """
    head, _, digits = pseudonym.partition("-")
    if len(digits) != 16 or head[:1] not in KIND_LETTERS.values():
        raise ValueError(f"{pseudonym!r:.80} is not a pseudonym")
    return int(head[1:]), int(digits, 16)


def pseudonym_pattern(kind: str) -> str:
    """A regular expression that the pseudonyms of one of `ENTITY_KINDS` match, and nothing else."""
    return f"^{KIND_LETTERS[kind]}[1-9][0-9]{{0,2}}-[0-9a-f]{{16}}$"
