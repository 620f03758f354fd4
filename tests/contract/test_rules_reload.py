"""Rules in the transformer as a process: they decide, change while it serves, and refuse to start when they are bad."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from inference_services.bundle import Bundle
from tests.contract.conftest import ROOT, Service, StartService
from tests.contract.fusion_bundle import NAME, write_fusion
from tests.contract.test_transformer_process import changed, post, wait_for_records
from tests.unit.inference_services.rule_files import content, rule


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rules")


def environment(work: Path, redis_url: str) -> dict[str, str]:
    return {
        "FRAUD_TRANSFORMER_REDIS_URL": redis_url,
        "FRAUD_TRANSFORMER_FUSION_URI": (work / "fusion").as_uri(),
        "FRAUD_TRANSFORMER_GNN_URL": "http://127.0.0.1:9",
        "FRAUD_TRANSFORMER_SPOOL_DIR": str(work / "spool"),
        "FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": "5000",
        "FRAUD_TRANSFORMER_RULES_FILE": str(work / "rules.yaml"),
        "FRAUD_TRANSFORMER_RULES_POLL_S": "0.1",
    }


@pytest.fixture(scope="module")
def transformer(
    start_service: StartService, predictor: Service, lightgbm_bundle: Bundle, redis_server: Any, work: Path
) -> Service:
    write_fusion(work / "fusion", lightgbm_bundle.sha12)
    (work / "rules.yaml").write_bytes(content(rule(action="block")))
    host = f"--predictor_host=127.0.0.1:{predictor.http_port}"
    env = environment(work, redis_server.url)
    return start_service("inference_services.transformer", NAME, host, env=env)


def decision(transformer: Service, event_id: str) -> str:
    answer = post(transformer, changed(event_id=event_id))
    assert answer.status_code == 200, answer.text
    decided: str = {o["name"]: o["data"] for o in answer.json()["outputs"]}["decision"][0]
    return decided


def metrics(transformer: Service) -> dict[str, float]:
    lines = httpx.get(f"{transformer.url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("fraud_rule")}


def wait(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the change was not seen in time"
        time.sleep(0.05)


def test_rules_change_while_the_process_serves(transformer: Service, redis_server: Any, work: Path):
    assert decision(transformer, "ruled-1") == "block"
    with redis.Redis.from_url(redis_server.url) as client:
        (record,) = wait_for_records(client, {"ruled-1"})
    assert (record["rules"]["decided_by"], record["reasons"][0]["rule"]) == ("dear", "dear")
    in_force = f'fraud_rules_info{{sha256="{record["rules"]["sha256"]}"}}'
    before = metrics(transformer)
    assert before['fraud_rule_matches_total{mode="live",rule="dear"}'] >= 1
    assert before[in_force] == 1

    (work / "rules.yaml").write_bytes(content(rule(when="amount > 5")))
    wait(lambda: metrics(transformer)["fraud_rules_file_refused"] == 1)
    assert decision(transformer, "ruled-2") == "block"
    assert metrics(transformer)[in_force] == 1
    assert "numbers are written with a decimal point" in transformer.log.read_text()

    (work / "next.yaml").write_bytes(content(rule("trusted", action="allow")))
    (work / "next.yaml").replace(work / "rules.yaml")
    wait(lambda: 'fraud_rule_matches_total{mode="live",rule="trusted"}' in metrics(transformer))
    assert decision(transformer, "ruled-3") == "allow"
    after = metrics(transformer)
    assert (after["fraud_rules_file_refused"], after["fraud_rules_reload_failures_total"]) == (0, 1)
    assert in_force not in after


def test_a_bad_file_refuses_to_start_in_one_line(transformer: Service, redis_server: Any, work: Path, tmp_path: Path):
    (tmp_path / "rules.yaml").write_bytes(content(rule(when="amont > 5.0")))
    env = {**environment(work, redis_server.url), "FRAUD_TRANSFORMER_RULES_FILE": str(tmp_path / "rules.yaml")}
    command = [sys.executable, "-m", "inference_services.transformer", f"--model_name={NAME}", "--predictor_host=x:1"]
    done = subprocess.run(
        [*command, "--http_port=0", "--grpc_port=0"],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr.count("rule dear: when: line 1, column 1: undeclared reference to 'amont'; did you mean amount")
        == 1
    )
