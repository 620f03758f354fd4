"""`python -m tests.checks.scale`: the same materialisation here and by Spark into a Redis Cluster, byte for byte.

The left side is the local one: DuckDB, Feast's own engine, one Redis. The right side is feature_store.production.yaml
as it stands: a SQL registry, Spark in its local mode, a Redis Cluster of three masters. Also compared is the
point-in-time join of both offline stores.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import redis
from feast import FeatureStore
from rich.console import Console

from feature_repo.batch_features import write_batch_features
from feature_repo.event_log import log_days, read_log
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import PROFILE_KINDS
from feature_repo.ingestion import ingest_files
from feature_repo.labels import read_labels
from feature_repo.materialize import materialize
from feature_repo.pseudonyms import ENTITY_KINDS, Pseudonymiser
from feature_repo.settings import EMBEDDING_DIM, KEY_TTL_SECONDS, FeatureSettings
from pipelines.local_stack import PROJECT_ROOT
from pipelines.report import Row
from simulators.local_services import RedisServer, free_port
from simulators.ride_hailing import WorldSettings, simulate
from tests.bounds import conclude
from tests.checks.scale_spark import cells_that_differ, join
from tests.checks.spark_feast import NotInstalled, SparkFeast
from tests.checks.stored_hashes import compare_hashes, stored_hashes, unexpiring
from tests.redis_servers import ClusterNode, redis_cluster

_GNN_VERSION = "0123456789ab"
_BEGINNING = "1970-01-02T00:00:00+00:00"


class EngineFailed(Exception):
    """A command that has to succeed did not; the message has the end of its log."""


def check(days: int, events_per_day: int, joined: int, folder: Path, console: Console) -> list[Row]:
    """All rows of the report.

    Args:
        days: simulated days.
        events_per_day: of the simulated city.
        joined: events whose training features are compared, the latest.
        folder: for everything that is written.
        console: told about each step.

    Raises:
        NotInstalled: Spark cannot run here.
        EngineFailed: Spark did not do what it was asked to.
    """
    offline = folder / "offline"
    nobody = SparkFeast(folder, offline, f"127.0.0.1:{free_port()}")
    with console.status("simulating, building features"):
        until = _write_files(days, events_per_day, joined, folder)
    with RedisServer(folder / "redis") as server, redis_cluster(folder / "cluster") as nodes:
        local = FeatureSettings(redis_url=server.url, registry=folder / "registry.db", offline=offline)
        with console.status("materialising with Feast's own engine"):
            here_s = _timed(lambda: materialize(local, until))
        spark = SparkFeast(folder, offline, ",".join(f"127.0.0.1:{node.port}" for node in nodes))
        with console.status("applying the definitions to the SQL registry"):
            _require(spark, spark.feast("apply", "--skip-source-validation"))
        with console.status("materialising with Spark while Redis is gone"):
            done = nobody.feast("materialize", _BEGINNING, until.isoformat(), "--views", "city_profile")
            refused = not done and "redis.exceptions" in nobody.log_tail(50)
        with console.status("materialising with Spark"):
            there_s = _timed(lambda: _require(spark, spark.materialize(until)))
        rows = _stored_rows(server, nodes)
        with console.status("joining with DuckDB and with Spark"):
            rows += _join_rows(local, spark, folder)
    return [
        *rows,
        Row("Spark with Redis gone", "fails" if refused else "says that it is done", "", "fails", refused),
        Row("materialisation, Feast's own engine", here_s, "s"),
        Row("materialisation, Spark in local mode, start included", there_s, "s"),
    ]


def _write_files(days: int, events_per_day: int, joined: int, folder: Path) -> datetime:
    """Simulates a city and writes its feature files and entity rows; returns the last publication."""
    simulate(WorldSettings(days=days, events_per_day=events_per_day), folder / "world")
    ingest_files(folder / "world" / "events", folder / "log", Pseudonymiser(b"a key for the checks only"))
    log = read_log(folder / "log")
    write_batch_features(log, read_labels(folder / "world" / "labels"), folder / "offline")
    until = datetime.combine(log_days(folder / "log")[-1] + timedelta(days=1), clock_time(), UTC)
    _write_embeddings(log, folder / "offline" / "embeddings" / _GNN_VERSION, until)
    scored = log.filter(pc.is_in(log.column("event_type"), value_set=pa.array(SCORED_EVENT_TYPES)))
    latest = scored.slice(max(0, len(scored) - joined))
    names = [f"{kind}_id" for kind in PROFILE_KINDS]
    rows = latest.select(["event_id", "city", *names]).to_pandas()
    rows[names] = rows[names].fillna("")
    rows["event_timestamp"] = latest.column("ingested_at").to_pandas()
    rows.to_parquet(folder / "rows.parquet")
    return until


def _write_embeddings(log: pa.Table, folder: Path, published: datetime) -> None:
    """Embeddings of every entity, with numbers among them that a detour through text or float64 would not keep."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True)
    for kind in ENTITY_KINDS:
        ids = log.column(f"{kind}_id").drop_null().unique().sort()
        vectors = rng.normal(size=(len(ids), EMBEDDING_DIM)).astype(np.float32)
        vectors[0, :4] = [-0.0, np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max, 0.1]
        stamps = pa.array([published] * len(ids), pa.timestamp("us", "UTC"))
        table = pa.table({f"{kind}_id": ids, "embedding": list(vectors), "event_timestamp": stamps})
        pq.write_table(table, folder / f"{kind}.parquet")


def _stored_rows(server: RedisServer, nodes: Sequence[ClusterNode]) -> list[Row]:
    with redis.Redis.from_url(server.url) as one, redis.RedisCluster("127.0.0.1", nodes[0].port) as many:
        found = compare_hashes(stored_hashes(one), stored_hashes(many))
        lasting = unexpiring(one, KEY_TTL_SECONDS) + unexpiring(many, KEY_TTL_SECONDS)
    holding = sum(int(node.client.dbsize()) > 0 for node in nodes)
    return [
        Row("entities", found.entities, "", "some", found.entities > 0),
        Row("entities in one store only", found.alone, "", "0", found.alone == 0),
        Row("values compared", found.values),
        Row("values that differ in any byte", found.different, "", "0", found.different == 0),
        Row("entities that would never expire", lasting, "", "0", lasting == 0),
        Row("masters that hold entities", holding, "", f"{len(nodes)}", holding == len(nodes)),
    ]


def _join_rows(local: FeatureSettings, spark: SparkFeast, folder: Path) -> list[Row]:
    rows, out = folder / "rows.parquet", folder / "joined.parquet"
    ours = join(FeatureStore(config=local.repo_config()), rows)
    _require(spark, spark.join(rows, out))
    differ = cells_that_differ(ours, pd.read_parquet(out))
    return [
        Row("point-in-time join, events", len(ours), "", "some", len(ours) > 0),
        Row("point-in-time join, cells compared", int(ours.size)),
        Row("point-in-time join, cells that differ", differ, "", "0", differ == 0),
    ]


def _timed(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _require(spark: SparkFeast, succeeded: bool) -> None:
    if not succeeded:
        raise EngineFailed(spark.log_tail())


def main() -> int:
    """Returns 1 when a value differs, 2 when Spark cannot run here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--events-per-day", type=int, default=1000)
    parser.add_argument("--joined", type=int, default=3000, help="events whose training features are compared")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / ".local" / "reports" / "check-scale.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    console = Console(highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="check-scale-") as folder:
            rows = check(given.days, given.events_per_day, given.joined, Path(folder), console)
    except NotInstalled as missing:
        console.print(f"[red]{missing}[/red]")
        return 2
    except EngineFailed as failed:
        console.print(f"[red]Spark did not do its work:[/red]\n{failed}", markup=True)
        return 1
    return conclude(rows, given.out, console)


if __name__ == "__main__":
    code = main()
    # DuckDB's binding reports its own types as leaks, forty lines, when Python shuts down: leave before that.
    sys.stdout.flush()
    os._exit(code)
