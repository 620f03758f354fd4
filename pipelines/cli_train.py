"""`fraud train --host`: the part of the command that runs on a cluster."""

from __future__ import annotations

from typing import Any

from pipelines import remote
from pipelines.steps import choose_dataset, training_run
from pipelines.terminal import bars, console
from pipelines.workspace import Workspace


def train_on_cluster(
    workspace: Workspace,
    host: str,
    how: remote.Submission,
    *,
    alias: str,
    dataset: str | None,
    follow: str | None,
    **choices: Any,
) -> remote.RemoteResult:
    """Submits a run of the training pipeline, unless there is one to follow, and shows it until it ends.

    Args:
        workspace: whose datasets they are.
        host: the Kubeflow Pipelines server.
        how: experiment, name, caching.
        alias: champion or challenger.
        dataset: name of the dataset; None for the one checked out, else the newest.
        follow: id of a run that goes on already.
        choices: further fields of `TrainingRun`.
    """
    cluster = remote.Cluster.at(host)
    if follow is None:
        chosen = choose_dataset(workspace, dataset)
        run = training_run(
            workspace, chosen, alias, tracking_uri=cluster.tracking_uri, purpose=f"cluster {alias}", **choices
        )
        follow = remote.submit(run, cluster, how, console.print)
    with bars.shown():
        return remote.follow(cluster, follow, bars.bar(f"training pipeline: run {follow}"))
