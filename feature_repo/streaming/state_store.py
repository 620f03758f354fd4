"""The state of entities in the online store: read by the batch, and written where nobody else has written since."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import hiredis

from feature_repo.errors import StoreUnavailable
from feature_repo.online.connection import Command, Reply
from feature_repo.online.hashes import HashFields, by_text
from feature_repo.online.store import Store
from feature_repo.settings import KEY_TTL_SECONDS
from feature_repo.streaming.fold import Folded, Grouped, Stored, state_fields, written_fields
from feature_repo.streaming.records import KIND_NAMES

_STATE = [HashFields(*state_fields(kind)) for kind in KIND_NAMES]
_WRITTEN = [HashFields(*written_fields(kind)) for kind in KIND_NAMES]
# A round trip's commands: Redis holds the answers to all of them at once.
_COMMANDS_AT_ONCE = 4000


class StateStore:
    """Reads and replaces the state of entities.

    Args:
        store: the online store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, grouped: Grouped, keys: Sequence[bytes]) -> list[Stored]:
        """The state of each of the e entities, whose keys are given."""
        reads = [_STATE[kind].commands(keys[grouped.of_kind(kind)]) for kind in range(len(KIND_NAMES))]
        return list(map(_stored, await self._ask(list(chain.from_iterable(reads)))))

    async def replace(self, grouped: Grouped, keys: Sequence[bytes], stored: Sequence[Stored], folded: Folded) -> int:
        """Writes what was folded over the states read; returns how many were not written.

        The number of the last event applied is in the state, and rises with every write. Where it is no longer what was
        read, another worker has written meanwhile, and its state stands.
        """
        writes = [
            _WRITTEN[kind].replace(key, before[0] or b"", values, KEY_TTL_SECONDS)
            for kind, key, before, values in zip(grouped.kinds.tolist(), keys, stored, folded.values, strict=True)
            if values is not None
        ]
        replies = await self._ask(writes)
        # A server that has started since, or that never saw it, does not have the script.
        lacking = [i for i, reply in enumerate(replies) if _lacks_script(reply)]
        if lacking:
            for i, reply in zip(lacking, await self._ask([by_text(writes[i]) for i in lacking]), strict=True):
                replies[i] = reply
        sound(next((reply for reply in replies if isinstance(reply, hiredis.ReplyError)), None))
        return replies.count(0)

    async def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        replies: list[Reply] = []
        for start in range(0, len(commands), _COMMANDS_AT_ONCE):
            replies += await self._store.ask(commands[start : start + _COMMANDS_AT_ONCE])
        return replies


def _lacks_script(reply: Reply) -> bool:
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")


def _stored(reply: Reply) -> Stored:
    """The state that Redis answered with; of a key that holds no hash, one that cannot be read."""
    if isinstance(reply, hiredis.ReplyError):
        if str(reply).startswith("WRONGTYPE"):
            return [b"no hash", None, None]
        sound(reply)
    stored: Stored = reply
    return stored


def sound(reply: Reply) -> Reply:
    """The reply, unless it is an error.

    Raises:
        StoreUnavailable: it is.
    """
    if isinstance(reply, hiredis.ReplyError):
        raise StoreUnavailable(f"Redis does not serve: {reply}")
    return reply
