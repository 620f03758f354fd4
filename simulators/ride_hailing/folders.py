"""Where a world's files lie, and how a finished world is told from one that was interrupted.

Everything is written below a hidden folder beside its final place, moved there when the last day is done, and
`world.json` comes last: an interrupted run leaves the hidden folder and nothing else.
"""

from __future__ import annotations

import hashlib
import shutil
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from simulators.ride_hailing.errors import SimulationError

MANIFEST = "world.json"
FOLDERS = ("events", "labels", "decisions", "snapshots", "truth")
_UNFINISHED = ".unfinished"


def day_folder(world: Path, kind: str, day: date) -> Path:
    """Where the files of a day lie: `<world>/<kind>/day=YYYY-MM-DD`."""
    return world / kind / f"day={day.isoformat()}"


def prepare(out: Path, *, force: bool) -> Path:
    """Makes the folder, and empties it of an older world when forced, and of an interrupted run in any case.

    Returns:
        The hidden folder to write to.

    Raises:
        SimulationError: `out` holds something and `force` is not set, or it is not a folder.
    """
    if out.exists() and not out.is_dir():
        raise SimulationError(f"{out} is a file: give a folder for the world")
    hidden = out / _UNFINISHED
    shutil.rmtree(hidden, ignore_errors=True)
    if out.is_dir() and any(out.iterdir()):
        if not force:
            raise SimulationError(f"{out} is not empty: choose another folder, or force to replace the world in it")
        # Only what a world consists of: the folder may be somebody's home.
        (out / MANIFEST).unlink(missing_ok=True)
        for name in FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
    hidden.mkdir(parents=True)
    return hidden


def publish(out: Path, manifest: str) -> None:
    """Moves the finished files to their places, and the manifest last of all."""
    hidden = out / _UNFINISHED
    (hidden / MANIFEST).write_text(manifest, "utf-8")
    for name in (*FOLDERS, MANIFEST):
        if (hidden / name).exists():
            (hidden / name).rename(out / name)
    hidden.rmdir()


def write_table(table: pa.Table, path: Path) -> None:
    """Writes one parquet file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def digest(folder: Path) -> str:
    """SHA-256 over the sorted lines `path NUL sha256-of-file` of all data files."""
    lines = []
    for path in folder.rglob("*.parquet"):
        with path.open("rb") as file:
            of_file = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{path.relative_to(folder).as_posix()}\0{of_file}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
