"""A Redis Cluster: every key is asked of the server that owns its slot, all servers at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import chain

import hiredis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from feature_repo.errors import StoreUnavailable
from feature_repo.online.connection import Command, Reply
from feature_repo.online.server import Address, Server

_SLOTS: Command = (hiredis.pack_command(("CLUSTER", "SLOTS")), b"", b"")  # type: ignore[arg-type]
_ASKING: Command = (hiredis.pack_command(("ASKING",)), b"", b"")


class Cluster:
    """Asks the servers of a cluster.

    Args:
        seed: any one of them; the others are learned from it.
        patience_s: as for each `Server`.
    """

    def __init__(self, seed: Address, patience_s: float) -> None:
        self._seed = seed
        self._patience_s = patience_s
        self._servers: dict[tuple[str, int], Server] = {}
        # Whom to ask for the owners next: another one every time, so that a server that hangs is passed over.
        self._guides: deque[Server] = deque([self._server(seed.host, seed.port)])
        self._owners: list[Server | None] = []
        self._learning = asyncio.Lock()

    async def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Sends each server its commands in one write and returns all replies in order, errors among them.

        Raises:
            OSError: a server cannot be reached, or a connection was lost.
            StoreUnavailable: a server does not let us in, or nobody owns a slot.
        """
        async with self._learning:
            if not self._owners:
                await self._learn()
        shares: dict[Server, list[int]] = {}
        for position, (_, key, _) in enumerate(commands):
            owner = self._owners[key_slot(key)]
            if owner is None:
                raise StoreUnavailable("a part of the online store's cluster has no server")
            shares.setdefault(owner, []).append(position)
        try:
            replies = await self._ask_each(shares, commands)
        except BaseException:  # a timeout too: a replica may have taken over
            self._owners = []
            raise
        await self._follow(commands, replies)
        return replies

    async def ping(self) -> None:
        """Returns when every server that owns slots answers.

        Raises:
            OSError, StoreUnavailable: one of them does not.
        """
        await self._learn()
        await asyncio.gather(*(owner.ping() for owner in set(self._owners) if owner is not None))

    async def close(self) -> None:
        """Closes the connections."""
        for server in self._servers.values():
            await server.close()

    def _server(self, host: str, port: int) -> Server:
        return self._servers.setdefault((host, port), Server(self._seed.beside(host, port), self._patience_s))

    async def _learn(self) -> None:
        """Asks one of the servers which owns what."""
        self._guides.rotate(-1)
        guide = self._guides[0]
        (ranges,) = await guide.ask([_SLOTS])
        if isinstance(ranges, hiredis.ReplyError) or not ranges:
            raise StoreUnavailable(f"the online store's cluster does not say who owns what: {ranges}")
        owners: list[Server | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            # A server that does not know its own name answers with none.
            name = host.decode() if host else guide.address.host
            owners[first : last + 1] = [self._server(name, port)] * (last + 1 - first)
        self._owners = owners
        self._guides = deque(self._servers.values())

    async def _ask_each(self, shares: dict[Server, list[int]], commands: Sequence[Command]) -> list[Reply]:
        replies: list[Reply] = [None] * len(commands)

        async def ask(server: Server, share: list[int]) -> None:
            answers = await server.ask([commands[position] for position in share])
            for position, answer in zip(share, answers, strict=True):
                replies[position] = answer

        await asyncio.gather(*(ask(server, share) for server, share in shares.items()))
        return replies

    async def _follow(self, commands: Sequence[Command], replies: list[Reply]) -> None:
        """Asks once more, in place, what was answered by the address of another server: a slot has moved or is moving.

        See https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#moved-redirection.
        """
        moved: dict[Server, list[int]] = {}
        for position, reply in enumerate(replies):
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith(("MOVED ", "ASK ")):
                host, _, port = str(reply).split()[2].rpartition(":")
                moved.setdefault(self._server(host or self._seed.host, int(port)), []).append(position)
        if not moved:
            return
        self._owners = []
        for server, share in moved.items():
            # ASKING is for a slot on its way; where it has arrived, the word changes nothing.
            pairs = chain.from_iterable((_ASKING, commands[position]) for position in share)
            answers = await server.ask(list(pairs))
            for position, answer in zip(share, answers[1::2], strict=True):
                replies[position] = answer
