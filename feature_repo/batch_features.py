"""The offline side of the store's features: DuckDB SQL over the event log.

`activity_history` means exactly what `real_time_features` and `window_merge` mean, written independently as a
self-join, so that a parity test compares two definitions and not one with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from feature_repo.duckdb_connection import connect
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import PROFILE_KINDS
from feature_repo.label_history import history_query, spells_query
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.tiles import ACTIVITY_KINDS, LONGEST_WINDOW_S, SKETCH_K, WINDOWS, ActivityKind, Window


def write_batch_features(
    events: pa.Table, labels: pa.Table, out: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Writes `<kind>_activity_history`, `<kind>_profile` and `city_profile` parquet files for a log in stream order.

    Args:
        events: rows of the event log.
        labels: rows of the label log, see `labels.LABEL_COLUMNS`.
        out: folder of the Feast file sources.
        progress: called with (files written, files in all).
    """
    with _log_database(events, labels) as connection:
        files = len(ACTIVITY_KINDS) + _copy_profiles(connection, out)
        for done, kind in enumerate(ACTIVITY_KINDS.values(), files - len(ACTIVITY_KINDS) + 1):
            _write_activity(connection, kind, out / f"{kind.name}_activity_history.parquet")
            if progress:
                progress(done, files)


def write_profiles(events: pa.Table, labels: pa.Table, out: Path) -> None:
    """Writes only what serving needs to materialise: `<kind>_profile` and `city_profile`."""
    with _log_database(events, labels) as connection:
        _copy_profiles(connection, out)


@contextmanager
def _log_database(events: pa.Table, labels: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.register("log_rows", events)
        connection.execute(f"CREATE TABLE log AS {_LOG_QUERY}")
        connection.register("label_rows", labels)
        connection.execute(f"CREATE TABLE fraud_spells AS {spells_query()}")
        yield connection


def _copy_profiles(connection: duckdb.DuckDBPyConnection, out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    queries = {f"{kind}_profile": _profile_query(kind) for kind in PROFILE_KINDS} | {"city_profile": _CITY_QUERY}
    for name, query in queries.items():
        _copy(connection, query, out / f"{name}.parquet")
    return len(queries)


def _copy(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    quoted = str(target).replace("'", "''")
    connection.execute(f"COPY ({query}) TO '{quoted}' (FORMAT parquet)")


def _write_activity(connection: duckdb.DuckDBPyConnection, kind: ActivityKind, target: Path) -> None:
    """Writes one row per scored event that has such an entity: event_id, event_timestamp (arrival), features.

    Some of the scored events at a time, since the self-join is as long as all pairs of an entity's events within 30
    days; the events of one busy entity fall into all chunks alike.
    """
    connection.execute(_activity_table(kind))
    (pairs,) = connection.execute(_pairs_estimate(kind)).fetchone() or (0,)
    chunks = 1 + int(pairs or 0) // _PAIRS_AT_ONCE
    for chunk in range(chunks):
        scored = f"{_scored_with(kind)} AND stream_seq % {chunks} = {chunk}"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE pairs AS {_pairs_query(kind, scored)}")
        connection.execute(f"INSERT INTO {kind.name}_activity {_activity_query(kind, scored)}")
    _copy(connection, f"FROM {kind.name}_activity", target)


# The 64-bit hash inside a pseudonym, and its kind with key id, both unique to the entity.
_HASHES = ", ".join(
    f"('0x' || split_part({kind}_id, '-', 2))::UBIGINT AS {kind}_hash, {kind}_id" for kind in ENTITY_KINDS
)
_LOG_QUERY = f"""
SELECT stream_seq, event_id, event_type, city, COALESCE(amount, 0) AS amount, {_HASHES},
       event_timestamp, ingested_at, epoch_us(event_timestamp) AS ts,
       {", ".join(f"(epoch_us(event_timestamp) // {w.tile_s * 1_000_000}) AS t{w.tile_s}" for w in WINDOWS[:3])},
       distance_m, duration_s, gps_accuracy_m
FROM log_rows
"""  # noqa: S608 - made of constants


def _inside(window: Window) -> str:
    tile = f"t{window.tile_s}"
    return f"h.{tile} > e.{tile} - {window.tiles} AND h.{tile} <= e.{tile}"


def _scored_with(kind: ActivityKind) -> str:
    """SQL for the scored events that have an entity of `kind`."""
    scored = ", ".join(f"'{t}'" for t in SCORED_EVENT_TYPES)
    return f"SELECT * FROM log WHERE {_present(kind)} AND event_type IN ({scored})"  # noqa: S608 - made of constants


def _present(kind: ActivityKind) -> str:
    return " AND ".join(f"{name} IS NOT NULL" for name in kind.id_fields)


def _pairs_estimate(kind: ActivityKind) -> str:
    """SQL for about how many pairs the self-join has: half of the pairs lie in one month, half in two."""
    keys = ", ".join(kind.id_fields)
    return f"""
    SELECT sum(n * n) FROM (SELECT count(*) AS n FROM log WHERE {_present(kind)}
                            GROUP BY {keys}, t{WINDOWS[-1].tile_s} // {WINDOWS[-1].tiles})
    """  # noqa: S608 - made of constants


def _pairs_query(kind: ActivityKind, scored: str) -> str:
    """SQL for every (event, event seen before it), with the narrowest window that holds it; windows nest."""
    same = " AND ".join(f"h.{name} = e.{name}" for name in kind.id_fields)
    window = " ".join(f"WHEN {_inside(w)} THEN {i}" for i, w in enumerate(WINDOWS))
    amounts = []
    for i, measure in enumerate(kind.measures):
        value = "1" if measure.op == "count" else "h.amount"
        types = ", ".join(f"'{t}'" for t in measure.event_types)
        amounts.append(f"CASE WHEN h.event_type IN ({types}) THEN {value} ELSE 0 END AS m{i}")
    other = f"h.{kind.counterpart.removesuffix('_id')}_hash" if kind.counterpart else "NULL"
    return f"""
    SELECT e.stream_seq AS seq, h.ts, {other} AS other, CASE {window} END AS w, {", ".join(amounts)}
    FROM ({scored}) e
    JOIN log h ON {same} AND h.stream_seq < e.stream_seq AND {_inside(WINDOWS[-1])}
    """  # noqa: S608 - made of constants


def _activity_table(kind: ActivityKind) -> str:
    columns = ", ".join(f"{name} DOUBLE" for name in kind.feature_names())
    return (
        f"CREATE OR REPLACE TEMP TABLE {kind.name}_activity (event_id VARCHAR, event_timestamp TIMESTAMPTZ, {columns})"
    )


def _activity_query(kind: ActivityKind, scored: str) -> str:
    """SQL for the activity columns, in table order, of the events whose pairs are in `pairs`."""
    counts = [
        f"COALESCE(sum(s{i}) FILTER (WHERE w <= {w}), 0)::DOUBLE"
        for i in range(len(kind.measures))
        for w in range(len(WINDOWS))
    ]
    sums = ", ".join(f"sum(m{i}) AS s{i}" for i in range(len(kind.measures)))
    columns = ", ".join(f"{value} AS c{i}" for i, value in enumerate(counts))
    distinct = [f"COALESCE(d.d{w}, 0)" for w in range(len(WINDOWS))] if kind.counterpart else []
    values = [f"COALESCE(a.c{i}, 0)" for i in range(len(counts))] + distinct
    age = (
        f"CASE WHEN a.latest IS NULL THEN {LONGEST_WINDOW_S}::DOUBLE "
        "ELSE greatest(0, e.ts - a.latest) / 1000000.0::DOUBLE END"
    )
    return f"""
    WITH by_window AS (SELECT seq, w, max(ts) AS latest, {sums} FROM pairs GROUP BY seq, w),
    additive AS (SELECT seq, max(latest) AS latest, {columns} FROM by_window GROUP BY seq)
    {_DISTINCT if kind.counterpart else ""}
    SELECT e.event_id, e.ingested_at, {", ".join(values)}, {age}
    FROM ({scored}) e LEFT JOIN additive a ON a.seq = e.stream_seq
    {"LEFT JOIN counted d ON d.seq = e.stream_seq" if kind.counterpart else ""}
    """  # noqa: S608 - made of constants


def _distinct() -> str:
    """SQL for the distinct counterparts of each event by window: exact below k, else by the k-th smallest hash."""
    windows = range(len(WINDOWS))
    exact = ", ".join(f"count(*) FILTER (WHERE w <= {w}) AS n{w}" for w in windows)
    large = " OR ".join(f"n{w} >= {SKETCH_K}" for w in windows)
    kth = ", ".join(f"(min(other, {SKETCH_K}) FILTER (WHERE w <= {w}))[{SKETCH_K}] AS k{w}" for w in windows)
    estimate = ", ".join(
        f"CASE WHEN n{w} < {SKETCH_K} THEN n{w}::DOUBLE "
        f"ELSE {SKETCH_K - 1}::DOUBLE / (k{w}::DOUBLE / pow(2::DOUBLE, 64)) END AS d{w}"
        for w in windows
    )
    return f""",
    others AS MATERIALIZED (SELECT seq, other, min(w) AS w FROM pairs WHERE other IS NOT NULL GROUP BY seq, other),
    exact AS MATERIALIZED (SELECT seq, {exact} FROM others GROUP BY seq),
    large AS (SELECT seq, {kth} FROM others SEMI JOIN (FROM exact WHERE {large}) USING (seq) GROUP BY seq),
    counted AS (SELECT seq, {estimate} FROM exact LEFT JOIN large USING (seq))
    """  # noqa: S608 - made of constants


# About a gigabyte of pairs with what is made of them.
_PAIRS_AT_ONCE = 10_000_000
_DISTINCT = _distinct()


def _profile_query(kind: str) -> str:
    """One row per entity and day on which it appeared or a verdict on it changed, usable from the following midnight
    (its publication).
    """
    return f"""
    SELECT {kind}_id, (day + INTERVAL 1 DAY)::TIMESTAMPTZ AS event_timestamp,
           min(first_us) OVER past AS {kind}_first_seen_us, (sum(trips) OVER past)::BIGINT AS {kind}_lifetime_trips,
           COALESCE(last_value(frauds IGNORE NULLS) OVER past, 0)::BIGINT AS {kind}_confirmed_frauds,
           COALESCE(last_value(last_us IGNORE NULLS) OVER past, -1)::BIGINT AS {kind}_last_fraud_us
    FROM (SELECT {kind}_id, date_trunc('day', ingested_at) AS day, min(ts) AS first_us,
                 count(*) FILTER (WHERE event_type = 'trip_completed') AS trips
          FROM log WHERE {kind}_id IS NOT NULL GROUP BY 1, 2)
    FULL JOIN ({history_query(kind)}) USING ({kind}_id, day)
    WINDOW past AS (PARTITION BY {kind}_id ORDER BY day)
    """  # noqa: S608 - made of constants


# A city's norms of one arrival day, usable from the following midnight.
_CITY_QUERY = """
SELECT city, (date_trunc('day', ingested_at) + INTERVAL 1 DAY)::TIMESTAMPTZ AS event_timestamp,
       quantile_cont(amount * 1000.0 / distance_m, 0.5) FILTER (WHERE distance_m > 0)::DOUBLE AS city_fare_per_km,
       quantile_cont(distance_m * 3.6 / duration_s, 0.5) FILTER (WHERE duration_s > 0)::DOUBLE AS city_speed_kmh,
       quantile_cont(gps_accuracy_m, 0.9)::DOUBLE AS city_gps_accuracy_m
FROM log WHERE event_type = 'trip_completed' GROUP BY 1, 2
"""
