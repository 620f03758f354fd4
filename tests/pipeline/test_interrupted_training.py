"""A training run that is killed, at whatever moment, leaves nothing half-registered, and the next one finishes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
import requests.adapters
from mlflow import MlflowClient

from components.register_model.component import register_model
from components.register_model.logic import MODELS
from feature_repo.datasets import Dataset
from inference_services.bundle import verify
from simulators.local_services import MlflowServer
from tests.conftest import ROOT
from tests.pipeline.model_sets import make_set
from tests.processes import needs_proc, processes_with, wait_until

MOST_REQUESTS = 200


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[str]:
    with MlflowServer(tmp_path / "mlflow") as server:
        yield server.url


def register(url: str, run_id: str, folders: dict[str, Path], bundle_root: Path) -> None:
    """The step, as KFP calls it."""
    lightgbm, gnn, fusion = (SimpleNamespace(path=str(folders[model])) for model in MODELS)
    register_model.python_func(
        lightgbm=lightgbm,
        gnn=gnn,
        fusion=fusion,
        bundle_root=str(bundle_root),
        tracking_uri=url,
        run_id=run_id,
        dataset_sha256="d" * 64,
        alias="champion",
    )


def killed_at(request: int, heard: bool, url: str, run_id: str, folders: dict[str, Path], bundle_root: Path) -> bool:  # noqa: PLR0917
    """Runs the step in a copy of this process that dies at its n-th change of MLflow; whether it died.

    It dies before the server has heard the request, or once the server has done it.
    """
    child = os.fork()
    if child == 0:
        # What the libraries of other tests left behind must not be finalised without their threads.
        gc.disable()
        send, sent = requests.adapters.HTTPAdapter.send, [0]

        def counted(adapter: object, asked: requests.PreparedRequest, **options: object) -> object:
            if asked.method == "GET":  # changes nothing
                return send(adapter, asked, **options)  # type: ignore[arg-type]
            sent[0] += 1
            if sent[0] == request and not heard:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = send(adapter, asked, **options)  # type: ignore[arg-type]
            if sent[0] == request:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        requests.adapters.HTTPAdapter.send = counted  # type: ignore[assignment, method-assign]
        code = 1
        try:
            register(url, run_id, folders, bundle_root)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, "the step failed: see its traceback"
    return killed


def check_whole(client: MlflowClient, bundle_root: Path) -> dict[str, int]:
    """Every alias names a version that can be fetched, every published folder is whole; gives the aliased versions."""
    aliased = {}
    for model in client.search_registered_models():
        for version in model.aliases.values():
            tags = client.get_model_version(model.name, version).tags
            verify(Path(urlsplit(tags["storage_uri"]).path), model.name)
            aliased[model.name] = int(version)
    for folder in bundle_root.glob("*/[!.]*"):
        verify(folder, folder.parent.name)
    return aliased


@pytest.mark.slow
def test_registration_survives_a_kill_at_every_request(mlflow: str, tmp_path: Path) -> None:
    client, bundle_root = MlflowClient(mlflow), tmp_path / "bundles"
    run_id = client.create_run(client.create_experiment("killed")).info.run_id
    kills = 0
    while True:
        folders = make_set(tmp_path / "trained", f"content-{kills}")
        if not killed_at(kills // 2 + 1, bool(kills % 2), mlflow, run_id, folders, bundle_root):
            break
        kills += 1
        check_whole(client, bundle_root)
        assert kills < MOST_REQUESTS
    assert kills > len(MODELS) * 4
    found = check_whole(client, bundle_root)
    assert found.keys() == set(MODELS)
    for model, version in found.items():
        assert client.get_model_version(model, str(version)).tags["sha256"] == verify(folders[model], model).sha256
    # What was cut off is finished by the next run of the same content, as the version that it was.
    folders = make_set(tmp_path / "again", f"content-{kills - 1}")
    register(mlflow, run_id, folders, bundle_root)
    check_whole(client, bundle_root)
    for model in MODELS:
        contents = [v.tags["sha256"] for v in client.search_model_versions(f"name = '{model}'")]
        assert len(contents) == len(set(contents))


RUN = "from pipelines import training; from pipelines.settings import TrainingRun; training.run_local(TrainingRun())"


@pytest.mark.slow
@needs_proc
def test_a_run_that_is_killed_while_it_trains_registers_nothing(
    dataset: Dataset, quick_policy: Path, mlflow: str, tmp_path: Path
) -> None:
    settings = {
        "DATASET": dataset.path,
        "WORK": tmp_path / "runs",
        "TRACKING_URI": mlflow,
        "BUNDLE_ROOT": tmp_path / "bundles",
        "POLICY": quick_policy,
        "ALIAS": "champion",
        "SPLITS": '{"warm_up_days": 1, "train_share": 0.5}',
    }
    variables = {f"FRAUD_TRAINING_{name}": str(value) for name, value in settings.items()}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RUN],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        start_new_session=True,
    ) as process:
        wait_until(lambda: list((tmp_path / "runs").glob("*/steps/**/build-training-set/training_set")))
        assert len(processes_with(str(tmp_path / "runs"))) >= 1
        process.send_signal(signal.SIGKILL)
    try:
        wait_until(lambda: not processes_with(str(tmp_path / "runs")))
    finally:
        for left in processes_with(str(tmp_path / "runs")):
            os.kill(left, signal.SIGKILL)
    assert not MlflowClient(mlflow).search_registered_models()
    assert not (tmp_path / "bundles").exists()
