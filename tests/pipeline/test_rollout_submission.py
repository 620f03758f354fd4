"""`fraud rollout submit`: KFP's own client and a real MLflow, against a Kubeflow Pipelines API that runs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines import rollout_submission
from pipelines.errors import RegistryError
from pipelines.kfp_server import KfpServer
from pipelines.local_stack import MANIFESTS
from pipelines.remote import Cluster
from pipelines.settings import KfpSettings
from tests.kfp_server_fake import RUN, FakeKfp, Script

POLICY = MANIFESTS / "policy" / "threshold_settings.yaml"


def cluster(url: str, mlflow: str) -> Cluster:
    settings = KfpSettings(
        namespace="fraud", service_account="fraud-rollout", tracking_uri="http://mlflow.fraud:5000", connect_timeout_s=2
    )
    return Cluster(KfpServer(url, settings), settings, mlflow)


def test_the_challenger_s_rollout_is_started_with_what_the_pods_see(fresh_url: str) -> None:
    client = MlflowClient(fresh_url)
    client.create_registered_model("fraud-lightgbm")
    tags = {"storage_uri": "pvc://fraud-bundles/fraud-lightgbm/1-abc", "sha12": "abc"}
    client.create_model_version("fraud-lightgbm", "s3://bucket/model", tags=tags)
    with FakeKfp(Script()) as kfp:
        with pytest.raises(RegistryError, match="no challenger registered"):
            rollout_submission.submit(cluster(kfp.url, fresh_url), "fraud-lightgbm", POLICY)
        assert kfp.requests == []
        client.set_registered_model_alias("fraud-lightgbm", "challenger", 1)
        done = rollout_submission.submit(cluster(kfp.url, fresh_url), "fraud-lightgbm", POLICY)
        body = kfp.submitted
    assert (done.run_id, done.name) == (RUN, "fraud-lightgbm 1-abc")
    assert done.link.endswith(RUN)
    assert body["display_name"] == done.name
    assert body["service_account"] == "fraud-rollout"
    given = body["runtime_config"]["parameters"]
    assert given == {
        "tracking_uri": "http://mlflow.fraud:5000",
        "model": "fraud-lightgbm",
        "decisions_path": "/mnt/decisions",
        "policy": Path(POLICY).read_text(),
    }
    declared = body["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert {name for name, about in declared.items() if not about.get("isOptional")} <= given.keys() <= declared.keys()
    assert body["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "fraud-rollout"
