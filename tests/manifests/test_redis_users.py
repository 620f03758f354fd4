"""The users of components/redis_tls can do their work and no other's: on a real Redis, started as the manifest says.

Redis 6 has no rights to read a key without those to write it, and is skipped.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import redis.asyncio as aioredis
import yaml
from redis.exceptions import AuthenticationError, NoPermissionError

from feature_repo.event_batch import EventBatch
from feature_repo.feast_format import redis_key
from feature_repo.materialization_ledger import Ledger, ViewFacts, ledger_client, read_facts
from feature_repo.online_reader import OnlineReader
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming.keys import DEAD_LETTERS, LOG_STREAM, PARTITIONS, SEQUENCE_KEY, partition_stream
from feature_repo.streaming.publisher import Publisher
from inference_services.decision_log.sink import Sink
from inference_services.drift_detector.bridge import POSITION
from inference_services.transformer.decisions import STREAM, DecisionLog
from simulators.local_services import free_port, redis_server_binary
from tests.decision_samples import Encoded
from tests.redis_servers import CustomRedis, tls_files
from tests.unit.feature_repo.streams import drain

MANIFESTS = Path(__file__).parents[2] / "manifests"
USERS = MANIFESTS / "components" / "redis_tls" / "users.example.acl"
NAMES = re.findall(r"^user (\S+) on #", USERS.read_text(), re.MULTILINE)
EVENT = {
    "event_id": "e1", "event_type": "account_changed", "event_timestamp": 1_770_000_000_000_000,
    "rider_id": "rider-1", "device_id": "phone-1", "city": "tehran", "change": "email",
}  # fmt: skip


def password(user: str) -> str:
    return f"password of {user}"


@dataclass(frozen=True)
class Server:
    """A running Redis."""

    port: int
    authority: Path

    def url(self, user: str) -> str:
        """The address that the Secret redis-<user> would hold."""
        login = f"{user}:{quote(password(user))}"
        return f"rediss://{login}@localhost:{self.port}/0?ssl_ca_certs={self.authority}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    shown = subprocess.run([redis_server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+)", shown)
    if found is None or int(found[1]) < 7:
        pytest.skip(f"Redis 7 or newer is needed to try the users, found: {shown.strip()}")
    folder = tmp_path_factory.mktemp("redis")
    certificates = tls_files(folder / "tls")
    certificates.certificate.rename(folder / "tls" / "tls.crt")
    certificates.key.rename(folder / "tls" / "tls.key")
    hashed = {name: sha256(password(name).encode()).hexdigest() for name in NAMES}
    text = re.sub(r"#([A-Z-]+)", lambda match: f"#{hashed[match[1].lower()]}", USERS.read_text())
    (folder / "users").mkdir()
    (folder / "users" / "users.acl").write_text(text)
    running = Server(free_port(), certificates.authority)
    operator = running.url("operator")
    with CustomRedis(folder, options(folder, running.port), lambda: redis.Redis.from_url(operator)):
        yield running


def options(folder: Path, port: int) -> dict[str, str]:
    """What the manifest starts Redis with, in a folder and on a port of this machine."""
    objects = yaml.safe_load_all((USERS.parent / "redis.yaml").read_text())
    (stateful_set,) = [thing for thing in objects if thing["kind"] == "StatefulSet"]
    given = stateful_set["spec"]["template"]["spec"]["containers"][0]["args"]
    pairs = dict(zip(given[::2], given[1::2], strict=True))
    here = {"/etc/redis": str(folder), "/data": str(folder)}
    for there, local in here.items():
        pairs = {name: value.replace(there, local) for name, value in pairs.items()}
    return {name.removeprefix("--"): value for name, value in pairs.items()} | {"tls-port": str(port)}


@pytest.fixture
async def clients(server: Server) -> AsyncIterator[dict[str, aioredis.Redis]]:
    """A client for each user, on an empty Redis."""
    made = {name: aioredis.Redis.from_url(server.url(name)) for name in NAMES}
    await made["operator"].flushall()
    yield made
    for client in made.values():
        await client.aclose()


async def test_nobody_gets_in_without_a_name(server: Server) -> None:
    nobody = f"rediss://localhost:{server.port}?ssl_ca_certs={server.authority}"
    async with aioredis.Redis.from_url(nobody) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.ping()


async def test_an_event_becomes_a_feature(clients: dict[str, aioredis.Redis], server: Server) -> None:
    pseudonymise = Pseudonymiser(b"k" * 32)
    rows, now_us = [EVENT, {**EVENT, "city": 1}], EVENT["event_timestamp"] + 1_000_000
    published = await Publisher(clients["ingestion"], pseudonymise).publish_rows(rows, now_us)
    assert [error.row for error in published.refused] == [1]
    assert sum([await clients["keda"].xlen(partition_stream(p)) for p in range(PARTITIONS)]) == 2
    await drain(clients["streaming-worker"])
    ids = {"rider_id": pseudonymise("rider", "rider-1"), "device_id": pseudonymise("device", "phone-1")}
    reader = OnlineReader(server.url("transformer"), timeout_s=20)
    try:
        read = await reader.read(EventBatch.from_rows([{**EVENT, **ids, "event_timestamp": now_us}]))
    finally:
        await reader.close()
    assert read.available, read.problem
    assert read.features["rider_changes_24h"] == [1]


async def test_a_decision_reaches_the_log_and_the_bridge(
    clients: dict[str, aioredis.Redis], server: Server, tmp_path: Path
) -> None:
    log = DecisionLog(server.url("transformer"), tmp_path / "spool", 10_000)
    log.publish(Encoded([b'{"event_id": "1"}']))
    log.stop()
    await log.run()
    assert not list((tmp_path / "spool").glob("*"))
    sink = Sink(clients["decision-log"], tmp_path / "log", flush_s=0, keep=0)
    sink.stop()
    async with asyncio.timeout(20):
        await sink.run()
    assert list((tmp_path / "log").rglob("*.parquet"))
    bridge = clients["drift-bridge"]
    assert await bridge.get(POSITION) is None
    assert await bridge.xread({STREAM: "0"}, count=1)
    await bridge.set(POSITION, "1-1")


def test_materialisation_keeps_its_ledger_and_the_transformer_reads_it(server: Server) -> None:
    with ledger_client(server.url("materialization"), "redis", 20) as client:
        ledger = Ledger(client)
        ledger.begin(1)
        ledger.commit("rider_profile", ViewFacts(1, 2, 3, 4, "columns"), {})
        client.hset(redis_key("fraud", {"rider_id": "r"}), "field", "value")
        assert list(client.scan_iter(match="*fraud"))
    with ledger_client(server.url("transformer"), "redis", 20) as client:
        assert read_facts(client)["rider_profile"].rows == 4


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("transformer", ("XADD", partition_stream(0), "*", "record", "forged")),
        ("transformer", ("HSET", redis_key("fraud", {"rider_id": "r"}), "field", "forged")),
        ("transformer", ("XRANGE", DEAD_LETTERS, "-", "+")),
        ("ingestion", ("HGETALL", redis_key("fraud", {"rider_id": "r"}))),
        ("ingestion", ("XRANGE", STREAM, "-", "+")),
        ("streaming-worker", ("XADD", STREAM, "*", "decision", "forged")),
        ("streaming-worker", ("FLUSHALL",)),
        ("decision-log", ("XLEN", LOG_STREAM)),
        ("drift-bridge", ("XADD", STREAM, "*", "decision", "forged")),
        ("drift-bridge", ("XTRIM", STREAM, "MAXLEN", "0")),
        ("materialization", ("XRANGE", STREAM, "-", "+")),
        ("keda", ("XRANGE", partition_stream(0), "-", "+")),
        ("keda", ("XLEN", LOG_STREAM)),
        ("probe", ("GET", SEQUENCE_KEY)),
        ("ingestion", ("CONFIG", "GET", "*")),
    ],
)
def test_nobody_does_another_s_work(server: Server, user: str, command: tuple[str | bytes, ...]) -> None:
    with redis.Redis.from_url(server.url(user)) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)
