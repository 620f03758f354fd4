"""The training pipeline on a Kubeflow Pipelines server: submitted, watched, and left alone on Ctrl-C."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.register_model.logic import MODELS
from feature_repo.datasets import Dataset
from inference_services.policy_settings import ThresholdSettings
from pipelines import cluster_tracking, registry, training
from pipelines.errors import KfpError, KfpUnavailable, RegistryError, RunGoesOn, StepError
from pipelines.kfp_run import RunView
from pipelines.kfp_server import KfpServer
from pipelines.registry import ModelVersion
from pipelines.settings import KfpSettings, TrainingRun
from pipelines.step_settings import BUNDLES
from pipelines.training import STEPS, Progress

Say = Callable[[str], None]


@dataclass(frozen=True)
class Submission:
    """How a run is submitted.

    Attributes:
        experiment: KFP's experiment.
        name: the run's name; empty for the alias and the dataset.
        cache: whether the steps that may reuse an earlier answer do.
    """

    experiment: str = "fraud-training"
    name: str = ""
    cache: bool = True


@dataclass(frozen=True)
class RemoteResult:
    """What a run on a cluster left behind.

    Attributes:
        run_id: its MLflow run.
        kfp_run_id: its KFP run.
        alias: of what it registered.
        versions: LightGBM, GNN, fusion.
        metrics: the challenger pair's measures on the test days.
        kept: nothing waits for MLflow here: the cluster's steps speak to it themselves, or fail and are tried again.
    """

    run_id: str
    kfp_run_id: str
    alias: str
    versions: list[ModelVersion]
    metrics: dict[str, float]
    kept: None = None


@dataclass(frozen=True)
class Cluster:
    """Where a run is submitted and watched.

    Attributes:
        server: Kubeflow Pipelines.
        settings: what its pods see; how often to look, and how long.
        tracking_uri: MLflow as this machine sees it.
    """

    server: KfpServer
    settings: KfpSettings
    tracking_uri: str

    @classmethod
    def at(cls, host: str) -> Cluster:
        """The cluster behind an address; the rest from the environment.

        Raises:
            KfpError: the address is not one, or no MLflow is named.
        """
        tracking_uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not tracking_uri:
            raise KfpError("no MLflow that the cluster sees too: set MLFLOW_TRACKING_URI (and FRAUD_KFP_TRACKING_URI)")
        settings = KfpSettings()
        return cls(KfpServer(host, settings), settings, tracking_uri)


def submit(run: TrainingRun, cluster: Cluster, how: Submission, say: Say) -> str:
    """Opens an MLflow run, submits the pipeline for it, and tells where it is; returns KFP's run id.

    Args:
        run: as for a local run: the dataset as this machine sees it, and known to the cluster under the same name.
        cluster: where to.
        how: experiment, name, caching.
        say: told the run's page.

    Raises:
        KfpError: the server refuses or does not answer; the MLflow run ends as FAILED.
        RegistryError: a challenger is asked for and there is no champion.
    """
    ThresholdSettings.read(run.policy)  # a bad policy costs a second here, minutes in a step
    dataset = Dataset.open(run.dataset)
    champions = _champions(cluster, run.alias)
    record = training.run_record(run, dataset)
    run_id = cluster_tracking.start(cluster.tracking_uri, record)
    try:
        arguments = {
            **training.pipeline_arguments(run, run_id, champions),
            "dataset_path": str(cluster.settings.datasets / dataset.path.name),
            "bundle_root": str(cluster.settings.bundle_root),
            "bundle_claim": BUNDLES.claim,
            "tracking_uri": cluster.settings.tracking_uri or cluster.tracking_uri,
        }
        with tempfile.TemporaryDirectory() as scratch:
            package = Path(scratch) / "pipeline.yaml"
            training.compile(package)
            cluster_tracking.keep(cluster.tracking_uri, run_id, package)
            name = how.name or record.name
            kfp_run_id = cluster.server.submit(
                package, arguments, experiment=how.experiment, name=name, cache=how.cache
            )
    except BaseException:
        cluster_tracking.end(cluster.tracking_uri, run_id, "FAILED")
        raise
    link = cluster.server.link(kfp_run_id)
    say(f"submitted: {link}")
    cluster_tracking.link(cluster.tracking_uri, run_id, link)
    return kfp_run_id


def follow(cluster: Cluster, kfp_run_id: str, progress: Progress | None = None) -> RemoteResult:
    """Watches a run until it ends, closes its MLflow run, and gives what it registered.

    Args:
        cluster: where it runs.
        kfp_run_id: KFP's run id.
        progress: called with (steps done, steps in all).

    Raises:
        StepError: a step failed; the message has its name, its reason and the run's page.
        RunGoesOn: interrupted, or the server stayed away: the run itself goes on.
        KfpError: the server has no such run, or it is no run of this pipeline.
    """
    try:
        run = _watch(cluster, kfp_run_id, progress)
    except KeyboardInterrupt:
        raise _goes_on(cluster, kfp_run_id, "no longer watched") from None
    run_id, alias = run.arguments.get("run_id"), run.arguments.get("alias")
    if not run_id or not alias:
        raise KfpError(f"run {kfp_run_id} has no parameters run_id and alias: it is no run of the training pipeline")
    if not run.succeeded:
        cluster_tracking.end(cluster.tracking_uri, run_id, "KILLED" if run.state == "CANCELED" else "FAILED")
        raise StepError(f"{_why(run)} ({cluster.server.link(kfp_run_id)})")
    cluster_tracking.end(cluster.tracking_uri, run_id, "FINISHED")
    versions = [registry.get(cluster.tracking_uri, name, alias) for name in MODELS]
    metrics = training.challenger_metrics(cluster_tracking.metrics(cluster.tracking_uri, run_id))
    return RemoteResult(run_id, kfp_run_id, alias, versions, metrics)


def _watch(cluster: Cluster, run_id: str, progress: Progress | None) -> RunView:
    """Asks until the run has ended; a server that is away for a while is asked again."""
    settings = cluster.settings
    started = answered = time.monotonic()
    while True:
        try:
            run = cluster.server.run(run_id)
        except KfpUnavailable as error:
            if time.monotonic() - answered > settings.patience_s:
                raise _goes_on(cluster, run_id, str(error)) from None
        else:
            answered = time.monotonic()
            if progress:
                progress(run.done(STEPS), len(STEPS))
            if run.ended:
                return run
            if answered - started > settings.wait_s:
                raise _goes_on(cluster, run_id, f"not at its end after {settings.wait_s:.0f} s")
        time.sleep(settings.poll_s)


def _goes_on(cluster: Cluster, run_id: str, why: str) -> RunGoesOn:
    server = cluster.server
    return RunGoesOn(
        f"{why}; the run goes on at {server.link(run_id)}: "
        f"follow it with `fraud train --host {server.host} --follow {run_id}`"
    )


def _why(run: RunView) -> str:
    if run.failed:
        step = run.failed[0]
        return f"step {step.name!r} failed: {step.reason}" + (
            f", its log is that of pod {step.pod}" if step.pod else ""
        )
    if run.state == "CANCELED":
        return "the run was cancelled"
    return f"the run failed: {run.error or 'Kubeflow Pipelines gives no reason'}"


def _champions(cluster: Cluster, alias: str) -> dict[str, str]:
    """The champion's bundle folders as the pods see them; empty where the first champion is being trained."""
    folders = {"champion_lightgbm": "", "champion_gnn": ""}
    bundle_root = cluster.settings.bundle_root
    for parameter, name in zip(folders, MODELS[:2], strict=True):
        try:
            uri = registry.get(cluster.tracking_uri, name, "champion").storage_uri
        except RegistryError:
            if alias != "champion":
                raise
            return dict.fromkeys(folders, "")
        folder = registry.bundle_folder(f"{name}'s champion", uri, root=Path(bundle_root))
        if not folder.is_relative_to(bundle_root):
            # One that was registered on a laptop is not on the pods' volume.
            raise KfpError(
                f"the champion's bundle is {folder}, and the cluster's pods see {bundle_root} only: "
                "train a champion on the cluster first, or set FRAUD_KFP_BUNDLE_ROOT"
            )
        folders[parameter] = str(folder)
    return folders
