"""What a local run may delete and connect to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.repo_config import load_repo_config

from components.errors import RegistryError
from components.rollout import check_fusion
from feature_repo.settings import FEAST_PROJECT, KEY_TTL_SECONDS, FeatureSettings
from pipelines.errors import StepError
from pipelines.workspace import Workspace
from tests.conftest import ROOT
from tests.processes import needs_proc, processes_with, wait_until


def test_a_demo_empties_only_a_folder_of_its_own(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    with pytest.raises(StepError, match="not made by `fraud`"):
        Workspace(tmp_path).reset()
    assert precious.read_text() == "keep me"
    home = Workspace(tmp_path / "home")
    home.reset()
    (home.root / "old").write_text("stale")
    home.reset()
    assert not (home.root / "old").exists()


SILENT_STEPS = """
import os, sys, time
from pipelines.local_pipeline import run_steps
run_steps(lambda: (open(sys.argv[1] + "/started", "w"), time.sleep(3600)), sys.argv[1:])
"""
COMMAND = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2], str(os.getpid())], start_new_session=True)
time.sleep(3600)
"""


@needs_proc
def test_steps_end_with_the_command_that_started_them_even_if_they_never_say_a_word(tmp_path: Path) -> None:
    (tmp_path / "arguments.json").write_text("{}")
    with subprocess.Popen([sys.executable, "-c", COMMAND, SILENT_STEPS, str(tmp_path)], cwd=ROOT) as command:
        try:
            wait_until((tmp_path / "started").exists)
        finally:
            command.kill()
    try:
        wait_until(lambda: not processes_with(str(tmp_path)))
    finally:
        for process in processes_with(str(tmp_path)):
            os.kill(process, signal.SIGKILL)


def test_a_fusion_bundle_must_know_every_pair_that_may_answer(tmp_path: Path) -> None:
    (tmp_path / "fusion.json").write_text(json.dumps({"pairs": [{"lightgbm": "new", "gnn": "old"}]}))
    check_fusion(tmp_path, [("new", "old")])
    with pytest.raises(RegistryError, match="does not know LightGBM older with GNN old"):
        check_fusion(tmp_path, [("new", "old"), ("older", "old")])


def test_feast_gets_the_whole_redis_address() -> None:
    settings = FeatureSettings(redis_url="rediss://worker:se%2Fcret@redis.example:6380/2")
    text = settings.repo_config().online_store.connection_string
    nodes, options = RedisOnlineStore._parse_connection_string(text)
    assert nodes == [{"host": "redis.example", "port": "6380"}]
    assert options == {"db": 2, "username": "worker", "password": "se/cret", "ssl": True}


@pytest.mark.parametrize("secret", ["a,b=c", "1234", "true", '"', "ü{}"])
def test_feast_gets_the_redis_login_to_the_letter(secret: str) -> None:
    settings = FeatureSettings(
        redis_url=f"rediss://:{quote(secret, safe='')}@redis.example?ssl_ca_certs=/etc/ca.crt&ssl_check_hostname=false"
    )
    text = settings.repo_config().online_store.connection_string
    nodes, options = RedisOnlineStore._parse_connection_string(text)
    assert nodes == [{"host": "redis.example", "port": "6379"}]
    assert options == {"password": secret, "ssl": True, "ssl_ca_certs": "/etc/ca.crt", "ssl_check_hostname": False}


def test_the_feast_command_has_the_same_store_as_our_code() -> None:
    theirs = load_repo_config(ROOT / "feature_repo", ROOT / "feature_repo" / "feature_store.yaml")
    ours = FeatureSettings().repo_config()
    assert theirs.project == ours.project == FEAST_PROJECT
    assert theirs.online_store == ours.online_store
    assert theirs.online_store.key_ttl_seconds == KEY_TTL_SECONDS
    registry = Path(theirs.registry if isinstance(theirs.registry, str) else theirs.registry.path)
    assert (ROOT / "feature_repo" / registry).resolve() == (ROOT / FeatureSettings().registry).resolve()
