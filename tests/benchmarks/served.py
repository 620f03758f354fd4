"""Servers as processes, with what they cost: start-up, memory, processor time."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from pipelines.report import Row
from simulators.local_services import LocalProcess, free_port

# LightGBM's own threads and waiting would only disturb the other side.
QUIET = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
_PATIENCE_S = 180


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        port: of its REST interface.
        pid: its process.
        start_s: from its start to ready.
    """

    port: int
    pid: int
    start_s: float

    def memory_mib(self) -> float:
        """Resident memory of the process and its children."""
        return sum(p.memory_info().rss for p in self._processes()) / 2**20

    def processor_s(self) -> float:
        """Processor time of the process and its children so far."""
        return float(sum(sum(p.cpu_times()[:2]) for p in self._processes()))

    def _processes(self) -> list[psutil.Process]:
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


def serve(process: LocalProcess, port: int, ready: str) -> Server:
    """Waits until a server that has just been started is ready.

    Args:
        process: the server.
        port: that it was told to listen on.
        ready: path that answers 200 when it is.
    """
    started = time.perf_counter()
    process.wait_until(lambda: _answers(f"http://127.0.0.1:{port}{ready}"), process.log.name, _PATIENCE_S)
    return Server(port, process.pid, time.perf_counter() - started)


def kserve_server(
    stack: ExitStack,
    module: str,
    name: str,
    log: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Starts `python -m module`, a KServe `ModelServer` with one model."""
    http, grpc = free_port(), free_port()
    flags = [f"--model_name={name}", *arguments, f"--http_port={http}", f"--grpc_port={grpc}"]
    command = [sys.executable, "-W", "ignore", "-m", module, *flags]
    process = stack.enter_context(LocalProcess(command, log, {**QUIET, **(environment or {})}))
    return serve(process, http, f"/v2/models/{name}/ready")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def rows_of_servers(servers: Mapping[str, Server], prefix: str) -> list[Row]:
    """What the servers cost, by their names in the report."""
    rows = []
    for name, server in servers.items():
        rows.append(Row(f"{prefix}{name}, start-up", server.start_s, "s"))
        rows.append(Row(f"{prefix}{name}, memory", server.memory_mib(), "MiB"))
    return rows
