"""feature_store.production.yaml says what the local settings say, in Feast's own options, and holds no secret."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from feast import FeatureService, FeatureStore, FeatureView, FileSource, OnDemandFeatureView, RepoConfig
from feast.feature_view_projection import FeatureViewProjection
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.infra.registry.sql import SqlRegistryConfig
from feast.repo_config import BATCH_ENGINE_CLASS_FOR_TYPE, OFFLINE_STORE_CLASS_FOR_TYPE

from feature_repo.batch_features import write_profiles
from feature_repo.definitions import configured, definitions
from feature_repo.errors import StoreUnavailable
from feature_repo.event_log import read_log
from feature_repo.labels import no_labels
from feature_repo.materialize import materialize
from feature_repo.settings import FEAST_PROJECT, KEY_TTL_SECONDS, FeatureSettings
from feature_repo.sources import SparkFolder
from simulators.local_services import free_port
from tests.conftest import ROOT
from tests.redis_servers import redis_cluster

FILE = ROOT / "feature_repo" / "feature_store.production.yaml"
GNN_VERSION = "0123456789ab"
REFERENCE = re.compile(r"\$\{(\w+)\}")


def production(**environment: str) -> dict[str, Any]:
    """The file as Feast reads it, under these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        found: dict[str, Any] = yaml.safe_load(os.path.expandvars(FILE.read_text()))
    return found


def projections_of(view: OnDemandFeatureView) -> list[FeatureViewProjection]:
    """What an on-demand view reads of others."""
    return list(view.source_feature_view_projections.values())


def test_addresses_come_from_the_environment_whole() -> None:
    config = production()
    assert REFERENCE.fullmatch(config["registry"]["path"])
    assert REFERENCE.fullmatch(config["online_store"]["connection_string"])


def test_every_variable_is_described() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    settings = "".join(line for line in FILE.read_text().splitlines(keepends=True) if not line.startswith("#"))
    for name in REFERENCE.findall(settings):
        assert f"`{name}`" in page


def test_both_settings_name_the_same_project_keys_and_expiry() -> None:
    local = yaml.safe_load((ROOT / "feature_repo" / "feature_store.yaml").read_text())
    ours = FeatureSettings().repo_config()
    assert (ours.project, ours.online_store.key_ttl_seconds) == (FEAST_PROJECT, KEY_TTL_SECONDS)
    for other in (local, production()):
        assert other["project"] == FEAST_PROJECT
        assert other["online_store"]["key_ttl_seconds"] == KEY_TTL_SECONDS
        assert other["entity_key_serialization_version"] == ours.entity_key_serialization_version


def test_every_option_is_one_of_feasts() -> None:
    config = production(FRAUD_REGISTRY_URL="postgresql+psycopg://u:p@db/feast", FRAUD_REDIS_CLUSTER="a:6379")
    known = {field.alias or name for name, field in RepoConfig.model_fields.items()}
    assert set(config) <= known
    for section, model in (("registry", SqlRegistryConfig), ("online_store", RedisOnlineStoreConfig)):
        assert set(config[section]) <= set(model.model_fields)
        model(**config[section])
    # pyspark is not in this environment: `make check-scale` loads the whole file and runs it.
    assert config["offline_store"]["type"] in OFFLINE_STORE_CLASS_FOR_TYPE
    assert config["batch_engine"]["type"] in BATCH_ENGINE_CLASS_FOR_TYPE


def test_an_awkward_password_reaches_redis_as_it_is() -> None:
    address = r'a:6379,b:6380,username=feast,password="12\u002c3\u0027: #=",ssl=true'
    nodes, options = RedisOnlineStore._parse_connection_string(
        production(FRAUD_REDIS_CLUSTER=address)["online_store"]["connection_string"]
    )
    assert nodes == [{"host": "a", "port": "6379"}, {"host": "b", "port": "6380"}]
    assert options == {"username": "feast", "password": "12,3': #=", "ssl": True}


def test_every_view_is_read_from_object_storage(tmp_path: Path) -> None:
    (tmp_path / "embeddings" / GNN_VERSION).mkdir(parents=True)
    objects = definitions(tmp_path, SparkFolder("s3a://bucket/offline/"))
    here = {d.name: d for d in definitions(tmp_path) if isinstance(d, FeatureView)}
    views = [d for d in objects if isinstance(d, FeatureView)]
    projections = [p for d in objects if isinstance(d, FeatureService) for p in d.feature_view_projections]
    projections += [p for d in objects if isinstance(d, OnDemandFeatureView) for p in projections_of(d)]
    assert {v.name for v in views} == set(here)
    assert projections
    for found in (*views, *(p for p in projections if p.name in here)):
        source, local = found.batch_source, here[found.name].batch_source
        assert isinstance(source, SparkSource)
        assert isinstance(local, FileSource)
        assert (source.name, source.timestamp_field, source.file_format) == (local.name, "event_timestamp", "parquet")
        assert source.path == local.path.replace(str(tmp_path), "s3a://bucket/offline")


def test_the_environment_chooses_where_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_FEATURES_OFFLINE", str(tmp_path))
    kinds = {type(d.batch_source) for d in configured(FeatureSettings()) if isinstance(d, FeatureView)}
    assert kinds == {FileSource}
    monkeypatch.setenv("FRAUD_FEATURES_OBJECT_STORAGE", "gs://bucket/offline")
    kinds = {type(d.batch_source) for d in configured(FeatureSettings()) if isinstance(d, FeatureView)}
    assert kinds == {SparkSource}


def test_materialisation_runs_on_a_redis_cluster_under_a_sql_registry(small_log: Path, tmp_path: Path) -> None:
    offline = tmp_path / "offline"
    write_profiles(read_log(small_log), no_labels(), offline)
    with redis_cluster(tmp_path / "cluster") as nodes:
        addresses = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        config = production(FRAUD_REGISTRY_URL=f"sqlite:///{tmp_path}/registry.sqlite", FRAUD_REDIS_CLUSTER=addresses)
        del config["batch_engine"]
        config["offline_store"] = {"type": "duckdb"}
        (tmp_path / "feature_store.yaml").write_text(yaml.safe_dump(config))
        # Any node will do: the ledger's keys lie on one of them, and entities on all.
        for number, node in enumerate(nodes):
            settings = FeatureSettings(
                redis_url=f"redis://127.0.0.1:{node.port}",
                redis_type="redis_cluster",
                registry=tmp_path / "unused.db",
                offline=offline,
                feast_settings=tmp_path / "feature_store.yaml",
            )
            runs = materialize(settings, datetime(2026, 1, 13, tzinfo=UTC))
            assert all(bool(run.rows) == (number == 0) for run in runs)
        profiles = pd.read_parquet(offline / "rider_profile.parquet").sort_values("event_timestamp")
        latest = profiles.groupby("rider_id")["rider_lifetime_trips"].last()
        found = FeatureStore(config=settings.store_config()).get_online_features(
            features=["rider_profile:rider_lifetime_trips"], entity_rows=[{"rider_id": rider} for rider in latest.index]
        )
        assert found.to_dict()["rider_lifetime_trips"] == latest.tolist()
        assert all(node.client.dbsize() for node in nodes)
        assert not (tmp_path / "unused.db").exists()


def test_materialisation_says_that_a_cluster_is_gone(tmp_path: Path) -> None:
    settings = FeatureSettings(
        redis_url=f"redis://127.0.0.1:{free_port()}",
        redis_type="redis_cluster",
        registry=tmp_path / "registry.db",
        offline=tmp_path,
    )
    with pytest.raises(StoreUnavailable):
        materialize(settings, datetime(2026, 1, 13, tzinfo=UTC))
