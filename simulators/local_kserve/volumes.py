"""What a container has mounted, as folders of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simulators.local_kserve.errors import ManifestError, RevisionFailed
from simulators.local_kserve.launch import launched
from simulators.local_kserve.plan import MODEL_MOUNT, RevisionPlan

_PVC = "pvc://"


@dataclass(frozen=True)
class Volumes:
    """Where mounts come from.

    Attributes:
        state_dir: for what is made or fetched here.
        config_maps: files by key of each ConfigMap.
        claims: folder of a PersistentVolumeClaim; one that has none gets an empty folder, as from a storage class.
    """

    state_dir: Path
    config_maps: Mapping[str, Mapping[str, Path]]
    claims: Mapping[str, Path]

    async def mount(self, plan: RevisionPlan, revision: str) -> dict[str, Path]:
        """Make a revision's folders, fetch its bundle, and return the folder of each mount path.

        Raises RevisionFailed or ManifestError for what is not there.
        """
        folders = {mount: self.state_dir / "volumes" / revision / name for mount, name in plan.scratch.items()}
        folders |= {mount: self._claim(name) for mount, name in plan.claims.items()}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        for mount, name in plan.config_maps.items():
            folders[mount] = mounted(name, self.config_maps, self.state_dir / "config_maps" / revision)
        if plan.storage_uri:
            folders[MODEL_MOUNT] = await self._model(plan.storage_uri, self.state_dir / "models" / revision)
        return folders

    def _claim(self, name: str) -> Path:
        return self.claims.get(name, self.state_dir / "claims" / name)

    async def _model(self, uri: str, folder: Path) -> Path:
        """KServe mounts a path of a claim as it is; everything else its storage library fetches."""
        if not uri.startswith(_PVC):
            await _fetch(uri, folder)
            return folder
        claim, _, path = uri.removeprefix(_PVC).partition("/")
        root = self._claim(claim).resolve()
        found = (root / path).resolve()
        # As a kubelet does of a subPath, whose `..` or link may lead out of the volume.
        if not found.is_relative_to(root):
            raise RevisionFailed(f"cannot mount {uri}: it leads out of the claim")
        if not found.is_dir():
            raise RevisionFailed(f"cannot mount {uri}: there is no folder {found}")
        return found


def mounted(name: str, config_maps: Mapping[str, Mapping[str, Path]], root: Path) -> Path:
    """A folder with links to a ConfigMap's files, so that a change of a file is seen as in a mounted ConfigMap."""
    if name not in config_maps:
        raise ManifestError(f"no ConfigMap {name!r}; kustomization.yaml generates {sorted(config_maps)}")
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for key, path in config_maps[name].items():
        (folder / key).symlink_to(path)
    return folder


async def _fetch(uri: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    fetching = await asyncio.create_subprocess_exec(
        *launched(sys.executable, "-P", str(Path(__file__).with_name("fetch.py")), uri, str(folder)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = await fetching.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):  # the group: it has workers
            os.killpg(fetching.pid, signal.SIGKILL)
    if fetching.returncode:
        why = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise RevisionFailed(f"cannot fetch {uri}: {why}")
