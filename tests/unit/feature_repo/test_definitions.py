"""What Feast registers: by its own command, and as services that are named by the version of a model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from feast import FeatureService, FeatureStore
from feast.repo_operations import get_repo_files

from feature_repo.definitions import definitions
from feature_repo.feature_names import MODEL_FEATURES, features_version, gnn_service, lightgbm_service
from feature_repo.services import ONLINE_SERVICE, TRAINING_SERVICE
from feature_repo.settings import FeatureSettings
from feature_repo.views import profile_views
from tests.conftest import ROOT

REPO = ROOT / "feature_repo"
GNN_VERSION = "0123456789ab"


def test_feast_imports_the_definitions_and_nothing_else() -> None:
    assert get_repo_files(REPO) == [REPO / "definitions.py"]


def test_the_feast_command_applies_the_repository(redis_url: str, tmp_path: Path) -> None:
    config = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    config["registry"] = str(tmp_path / "registry.db")
    config["online_store"]["connection_string"] = redis_url.removeprefix("redis://")
    (tmp_path / "feature_store.yaml").write_text(yaml.safe_dump(config))
    offline = tmp_path / "offline"
    (offline / "embeddings" / GNN_VERSION).mkdir(parents=True)
    command = [Path(sys.executable).with_name("feast"), "-f", tmp_path / "feature_store.yaml", "apply"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FRAUD_FEATURES_OFFLINE": str(offline)}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    store = FeatureStore(config=FeatureSettings(redis_url=redis_url, registry=tmp_path / "registry.db").repo_config())
    views = [*store.list_feature_views(), *store.list_on_demand_feature_views()]
    found = [*store.list_entities(), *views, *store.list_feature_services()]
    expected = {d.name for d in definitions(offline)}
    assert {d.name for d in found} >= expected
    assert {TRAINING_SERVICE, ONLINE_SERVICE, gnn_service(GNN_VERSION)} <= expected


def test_a_feature_list_has_one_version_by_its_names_and_their_order() -> None:
    version = features_version(MODEL_FEATURES)
    assert version == features_version(list(MODEL_FEATURES))
    others = [MODEL_FEATURES[:-1], MODEL_FEATURES[::-1], (*MODEL_FEATURES, "one_more"), ("ab", "c"), ("a", "bc")]
    assert len({version, *map(features_version, others)}) == 1 + len(others)
    assert lightgbm_service(MODEL_FEATURES) == TRAINING_SERVICE == f"fraud_lightgbm_{version}"


def test_the_service_of_an_earlier_feature_list_stays_registered(redis_url: str, tmp_path: Path) -> None:
    settings = FeatureSettings(redis_url=redis_url, registry=tmp_path / "registry.db")
    earlier = lightgbm_service(MODEL_FEATURES[:-1])
    FeatureStore(config=settings.repo_config()).apply(
        [*definitions(tmp_path), FeatureService(name=earlier, features=profile_views(tmp_path)[:1])]
    )
    store = FeatureStore(config=settings.repo_config())
    store.apply(definitions(tmp_path))
    assert {s.name for s in store.list_feature_services()} == {TRAINING_SERVICE, ONLINE_SERVICE, earlier}
