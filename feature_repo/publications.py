"""What the file of a batch view has published: its rows, by the instant from which they may be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from feature_repo.duckdb_connection import connect
from feature_repo.errors import CorruptValue, MissingData

# Instant from which rows may be used, microseconds since the epoch -> how many there are, and a hash of them all.
Publications = dict[int, str]


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A parquet file of rows that each name an entity and the instant from which they may be used.

    Attributes:
        path: the file.
        keys: the columns that name the entity.
        features: the columns that describe it.
        timestamp: the column of the instant, with its time zone.
    """

    path: Path
    keys: tuple[str, ...]
    features: tuple[str, ...]
    timestamp: str

    def publications(self, until_us: int) -> Publications:
        """A digest of each publication up to an instant; equal digests mean equal rows, in whatever order.

        DuckDB's hash may change with its version: then every publication counts as changed, which costs one full run.

        Raises:
            MissingData: there is no file.
            CorruptValue: it cannot be read, or lacks a column.
        """
        columns = ", ".join(map(_quoted, sorted({*self.keys, *self.features})))
        digest = f"count(*) || ':' || sum(hash({columns})::HUGEINT)"
        with self._rows(until_us) as connection:
            found = connection.execute(
                f"SELECT usable_us, {digest} FROM published GROUP BY 1 ORDER BY 1"  # noqa: S608 - our own columns
            ).fetchall()
        return dict(found)

    def entities(self, start_us: int, until_us: int) -> int:
        """How many entities have a row that became usable within the interval, both ends included."""
        with self._rows(until_us) as connection:
            ((count,),) = connection.execute(
                f"SELECT count(*) FROM (SELECT DISTINCT {self._keys} FROM published WHERE usable_us >= ?)",  # noqa: S608
                [start_us],
            ).fetchall()
        return int(count)

    def sample(self, until_us: int, size: int) -> list[dict[str, str]]:
        """The keys of up to `size` entities with a row up to an instant: by hash, so anybody, but always the same."""
        with self._rows(until_us) as connection:
            found = connection.execute(
                f"SELECT DISTINCT {self._keys} FROM published ORDER BY hash({self._keys}) LIMIT ?",  # noqa: S608
                [size],
            ).fetchall()
        return [dict(zip(self.keys, row, strict=True)) for row in found]

    @property
    def _keys(self) -> str:
        return ", ".join(map(_quoted, self.keys))

    @contextmanager
    def _rows(self, until_us: int) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database whose view `published` has the rows up to an instant, with the instant as `usable_us`."""
        if not self.path.exists():
            raise MissingData(f"no file {self.path}: run `fraud materialize`, which writes it")
        quoted = str(self.path).replace("'", "''")
        stamp = f"epoch_us({_quoted(self.timestamp)})"
        try:
            with connect() as connection:
                connection.execute(
                    f"CREATE VIEW published AS SELECT *, {stamp} AS usable_us FROM read_parquet('{quoted}')"  # noqa: S608
                    f" WHERE {stamp} <= {int(until_us)}"
                )
                yield connection
        except duckdb.Error as error:
            raise CorruptValue(f"{self.path} cannot be read: {str(error).splitlines()[0]}") from error


def first_difference(stored: Publications, found: Publications) -> int | None:
    """The earliest instant whose rows are new or not those that were stored; None when there is none.

    What is stored and no longer in the file is no difference: nothing could be written for it.
    """
    return min((at for at, digest in found.items() if stored.get(at) != digest), default=None)


def file_columns(keys: Sequence[str], features: Sequence[str]) -> str:
    """A text that changes when a view's columns do."""
    return ",".join([*sorted(keys), *sorted(features)])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
