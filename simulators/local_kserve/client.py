"""The local KServe as a context manager, for the command line and for tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kubernetes import client as kubernetes

from simulators.local_kserve.errors import LocalKServeError

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 60.0
_STOP_S = 90.0
_POLL_S = 0.1


class LocalKServe:
    """Starts `python -m simulators.local_kserve` and ends it, with all its processes, on exit.

    `manifests` holds `serving_runtimes/*.yaml`; `images` maps an image name to {"python": interpreter path,
    "env": extra environment}, `claims` the name of a PersistentVolumeClaim to its folder. `state_dir` receives logs,
    fetched bundles and `kubeconfig`. Times are in seconds.
    """

    def __init__(
        self,
        manifests: Path,
        state_dir: Path,
        images: Mapping[str, Mapping[str, Any]],
        claims: Mapping[str, Path] | None = None,
        *,
        namespace: str = "fraud",
        ready_timeout_s: float = 180,
        backoff_s: float = 1,
        drain_s: float = 15,
    ) -> None:
        self.namespace = namespace
        self.state_dir = state_dir.resolve()
        (self.state_dir / "logs").mkdir(parents=True, exist_ok=True)
        self._log = self.state_dir / "logs" / "local_kserve.log"
        table, port_file = self.state_dir / "images.json", self.state_dir / "port"
        table.write_text(json.dumps({name: dict(image) for name, image in images.items()}))
        port_file.unlink(missing_ok=True)
        options = {
            "manifests": manifests.resolve(),
            "state-dir": self.state_dir,
            "images": table,
            "port-file": port_file,
            "ready-timeout": ready_timeout_s,
            "backoff": backoff_s,
            "drain": drain_s,
        }
        command = [sys.executable, "-m", "simulators.local_kserve"]
        command += [f"--claim={name}={folder.resolve()}" for name, folder in (claims or {}).items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module and arguments, no shell
                [*command, *(f"--{name}={value}" for name, value in options.items())],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the caller, which closes this in its own order
            )
        try:
            self.url = f"http://127.0.0.1:{self._wait_for(port_file)}"
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for any Kubernetes client, KServeClient included."""
        return self.state_dir / "kubeconfig"

    def api(self) -> kubernetes.CustomObjectsApi:
        """The ordinary Kubernetes client, talking to this server."""
        return kubernetes.CustomObjectsApi(kubernetes.ApiClient(kubernetes.Configuration(host=self.url)))

    def get(self, name: str) -> dict[str, Any]:
        """The InferenceService `name` with its status."""
        found: dict[str, Any] = self.api().get_namespaced_custom_object(
            "serving.kserve.io", "v1beta1", self.namespace, "inferenceservices", name
        )
        return found

    def wait_ready(self, name: str, timeout: float = 180) -> dict[str, Any]:
        """The InferenceService once it is ready.

        Raises LocalKServeError, with the condition's message and the end of the log, as soon as a revision has
        failed, or after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            isvc = self.get(name)
            ready = next(c for c in isvc["status"]["conditions"] if c["type"] == "Ready")
            if ready["status"] == "True":
                return isvc
            late = time.monotonic() > deadline
            if ready.get("reason") == "RevisionFailed" or late:
                why = f"not ready after {timeout:g} s" if late else "failed"
                raise LocalKServeError(f"InferenceService {name} {why}: {ready.get('message', '')}")
            time.sleep(_POLL_S)

    def requests(self) -> dict[str, int]:
        """Revision -> inference requests that were routed to it so far."""
        found: dict[str, int] = self._ask("requests")
        return found

    def payload_log(self) -> dict[str, dict[str, int]]:
        """Revision with a logger -> its events: `sent`, `lost` on the way, and `dropped` because too many waited."""
        found: dict[str, dict[str, int]] = self._ask("payload_log")
        return found

    def _ask(self, what: str) -> Any:
        client = kubernetes.ApiClient(kubernetes.Configuration(host=self.url))
        return client.call_api(f"/local/{what}", "GET", response_type="object", _return_http_data_only=True)

    def close(self) -> None:
        """Drain and end everything; safe to call twice."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_for(self, port_file: Path) -> int:
        deadline = time.monotonic() + _START_S
        while not port_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
                raise LocalKServeError(f"the local KServe did not start; its log {self._log} ends:\n{tail}")
            time.sleep(_POLL_S)
        return int(port_file.read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
