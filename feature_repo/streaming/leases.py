"""Which worker owns which stream: leases in Redis, shared out evenly among the workers that live.

A lease is a key that names its owner and expires; its owner renews it long before. A worker that dies loses what it
owns when the leases expire, one that ends gives them back, and one that has more than its share, because another came,
gives up the surplus between two micro-batches.

A lease keeps workers out of each other's way. It is not what keeps the features right: a worker that was paused for
longer than its leases goes on where it stood, and no clock tells it in time. Therefore an entity's state is written
only where nobody has written since it was read (`state_store.py`), and a checkpoint only by the owner (`advance`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from feature_repo.streaming.keys import WORKERS, checkpoint_key, lease_key

LEASE_S = 10.0
# Renewed ten times in its life: a worker that comes or goes is noticed within a second.
RENEWALS = 10

# KEYS: the workers, then the leases: those that are shared out, then those that one worker has all of. ARGV: who asks,
# milliseconds, how many leases are shared out. Returns the share, and the positions of the leases owned.
_RENEW = """
local me, lifetime, shared = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + lifetime, me)
local workers = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(workers)
local share = math.floor(shared / #workers)
for rank = 1, shared % #workers do
  if workers[rank] == me then share = share + 1 end
end
local reply, free, held = {share}, {}, 0
for i = 2, #KEYS do
  local owner = redis.call('GET', KEYS[i])
  if owner == me then
    redis.call('PEXPIRE', KEYS[i], lifetime)
    reply[#reply + 1] = i - 2
    if i - 2 < shared then held = held + 1 end
  elseif not owner then
    free[#free + 1] = i
  end
end
for _, i in ipairs(free) do
  if i - 2 >= shared or held < share then
    redis.call('SET', KEYS[i], me, 'PX', lifetime)
    reply[#reply + 1] = i - 2
    if i - 2 < shared then held = held + 1 end
  end
end
return reply
"""
# KEYS: leases. ARGV: who gives them back.
_RELEASE = """
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
"""
# KEYS: lease, checkpoint, stream. ARGV: who asks, the last entry finished. The checkpoint comes before the trimming:
# what is trimmed must never be needed again.
_ADVANCE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('XTRIM', KEYS[3], 'MINID', '~', ARGV[2])
return 1
"""


class Leases:
    """What one worker owns.

    Args:
        redis: an asynchronous Redis client.
        shared: streams that are shared out among the workers.
        whole: streams that one of the workers has, and no other, whatever its share.
        lease_s: how long a lease lives when nobody renews it.

    Attributes:
        owned: the streams that this worker owns, as far as it knows.
        surplus: those of them that another worker should have.
    """

    def __init__(self, redis: Any, shared: Sequence[str], whole: Sequence[str] = (), lease_s: float = LEASE_S) -> None:
        self._redis = redis
        self._streams = [*shared, *whole]
        self._shared = len(shared)
        self._lease_ms = round(lease_s * 1000)
        self._me = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
        self._renew, self._release, self._advance = map(redis.register_script, (_RENEW, _RELEASE, _ADVANCE))
        # A reply that is older than a release must not undo it.
        self._asking = asyncio.Lock()
        self.owned: frozenset[str] = frozenset()
        self.surplus: frozenset[str] = frozenset()

    async def renew(self) -> None:
        """Renews what is owned, takes what is free up to this worker's share, and learns what it has lost."""
        keys = [WORKERS, *map(lease_key, self._streams)]
        async with self._asking:
            share, *held = await self._renew(keys=keys, args=[self._me, self._lease_ms, self._shared])
            self.owned = frozenset(self._streams[position] for position in held)
            mine = sorted(position for position in held if position < self._shared)
            self.surplus = frozenset(self._streams[position] for position in mine[share:])

    async def release(self, stream: str) -> None:
        """Gives a stream to whoever comes for it."""
        async with self._asking:
            self.owned -= {stream}
            self.surplus -= {stream}
            await self._release(keys=[lease_key(stream)], args=[self._me])

    async def leave(self) -> None:
        """Gives everything back."""
        self.owned = self.surplus = frozenset()
        await self._redis.zrem(WORKERS, self._me)
        if self._streams:
            await self._release(keys=list(map(lease_key, self._streams)), args=[self._me])

    async def advance(self, stream: str, last: bytes) -> bool:
        """Moves the checkpoint of a stream to an entry and trims what lies before, if this worker owns it still."""
        keys = [lease_key(stream), checkpoint_key(stream), stream]
        still: bool = await self._advance(keys=keys, args=[self._me, last]) == 1
        if not still:
            self.owned -= {stream}
        return still
