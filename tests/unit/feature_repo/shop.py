"""A feature store whose files are published day by day, for the tests of materialisation."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureStore

from feature_repo.batch_features import write_profiles
from feature_repo.definitions import definitions
from feature_repo.event_log import log_days, read_log
from feature_repo.labels import no_labels
from feature_repo.materialization_ledger import ledger_client
from feature_repo.materialize import ViewRun, batch_views, materialize
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.settings import EMBEDDING_DIM, FeatureSettings, RedisType

Store = dict[bytes, dict[bytes, bytes]]
LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)


class Shop:
    """A feature store over the small log, whose files can be published up to a day."""

    def __init__(self, log: Path, redis_url: str, folder: Path, redis_type: RedisType = "redis") -> None:
        self.events = read_log(log)
        self.labels = no_labels()
        self.days = [midnight(day) for day in log_days(log)]
        self.settings = FeatureSettings(
            redis_url=redis_url, redis_type=redis_type, registry=folder / "registry.db", offline=folder / "offline"
        )
        self.redis = ledger_client(redis_url, redis_type, 30)

    def publish(self, day: int, without: pa.Array | None = None) -> datetime:
        """Writes the files as of the end of the log's day `day`, without some events; returns that midnight."""
        until = self.days[day] + timedelta(days=1)
        keep = pc.less(self.events.column("ingested_at"), pa.scalar(until, pa.timestamp("us", "UTC")))
        if without is not None:
            keep = pc.and_(keep, pc.invert(pc.is_in(self.events.column("event_id"), value_set=without)))
        write_profiles(self.events.filter(keep), self.labels, self.settings.offline)
        return until

    def publish_embeddings(self, version: str, at: datetime, left: str = "") -> None:
        for kind in ENTITY_KINDS:
            ids = pc.unique(self.events.column(f"{kind}_id").drop_null())
            vectors = np.random.default_rng(int(at.timestamp())).normal(size=(len(ids), EMBEDDING_DIM))
            target = self.settings.offline / "embeddings" / version / f"{kind}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            stamps = pa.array([at] * len(ids), pa.timestamp("us", "UTC"))
            embeddings = [None if i == left else v for i, v in zip(ids.to_pylist(), vectors.tolist(), strict=True)]
            columns = {
                f"{kind}_id": ids,
                "embedding": pa.array(embeddings, pa.list_(pa.float32())),
                "event_timestamp": stamps,
            }
            pq.write_table(pa.table(columns), target)

    def run(self, until: datetime, **choices: Any) -> dict[str, ViewRun]:
        return {run.view: run for run in materialize(self.settings, until, **choices)}

    def entities(self) -> Store:
        """What the online store holds of every entity."""
        keys = [key for key in self.redis.keys("*") if not key.startswith(b"{fraud}")]
        return {key: self.redis.hgetall(key) for key in keys}

    def filled_by_feast(self, until: datetime) -> Store:
        """What Feast itself, in its default configuration, makes of an empty store."""
        self.redis.flushall()
        store = FeatureStore(config=self.settings.repo_config())
        objects = definitions(self.settings.offline)
        store.apply(objects)
        store.materialize(LONG_AGO, until, feature_views=[view.name for view in batch_views(objects)])
        return self.entities()


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
