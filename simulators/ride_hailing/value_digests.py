"""Digests of what a world says, column by column, whoever wrote its files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simulators.ride_hailing.folders import FOLDERS

_DIGITS = 16  # 64 bits tell any two worlds apart; nobody forges one


def value_digests(world: Path) -> dict[str, str]:
    """The digest of each column of a world: the first 16 hexadecimal digits of a SHA-256.

    It covers, file by file in the order of their paths: the path, the number of rows, which of them are known, and
    their values (numbers as eight bytes, little-endian; words as UTF-8 with a NUL between).

    Args:
        world: a finished world's folder.

    Returns:
        Digests by `table.column`: of `events`, `labels`, `truth`, and `riders` and its like from the snapshots.
    """
    sums: dict[str, Any] = {}
    for kind in FOLDERS:
        for path in sorted((world / kind).rglob("*.parquet")):
            table = pq.read_table(path, partitioning=None)
            for name in table.column_names:
                of_column = sums.setdefault(f"{path.stem if kind != 'truth' else kind}.{name}", hashlib.sha256())
                of_column.update(f"{path.relative_to(world).as_posix()}\0{table.num_rows}\0".encode())
                of_column.update(_canonical(table[name]))
    return {name: of_column.hexdigest()[:_DIGITS] for name, of_column in sorted(sums.items())}


def _canonical(column: pa.ChunkedArray) -> bytes:
    known: bytes = column.is_valid().to_numpy().astype("u1").tobytes()
    values: bytes
    if pa.types.is_string(column.type):
        values = "\0".join(pc.fill_null(column, "").to_pylist()).encode()
    elif pa.types.is_floating(column.type):
        values = pc.fill_null(column, 0.0).to_numpy().astype("<f8").tobytes()
    else:
        values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy().astype("<i8").tobytes()
    return known + values
