"""Starts the rollout pipeline on Kubeflow Pipelines, for one model; nothing waits for its end."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from inference_services.policy_settings import ThresholdSettings
from pipelines import registry
from pipelines.local_pipeline import compile_pipeline
from pipelines.remote import Cluster
from pipelines.rollout_pipeline import rollout_pipeline
from pipelines.step_settings import DECISIONS

EXPERIMENT = "fraud-rollout"


@dataclass(frozen=True)
class Submitted:
    """A run that was started.

    Attributes:
        run_id: KFP's id.
        link: the run's page.
        name: model and version of the challenger.
    """

    run_id: str
    link: str
    name: str


def submit(cluster: Cluster, model: str, policy: Path) -> Submitted:
    """Starts the rollout of a model's challenger. A second one finds that its canary has a share, and fails.

    Args:
        cluster: where to; its service account must be one that may change InferenceServices.
        model: fraud-lightgbm, and once that is promoted fraud-gnn.
        policy: threshold_settings.yaml.

    Raises:
        RegistryError: there is no challenger.
        KfpError: the server refuses or does not answer.
    """
    ThresholdSettings.read(policy)  # a bad policy costs a second here, minutes in a step
    challenger = registry.get(cluster.tracking_uri, model, "challenger")
    name = f"{model} {challenger.version}-{challenger.sha12}"
    arguments = {
        "tracking_uri": cluster.settings.tracking_uri or cluster.tracking_uri,
        "model": model,
        "decisions_path": DECISIONS.path,
        "policy": policy.read_text(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "pipeline.yaml"
        compile_pipeline(rollout_pipeline, package)
        # What was true of another day's traffic is not reused.
        run_id = cluster.server.submit(package, arguments, experiment=EXPERIMENT, name=name, cache=False)
    return Submitted(run_id, cluster.server.link(run_id), name)
