"""The whole stack of the demo, small: Redis, worker, local KServe with all three InferenceServices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import local_stack
from pipelines.local_stack import LocalParts, Stack
from pipelines.steps import registered
from simulators.local_kserve import LocalKServe
from simulators.local_services import LocalProcess, MlflowServer, RedisServer
from tests.conftest import ROOT, Company

DRIFT_PYTHON = ROOT / ".venv-drift" / "bin" / "python"
DRIFT_WINDOW = 100


@pytest.fixture(scope="session")
def stack(company: Company) -> Iterator[Stack]:
    os.environ["FRAUD_DECISION_LOG_FLUSH_S"] = "0.5"
    if not DRIFT_PYTHON.exists():
        pytest.skip("no .venv-drift: the drift detector cannot run; `make env` creates it")
    parts = LocalParts(RedisServer, MlflowServer, LocalProcess, LocalKServe)
    models = registered(company.mlflow_url, "champion")
    services = local_stack.running(
        company.workspace,
        parts,
        models,
        Path(DRIFT_PYTHON),
        lambda _: lambda _done, _total: None,
        drift_window=DRIFT_WINDOW,
    )
    with services as running:
        yield running
