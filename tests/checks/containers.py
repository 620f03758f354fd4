"""Runs built images as a cluster would: their own user, no more rights, a read-only root, /tmp to write to.

With docker that is `docker run`. buildah builds without a daemon, and has no such run: its image is mounted, and the
same is made of `unshare`, `mount` and `chroot`, which needs root. Both share this machine's network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_UNPRIVILEGED = """
set -e
root="$1"; user="$2"; folder="$3"; mounts="$4"; shift 4
mount --make-rprivate /
mount --bind "$root" "$root"
for pair in $mounts; do mkdir -p "$root${pair#*:}"; mount --bind "${pair%%:*}" "$root${pair#*:}"; done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" --groups= "$root" env -i -C "$folder" "$@"
"""


class CannotRun(Exception):
    """Nothing here can run images, or an image is not there; the message says what to do."""


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        name: with its tag.
        config: what it says of itself, as docker stores it.
        size: bytes of all its files.
    """

    name: str
    config: Mapping[str, Any]
    size: int

    @property
    def command(self) -> list[str]:
        """Its entrypoint and command."""
        return [*(self.config.get("Entrypoint") or ()), *(self.config.get("Cmd") or ())]

    @property
    def health_check(self) -> list[str]:
        """The command of its health check, empty when it has none."""
        test: list[str] = (self.config.get("Healthcheck") or {}).get("Test") or ["NONE"]
        return test[1:]


class Runner(Protocol):
    """A way to run images."""

    def image(self, name: str) -> Image:
        """Looks an image up."""

    def command(
        self, image: Image, words: Sequence[str], env: Mapping[str, str], mounts: Mapping[Path, str]
    ) -> list[str]:
        """The command on this machine that runs `words` in an image; `mounts` are read-only, host to container."""


class Docker:
    """`docker run`."""

    def image(self, name: str) -> Image:
        """Looks an image up."""
        described = json.loads(_output("docker", "image", "inspect", name))[0]
        return Image(name, described["Config"], described["Size"])

    def command(
        self, image: Image, words: Sequence[str], env: Mapping[str, str], mounts: Mapping[Path, str]
    ) -> list[str]:
        """The command on this machine that runs `words` in an image."""
        options = ["--rm", "--read-only", "--tmpfs=/tmp", "--network=host", "--cap-drop=ALL"]
        options += ["--security-opt=no-new-privileges", f"--user={image.config['User']}", f"--entrypoint={words[0]}"]
        options += [f"--env={name}={value}" for name, value in env.items()]
        options += [f"--volume={host}:{inside}:ro" for host, inside in mounts.items()]
        return ["docker", "run", *options, image.name, *words[1:]]


class Buildah:
    """`buildah mount` and the kernel."""

    def __init__(self) -> None:
        self._roots: dict[str, tuple[str, str]] = {}

    def image(self, name: str) -> Image:
        """Looks an image up, and mounts it."""
        local = f"localhost/{name}"
        config = json.loads(_output("buildah", "inspect", "--type=image", local))["Docker"]["config"]
        if name not in self._roots:
            container = _output("buildah", "from", "--pull-never", local).strip()
            self._roots[name] = (container, _output("buildah", "mount", container).strip())
        return Image(name, config, _size(Path(self._roots[name][1])))

    def command(
        self, image: Image, words: Sequence[str], env: Mapping[str, str], mounts: Mapping[Path, str]
    ) -> list[str]:
        """The command on this machine that runs `words` in an image."""
        given = dict(pair.split("=", 1) for pair in image.config["Env"]) | dict(env)
        pairs = " ".join(f"{host}:{inside}" for host, inside in mounts.items())
        where = [self._roots[image.name][1], image.config["User"], image.config["WorkingDir"], pairs]
        inside = [*(f"{name}={value}" for name, value in given.items()), *words]
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        return [*unshare, "sh", "-c", _UNPRIVILEGED, "sh", *where, *inside]

    def close(self) -> None:
        """Unmounts all."""
        for container, _ in self._roots.values():
            _output("buildah", "rm", container)


@contextmanager
def runner() -> Iterator[Runner]:
    """Docker where its daemon runs, else buildah.

    Raises:
        CannotRun: there is neither, or buildah without root.
    """
    if shutil.which("docker") and not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        yield Docker()
        return
    if not shutil.which("buildah"):
        raise CannotRun("NOT CHECKED: neither a running docker nor buildah is here")
    if os.getuid():
        raise CannotRun("NOT CHECKED: images of buildah are run with unshare and chroot, which needs root")
    buildah = Buildah()
    try:
        yield buildah
    finally:
        buildah.close()


def run(found: Runner, image: Image, words: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a command in an image prints.

    Raises:
        CannotRun: it failed.
    """
    return _output(*found.command(image, words, env or {}, {}))


def _output(*command: str) -> str:
    with tempfile.TemporaryFile("w+") as errors:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, timeout=300)
        errors.seek(0)
        if ended.returncode:
            told = " | ".join(errors.read().splitlines()[-3:])
            raise CannotRun(f"{' '.join(command)[:200]} ended with {ended.returncode}: {told}")
    return ended.stdout


def _size(root: Path) -> int:
    """Bytes of all regular files, each counted once."""
    seen: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.lstat(Path(folder, name))
            seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())
