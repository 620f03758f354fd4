"""Redis servers with settings of their own: TLS, users, a cluster."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from redis.exceptions import RedisError

from simulators.local_services import LocalProcess, free_port, redis_server_binary

SLOTS = 16_384
# A node's bus listens 10,000 above its port.
_BUS = 10_000


class CustomRedis(LocalProcess):
    """A Redis on a loopback port.

    Args:
        folder: its working folder.
        options: its settings.
        client: makes a client that can log in, to see when it is ready.

    Raises:
        LocalServiceError: it does not start with these settings.
    """

    def __init__(self, folder: Path, options: Mapping[str, str], client: Callable[[], redis.Redis]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"bind": "127.0.0.1", "dir": str(folder), "save": "", "appendonly": "no", **options}
        arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
        super().__init__([redis_server_binary(), *arguments], folder / "redis.log")
        self.wait_until(lambda: _answers(client), "Redis", 20)


@dataclass(frozen=True)
class ClusterNode:
    """A master of a cluster.

    Attributes:
        port: its port.
        client: connected to it alone.
        process: the server.
    """

    port: int
    client: redis.Redis
    process: LocalProcess


@contextmanager
def redis_cluster(folder: Path, masters: int = 3) -> Iterator[list[ClusterNode]]:
    """The masters of a new cluster, each of which owns an equal share of the slots, in their order."""
    with ExitStack() as stack:
        nodes = [_node(stack, folder / str(n)) for n in range(masters)]
        for n, node in enumerate(nodes):
            first, end = n * SLOTS // masters, (n + 1) * SLOTS // masters
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            node.client.execute_command("CLUSTER", "ADDSLOTS", *range(first, end))
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        _wait(lambda: all(_whole(node.client, masters) for node in nodes), "the cluster is not whole")
        yield nodes


def _node(stack: ExitStack, folder: Path) -> ClusterNode:
    port = _free_port_with_bus()
    client = stack.enter_context(redis.Redis("127.0.0.1", port))
    options = {"port": str(port), "cluster-enabled": "yes", "cluster-config-file": "nodes.conf"}
    process = stack.enter_context(CustomRedis(folder, options, lambda: redis.Redis("127.0.0.1", port)))
    return ClusterNode(port, client, process)


def _whole(node: redis.Redis, masters: int) -> bool:
    info = node.execute_command("CLUSTER", "INFO").decode()
    return "cluster_state:ok" in info and f"cluster_known_nodes:{masters}\r" in info


def _answers(client: Callable[[], redis.Redis]) -> bool:
    try:
        with client() as connected:
            return bool(connected.ping())
    except (RedisError, OSError):
        return False


def _wait(done: Callable[[], bool], problem: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, problem
        time.sleep(0.05)


def _free_port_with_bus() -> int:
    while True:
        port = free_port()
        with socket.socket() as bus:
            try:
                bus.bind(("127.0.0.1", port + _BUS))
            except (OSError, OverflowError):
                continue
            return port


@dataclass(frozen=True)
class TlsFiles:
    """Files in PEM: a certificate authority, and a certificate of it for localhost with its key."""

    authority: Path
    certificate: Path
    key: Path


def tls_files(folder: Path) -> TlsFiles:
    """Makes a new certificate authority and a server's certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    files = TlsFiles(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    authority = _certificate(issuer, issuer, authority_key.public_key(), authority=True).sign(authority_key, SHA256())
    mine = _certificate(name, issuer, key.public_key(), authority=False).sign(authority_key, SHA256())
    files.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    files.certificate.write_bytes(mine.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
