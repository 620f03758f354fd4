"""Run the local KServe until SIGTERM or SIGINT: `python -m simulators.local_kserve --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import signal
import sys
from pathlib import Path

from aiohttp import web

from simulators.local_kserve.api.app import make_app
from simulators.local_kserve.controller import Controller
from simulators.local_kserve.errors import LocalKServeError
from simulators.local_kserve.plan import read_config_maps, read_images, read_runtimes
from simulators.local_kserve.volumes import Volumes


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulators.local_kserve", description=__doc__)
    parser.add_argument(
        "--manifests", type=Path, required=True, help="folder with serving_runtimes/*.yaml and kustomization.yaml"
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="logs, fetched bundles, kubeconfig")
    parser.add_argument("--images", type=Path, required=True, help="JSON: image -> {python, env}")
    parser.add_argument(
        "--claim", type=_claim, action="append", default=[], help="NAME=FOLDER of a PersistentVolumeClaim; repeatable"
    )
    parser.add_argument("--port", type=int, default=0, help="API port on the loopback interface; 0: a free one")
    parser.add_argument("--port-file", type=Path, required=True, help="where the port is written once it listens")
    parser.add_argument("--ready-timeout", type=float, default=180, help="seconds a revision may take")
    parser.add_argument("--backoff", type=float, default=1, help="seconds before the first restart")
    parser.add_argument("--drain", type=float, default=15, help="seconds that requests in flight may take")
    return parser.parse_args()


def _claim(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    return name, Path(folder)


async def serve(options: argparse.Namespace) -> None:
    """Serve until told to stop; raises LocalKServeError when the manifests or the image table cannot be used."""
    state_dir: Path = options.state_dir.resolve()
    for folder in ("models", "volumes"):
        # Revision numbers begin again, so what an earlier run left under a name is another revision's.
        shutil.rmtree(state_dir / folder, ignore_errors=True)
    (state_dir / "logs").mkdir(parents=True, exist_ok=True)
    controller = Controller(
        read_runtimes(options.manifests),
        read_images(options.images),
        Volumes(state_dir, read_config_maps(options.manifests), dict(options.claim)),
        ready_timeout_s=options.ready_timeout,
        backoff_s=options.backoff,
        drain_s=options.drain,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # A watch ends with its client.
    runner = web.AppRunner(make_app(controller), access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port).start()
        port = runner.addresses[0][1]
        _write(state_dir / "kubeconfig", _kubeconfig(port))
        _write(options.port_file, str(port))
        await stop.wait()
    finally:
        controller.events.close()
        await runner.cleanup()
        await controller.close()
        options.port_file.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """All at once, so that a waiting reader never sees half of it."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text)
    partial.replace(path)


def _kubeconfig(port: int) -> str:
    """For any Kubernetes client; JSON is YAML."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "local",
            "clusters": [{"name": "local", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local", "namespace": "fraud"}}],
            "users": [{"name": "local", "user": {}}],
        }
    )


def main() -> int:
    """Exit status 2 with one line when it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(serve(_arguments()))
    except (LocalKServeError, OSError) as error:
        sys.stderr.write(f"local KServe: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
