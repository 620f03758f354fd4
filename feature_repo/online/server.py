"""One Redis server: its address, and a connection to it that is opened again when it is gone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import hiredis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import SSLConnection, parse_url

from feature_repo.errors import StoreUnavailable
from feature_repo.online.connection import Command, Connection, Reply

PING: Command = (hiredis.pack_command(("PING",)), b"", b"")

# All requests wait for the same attempt: one that meets a dead network must not outlast its return by much.
_CONNECT_S = 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis listens and how to enter.

    Attributes:
        host: name or IP address.
        port: TCP port.
        greeting: the commands that log in and choose the database.
        tls: how to check the server and prove who we are; None without TLS.
    """

    host: str
    port: int
    greeting: tuple[Command, ...] = field(default=(), repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Reads `redis://` and `rediss://` URLs as redis-py does: `ssl_ca_certs` and its like are query parameters.

        Raises:
            ValueError: the URL is not one of these.
        """
        return cls._of(parse_url(url))

    @classmethod
    def of_client(cls, client: Any) -> Address:
        """The address that an asynchronous redis-py client uses; of a cluster, that of the first server."""
        options = dict(client.get_connection_kwargs())
        if isinstance(client, RedisCluster):
            options |= {"host": client.startup_nodes[0].host, "port": client.startup_nodes[0].port}
        else:
            options["connection_class"] = client.connection_pool.connection_class
        return cls._of(options)

    @classmethod
    def _of(cls, options: Mapping[str, Any]) -> Address:
        if "path" in options:
            raise ValueError("the online store is read over TCP: use redis:// or rediss://")
        greeting = []
        if options.get("password"):
            user = [options["username"]] if options.get("username") else []
            greeting.append(("AUTH", *user, options["password"]))
        if options.get("db"):
            greeting.append(("SELECT", options["db"]))
        tls = None
        if options.get("connection_class") is SSLConnection:
            given = {name: value for name, value in options.items() if name.startswith("ssl_")}
            tls = SSLConnection(**given).ssl_context.get()
        commands = tuple((hiredis.pack_command(command), b"", b"") for command in greeting)
        return cls(options.get("host", "localhost"), options.get("port", 6379), commands, tls)

    def beside(self, host: str, port: int) -> Address:
        """The address of another server that is entered in the same way."""
        return replace(self, host=host, port=port)


class Server:
    """Asks one Redis over one connection, which all requests share.

    Args:
        address: where.
        patience_s: how long the oldest request may have waited before the next one gives the connection up and opens
            another. Longer than a request's own timeout, so that a short stall costs the requests that met it and no
            new handshake.
    """

    def __init__(self, address: Address, patience_s: float) -> None:
        self.address = address
        self._patience_s = patience_s
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None

    async def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Sends the commands in one write and returns their replies, errors among them.

        Raises:
            OSError: the server cannot be reached, or the connection was lost.
            StoreUnavailable: it does not let us in.
        """
        connection = self._connection
        if connection is None or not connection.open or connection.overdue(self._patience_s):
            connection = await self._open()
        return await connection.send(commands)

    async def ping(self) -> None:
        """Returns when the server answers.

        Raises:
            OSError, StoreUnavailable: it does not.
        """
        (reply,) = await self.ask([PING])
        if reply != b"PONG":
            raise StoreUnavailable(f"the online store does not serve: {reply}")

    async def close(self) -> None:
        """Closes the connection."""
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            self._connection.abort()

    async def _open(self) -> Connection:
        """Joins the attempt to connect that is under way, or begins one; a caller who gives up does not end it."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._connect())
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._opening)

    async def _connect(self) -> Connection:
        if self._connection is not None:
            self._connection.abort()
        loop, to = asyncio.get_running_loop(), self.address
        async with asyncio.timeout(_CONNECT_S):
            _, connection = await loop.create_connection(Connection, to.host, to.port, ssl=to.tls)
            try:
                for reply in await connection.send(to.greeting) if to.greeting else ():
                    if isinstance(reply, hiredis.ReplyError):
                        raise StoreUnavailable(f"the online store refuses the login: {reply}")
            except BaseException:
                connection.abort()
                raise
        self._connection = connection
        return connection
