"""One revision: its bundle fetched, its process started, watched, restarted, drained and ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import aiohttp

from simulators.local_kserve.errors import ManifestError, RevisionFailed
from simulators.local_kserve.launch import launched
from simulators.local_kserve.payload_log import Counts, PayloadLog
from simulators.local_kserve.plan import Image, Resolve, RevisionPlan, local_url, process
from simulators.local_kserve.volumes import Volumes

log = logging.getLogger(__name__)

# What a process needs from this machine; a container would not see the rest of our environment.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
# Below Linux's ephemeral range, so that no outgoing connection takes a port between choice and use.
_PORTS = range(20_000, 32_000)
_LONGEST_BACKOFF_S = 30.0


class State(Enum):
    """Where a revision is in its life."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"  # was ready, crashed, and comes back
    FAILED = "failed"  # never became ready
    STOPPED = "stopped"


@dataclass(frozen=True)
class Host:
    """What every revision on this machine shares; times in seconds."""

    volumes: Volumes
    session: aiohttp.ClientSession
    payload_counts: dict[str, Counts]
    images: Mapping[str, Image]
    resolve: Resolve
    ready_timeout_s: float
    backoff_s: float
    drain_s: float


class Revision:
    """A numbered, immutable template and the one process that runs it."""

    def __init__(self, name: str, plan: RevisionPlan, host: Host, changed: Callable[[], None]) -> None:
        self.name, self.plan, self.host = name, plan, host
        self.state, self.message = State.STOPPED, ""
        self.ever_ready = False
        self.in_flight = 0
        self.ports = _free_ports()
        self.log = host.volumes.state_dir / "logs" / f"{name}.log"
        self._changed = changed
        self.payload_log: PayloadLog | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    def _payload_log(self) -> PayloadLog | None:
        logger = self.plan.logger
        if logger is None:
            return None
        url = local_url(logger.url, self.plan.namespace, self.host.resolve)
        counts = self.host.payload_counts.setdefault(self.name, Counts())
        return PayloadLog(logger, url, self.name, self.host.session, counts)

    @property
    def serving(self) -> bool:
        """Whether it may hold traffic: ready, or ready before and on its way back."""
        return self.state in {State.READY, State.RESTARTING}

    def start(self) -> None:
        """Begin its life; does nothing when it has one."""
        if self._life is None:
            self.state = State.STARTING
            self.payload_log = self._payload_log()
            self._life = asyncio.create_task(self._live())

    def stop(self) -> asyncio.Task[None]:
        """Finish what is in flight, then end the process; the task is done when it is gone."""
        if self._life is None and self._stopping is not None:
            return self._stopping
        life, self._life = self._life, None
        payload_log, self.payload_log = self.payload_log, None
        self.state = State.STOPPED
        self._stopping = asyncio.create_task(self._stop(life, payload_log))
        return self._stopping

    async def _stop(self, life: asyncio.Task[None] | None, payload_log: PayloadLog | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.host.drain_s):
                while self.in_flight:
                    await asyncio.sleep(0.05)
        if life is not None:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        await self._end_process()
        if payload_log is not None:
            await payload_log.close()

    async def _live(self) -> None:
        if self._stopping is not None:
            await self._stopping
        delay = self.host.backoff_s
        while True:
            try:
                started = await self._launch()
                await self._until_ready(started)
                self.ever_ready = True
                self._become(State.READY, "")
                message = f"exited with code {await started.wait()}"
            except (RevisionFailed, ManifestError, OSError) as error:
                message = str(error)
            await self._end_process()
            message = f"{message}{self.log_tail()}"
            if not self.ever_ready:
                self._become(State.FAILED, message)
                return
            self._become(State.RESTARTING, message)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_BACKOFF_S)

    def _become(self, state: State, message: str) -> None:
        self.state, self.message = state, message
        log.info("%s is %s %s", self.name, state.value, message.partition("\n")[0])
        self._changed()

    async def _launch(self) -> asyncio.subprocess.Process:
        folders = await self.host.volumes.mount(self.plan, self.name)
        what = process(
            self.plan,
            self.host.images,
            revision=self.name,
            ports=self.ports,
            folders=folders,
            resolve=self.host.resolve,
        )
        inherited = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *launched(*what.command),
                env={**inherited, "PYTHONUNBUFFERED": "1", **what.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches us alone; we drain, then end it
            )
        return self._process

    async def _until_ready(self, started: asyncio.subprocess.Process) -> None:
        address = f"http://127.0.0.1:{self.ports[0]}/v2"
        paths = (f"{address}/health/ready", f"{address}/models/{self.plan.model_name}/ready")
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            async with (
                asyncio.timeout(self.host.ready_timeout_s),
                aiohttp.ClientSession(timeout=timeout) as session,
            ):
                for path in paths:
                    while not await _answers(session, path):
                        if started.returncode is not None:
                            raise RevisionFailed(f"exited with code {started.returncode} before it was ready")
                        await asyncio.sleep(0.1)
        except TimeoutError:
            raise RevisionFailed(f"not ready after {self.host.ready_timeout_s:g} s") from None

    async def _end_process(self) -> None:
        ended, self._process = self._process, None
        if ended is None:
            return
        # The group too: a server may have started workers, and they outlive a crashed parent.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ended.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), timeout=10)

    def log_tail(self, lines: int = 15) -> str:
        """The end of its log, each line on its own, or nothing when it wrote nothing."""
        if not self.log.exists():
            return ""
        tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "".join(f"\n  {line}" for line in tail)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _free_ports() -> tuple[int, int]:
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):  # nosec B311 - no secret
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("0.0.0.0", port))  # noqa: S104 - kserve's server binds all interfaces
            found.append(port)
        if len(found) == 2:
            return found[0], found[1]
    raise RevisionFailed(f"no two free ports in {_PORTS}")
