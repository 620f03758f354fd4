"""The reader's connections: shared, lost, hung, late, refused, encrypted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import redis

from feature_repo.errors import StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.feast_format import encode_int64_value, hash_field, redis_key
from feature_repo.online import store
from feature_repo.online_reader import CORRUPT, OnlineReader, StoreRead
from feature_repo.pseudonyms import format_pseudonym
from simulators.local_services import LocalServiceError, RedisServer, free_port
from tests.redis_servers import CustomRedis, tls_files

RIDERS = 60
TRIPS = hash_field("rider_profile", "rider_lifetime_trips")
# Of a read that must succeed: long enough for a busy machine.
PATIENT_S = 20.0


def rider(number: int) -> str:
    return format_pseudonym("rider", 1, number)


def batch(*riders: int) -> EventBatch:
    row = {"event_type": "account_changed", "event_timestamp": 1, "device_id": "v1-" + "0" * 16, "city": "tehran"}
    return EventBatch.from_rows([{**row, "event_id": str(r), "rider_id": rider(r), "change": "email"} for r in riders])


def fill(client: redis.Redis) -> None:
    """Rider n has made n trips, so that every answer tells whose it is."""
    for n in range(RIDERS):
        client.hset(redis_key("fraud", {"rider_id": rider(n)}), mapping={TRIPS: encode_int64_value(n)})


def trips(read: StoreRead) -> list[float]:
    assert read.available, read.problem
    return [float(n) for n in read.features["rider_lifetime_trips"]]


@asynccontextmanager
async def reading(url: str, timeout_s: float = PATIENT_S) -> AsyncIterator[OnlineReader]:
    reader = OnlineReader(url, timeout_s=timeout_s)
    try:
        yield reader
    finally:
        await reader.close()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def filled(redis_url: str) -> str:
    with redis.Redis.from_url(redis_url) as client:
        fill(client)
    return redis_url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A filled Redis that a test may stop."""
    with RedisServer(tmp_path / "redis") as server:
        with redis.Redis.from_url(server.url) as client:
            fill(client)
        yield server


class Delay:
    """A server before Redis that passes answers on only while it is open, in pieces of a few bytes."""

    def __init__(self, port: int) -> None:
        self._redis_port = port
        self._open = asyncio.Event()
        self.connections = 0

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", self._redis_port)
        forward = asyncio.create_task(self._forward(reader, redis_writer))
        try:
            while piece := await redis_reader.read(7):
                await self._open.wait()
                writer.write(piece)
                await writer.drain()
        finally:
            forward.cancel()
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)
        writer.close()


@pytest.fixture
async def delay(filled: str) -> AsyncIterator[tuple[Delay, str]]:
    front = Delay(int(filled.rpartition(":")[2]))
    async with front.serving() as url:
        yield front, url


async def test_reads_at_the_same_time_share_one_connection_and_get_their_own_answers(filled: str) -> None:
    with redis.Redis.from_url(filled) as client:
        before = {c["id"] for c in client.client_list()}
        async with reading(filled) as reader:
            reads = await asyncio.gather(*(reader.read(batch(n, (n * 7) % RIDERS)) for n in range(RIDERS)))
            readers = [c for c in client.client_list() if c["id"] not in before]
    assert [trips(read) for read in reads] == [[n, (n * 7) % RIDERS] for n in range(RIDERS)]
    assert len(readers) == 1


async def test_answers_may_come_in_pieces(delay: tuple[Delay, str]) -> None:
    front, url = delay
    front.open()
    async with reading(url) as reader:
        assert trips(await reader.read(batch(*range(RIDERS)))) == list(range(RIDERS))


async def test_a_late_answer_is_never_that_of_a_later_read(delay: tuple[Delay, str]) -> None:
    front, url = delay
    async with reading(url, timeout_s=0.1) as hasty:
        lost = [await hasty.read(batch(1)), await hasty.read(batch(2, 3))]
        hasty._timeout_s = PATIENT_S
        patient = asyncio.gather(*(hasty.read(batch(n)) for n in (4, 5)))
        await asyncio.sleep(0)
        front.open()
        assert [trips(read) for read in await patient] == [[4], [5]]
        assert trips(await hasty.read(batch(6, 7))) == [6, 7]
    assert not any(read.available for read in lost)
    assert front.connections == 1


async def test_a_read_that_is_cancelled_costs_the_others_nothing(delay: tuple[Delay, str]) -> None:
    front, url = delay
    async with reading(url) as reader:
        reads = [asyncio.create_task(reader.read(batch(n))) for n in (1, 2, 3)]
        await asyncio.sleep(0.05)
        reads[1].cancel()
        front.open()
        assert [trips(await reads[n]) for n in (0, 2)] == [[1], [3]]


async def test_a_connection_that_stays_silent_is_replaced(
    delay: tuple[Delay, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_READER_PATIENCE_S", 0.2)
    front, url = delay
    async with reading(url, timeout_s=0.05) as reader:
        for _ in range(8):
            assert not (await reader.read(batch(1))).available
        assert 1 < front.connections < 8
        front.open()
        reader._timeout_s = PATIENT_S
        assert trips(await reader.read(batch(2))) == [2]


async def test_a_login_that_takes_longer_than_a_read_is_not_begun_again(delay: tuple[Delay, str]) -> None:
    front, url = delay
    async with reading(f"{url}/1", timeout_s=0.05) as reader:
        for _ in range(4):
            assert not (await reader.read(batch(1))).available
        front.open()
        reader._timeout_s = PATIENT_S
        assert (await reader.read(batch(1))).available
    assert front.connections == 1


async def test_a_redis_that_hangs_gives_nothing_in_time_and_everything_when_it_goes_on(own_redis: RedisServer) -> None:
    async with reading(own_redis.url, timeout_s=0.2) as reader:
        assert trips(await reader.read(batch(1))) == [1]
        with stopped(own_redis.pid):
            async with asyncio.timeout(PATIENT_S):  # far more than the reader's own
                reads = [await reader.read(batch(n)) for n in range(5)]
                with pytest.raises(StoreUnavailable, match="within 200 ms"):
                    await reader.embeddings("v", np.zeros(1, int), np.ones(1, np.uint64), np.ones(1, int), 4)
            assert not any(read.available for read in reads)
            assert "within 200 ms" in reads[0].problem
            assert not await reader.ping()
        for n in range(10, RIDERS):
            read = await reader.read(batch(n, 0))
            assert not read.available or trips(read) == [n, 0]
        reader._timeout_s = PATIENT_S
        assert trips(await reader.read(batch(7, 0))) == [7, 0]
        assert await reader.ping()


async def test_a_redis_that_is_gone_is_found_again(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        port = server.port
        with redis.Redis.from_url(server.url) as client:
            fill(client)
        reader = OnlineReader(server.url, timeout_s=PATIENT_S)
        assert trips(await reader.read(batch(5))) == [5]
    gone = await reader.read(batch(5))
    assert not gone.available
    assert "cannot be reached" in gone.problem
    with RedisServer(tmp_path / "redis", port) as server:
        assert trips(await reader.read(batch(5))) == [0]  # restarted empty: nobody has a past
        with redis.Redis.from_url(server.url) as client:
            fill(client)
        assert trips(await reader.read(batch(5))) == [5]
        await reader.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-LOADING it is not there yet\r\n", b""])
async def test_what_is_no_answer_to_the_question_gives_nothing(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, reading(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as reader:
        assert not (await reader.read(batch(1))).available
        assert not await reader.ping()


async def test_a_key_of_another_type_makes_its_entity_unknown(filled: str) -> None:
    key = redis_key("fraud", {"rider_id": rider(3)})
    with redis.Redis.from_url(filled) as client:
        client.delete(key)
        client.set(key, "not a hash")
    before = CORRUPT.labels("key")._value.get()
    async with reading(filled) as reader:
        assert trips(await reader.read(batch(2, 3, 4))) == [2, 0, 4]
        riders = np.array([3, 4], np.uint64)
        _, known = await reader.embeddings("v", np.zeros(2, int), riders, np.ones(2, int), 4)
    assert known.tolist() == [0.0, 0.0]
    assert CORRUPT.labels("key")._value.get() == before + 2


def grant(client: redis.Redis, *rules: str) -> str:
    """The login of a user with these rights, and the characters that URLs and Feast's settings are sensitive to."""
    client.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">p@s,s/w=rd", *rules)
    return "reader:p%40s%2Cs%2Fw%3Drd@"


async def test_a_user_that_may_only_read_this_projects_hashes_is_enough(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        login = grant(client, "~*fraud", "+hmget", "+ping")
        client.execute_command("ACL", "SETUSER", "default", "off")
    url = own_redis.url.replace("redis://", f"redis://{login}")
    async with reading(url) as reader:
        assert trips(await reader.read(batch(8, 9))) == [8, 9]
        assert await reader.ping()
    with redis.Redis.from_url(url) as mine, pytest.raises(redis.exceptions.NoPermissionError):
        mine.set("x", 1)


async def test_who_may_not_read_is_told_why(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        other = grant(client, "~*other", "+hmget")
        client.execute_command("ACL", "SETUSER", "default", "off")
    for login, reason in ((other, "NOPERM"), (other.replace("%3D", ""), "WRONGPASS"), ("", "NOAUTH")):
        async with reading(own_redis.url.replace("redis://", f"redis://{login}")) as reader:
            read = await reader.read(batch(1))
            assert not read.available
            assert reason in read.problem


async def test_a_database_is_chosen_by_number(filled: str) -> None:
    async with reading(f"{filled}/3") as reader:
        assert trips(await reader.read(batch(4))) == [0]
        with redis.Redis.from_url(f"{filled}/3") as client:
            fill(client)
        assert trips(await reader.read(batch(4))) == [4]


@pytest.fixture
def tls_redis(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a filled Redis that speaks TLS only, and its certificate authority."""
    files = tls_files(tmp_path)
    port = free_port()
    options = {"port": "0", "tls-port": str(port), "tls-cert-file": str(files.certificate)}
    options |= {"tls-key-file": str(files.key), "tls-ca-cert-file": str(files.authority), "tls-auth-clients": "no"}
    url = f"rediss://localhost:{port}?ssl_ca_certs={files.authority}"
    try:
        server = CustomRedis(tmp_path / "redis", options, lambda: redis.Redis.from_url(url))
    except LocalServiceError as error:
        if "Bad directive" not in str(error):
            raise
        pytest.skip("this redis-server was built without TLS; one that has it (Debian's) must be on PATH")
    with server, redis.Redis.from_url(url) as client:
        fill(client)
        yield url, files.authority


async def test_tls_checks_who_the_server_is(tls_redis: tuple[str, Path], tmp_path: Path) -> None:
    url, authority = tls_redis
    async with reading(url) as reader:
        assert trips(await reader.read(batch(1, 2))) == [1, 2]
    strangers = tls_files(tmp_path / "strangers").authority
    for wrong in (url.replace(str(authority), str(strangers)), url.replace("rediss://", "redis://")):
        async with reading(wrong, timeout_s=2) as reader:
            assert not (await reader.read(batch(1))).available
