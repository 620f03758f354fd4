"""What a step gets on a cluster: resources, retries, caching, volumes, secrets and settings.

The local runner reads none of it but the retries, which a local run leaves out: nothing here may change a result.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kfp import kubernetes

from inference_services.bundle_address import MOUNT

MINUTES = 60
# Set in the process of a local run: what fails there fails again, and a person is waiting for the reason.
LOCAL_RUN = "FRAUD_LOCAL_RUN"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a step's pod asks for, and what it may take.

    Attributes:
        cpu: request and limit, as Kubernetes writes them.
        memory: request and limit.
    """

    cpu: tuple[str, str]
    memory: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Volume:
    """A claim in the namespace of the run, and where the step sees it."""

    claim: str
    path: str


@dataclass(frozen=True, slots=True)
class Variables:
    """Environment variables from a Secret or a ConfigMap, by reference: a compiled pipeline holds no value.

    Attributes:
        source: name of the Secret or ConfigMap.
        keys: variable by key.
        secret: whether it is a Secret.
        optional: whether the step may start without it.
    """

    source: str
    keys: Mapping[str, str]
    secret: bool = True
    optional: bool = True


@dataclass(frozen=True, slots=True)
class StepSettings:
    """A step's row in its pipeline's table.

    Attributes:
        resources: CPU and memory.
        timeout_s: how long its pod may live.
        retries: how often it runs again after a failure, with growing waits; 0 unless it is safe to run twice.
        twice: why it is, or is not, safe and useful to run it twice.
        volumes: what it reads and writes outside of them.
        variables: its credentials, and settings that differ between clusters.
    """

    resources: Resources
    timeout_s: int
    retries: int
    twice: str
    volumes: tuple[Volume, ...] = ()
    variables: tuple[Variables, ...] = ()

    @property
    def cached(self) -> bool:
        """Whether KFP may reuse an earlier answer: only where it depends on parameters and artifacts alone."""
        return not self.volumes and not any(found.secret for found in self.variables)


SMALL = Resources(cpu=("250m", "1"), memory=("512Mi", "2Gi"))
LARGE = Resources(cpu=("1", "2"), memory=("4Gi", "8Gi"))

# Claims in the namespace of the run. The local runner reads the folders themselves.
DATASETS = Volume("fraud-datasets", "/mnt/datasets")
BUNDLES = Volume("fraud-bundles", str(MOUNT))
FEATURES = Volume("fraud-features", "/mnt/features")
DECISIONS = Volume("fraud-decisions", "/mnt/decisions")

# A server without a login needs none of them, one with a login a token, or a user and a password.
MLFLOW = Variables(
    "fraud-mlflow",
    {  # nosec B105 - names of variables
        "token": "MLFLOW_TRACKING_TOKEN",
        "username": "MLFLOW_TRACKING_USERNAME",
        "password": "MLFLOW_TRACKING_PASSWORD",
    },
)
# Redis' address holds its credentials: an argument would be shown to everybody who may see the run.
REDIS = Variables(
    "fraud-redis", {"url": "FRAUD_FEATURES_REDIS_URL", "type": "FRAUD_FEATURES_REDIS_TYPE"}, optional=False
)
# A pod sees all CPUs of its node, whatever its limit: OpenMP would start a thread for each.
THREADS = Variables(
    "fraud-pipelines", {"omp_num_threads": "OMP_NUM_THREADS", "omp_wait_policy": "OMP_WAIT_POLICY"}, secret=False
)
# How long, and how often, a step asks an MLflow that does not answer.
PATIENCE = Variables(
    "fraud-pipelines",
    {"mlflow_timeout_s": "MLFLOW_HTTP_REQUEST_TIMEOUT", "mlflow_retries": "MLFLOW_HTTP_REQUEST_MAX_RETRIES"},
    secret=False,
)


def apply(tasks: Iterable[Any], table: Mapping[str, StepSettings]) -> None:
    """Gives every task of a pipeline its row of the table.

    Args:
        tasks: KFP's tasks.
        table: settings by the task's name.

    Raises:
        ValueError: a task has no row, or a row no task.
    """
    known = {task.name: task for task in tasks}
    if odd := sorted(known.keys() ^ table.keys()):
        raise ValueError(f"steps and their settings must match, these stand alone: {', '.join(odd)}")
    for name, task in known.items():
        _apply(task, table[name])


def _apply(task: Any, chosen: StepSettings) -> None:
    (cpu, most_cpu), (memory, most_memory) = chosen.resources.cpu, chosen.resources.memory
    task.set_cpu_request(cpu).set_cpu_limit(most_cpu)
    task.set_memory_request(memory).set_memory_limit(most_memory)
    task.set_caching_options(enable_caching=chosen.cached)
    if chosen.retries and LOCAL_RUN not in os.environ:
        # Waits of 30 s, 1, 2, 4 minutes: a node or a server that restarts is back by then.
        task.set_retry(chosen.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="300s")
    kubernetes.set_timeout(task, chosen.timeout_s)
    kubernetes.set_image_pull_policy(task, "IfNotPresent")
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "fraud")
    for volume in chosen.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.path)
    for found in chosen.variables:
        use = kubernetes.use_secret_as_env if found.secret else kubernetes.use_config_map_as_env
        use(task, found.source, dict(found.keys), optional=found.optional)
