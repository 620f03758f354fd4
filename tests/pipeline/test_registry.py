"""Registration and promotion against a real MLflow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from components.register_model.logic import MODELS, register_all
from inference_services.bundle import verify, write_manifest
from inference_services.errors import BundleError
from pipelines import registry
from pipelines.errors import RegistryError
from simulators.local_services import MlflowServer


@pytest.fixture
def fresh_url(tmp_path: Path) -> object:
    with MlflowServer(tmp_path / "mlflow") as server:
        yield server.url


def make_bundles(root: Path, content: str) -> dict[str, Path]:
    folders = {model: root / content / model for model in MODELS}
    for model, folder in folders.items():
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "weights.txt").write_text(content)
        write_manifest(folder, model, {})
    return folders


@pytest.fixture
def register(fresh_url: str, tmp_path: Path) -> Callable[[str, str], dict[str, int]]:
    """Registers bundles whose content is a word."""
    client = MlflowClient(fresh_url)
    experiment = client.create_experiment("registry")

    def run(content: str, alias: str) -> dict[str, int]:
        folders = make_bundles(tmp_path / alias, content)
        run_id = client.create_run(experiment).info.run_id
        root = tmp_path / "bundles"
        return register_all(client, run_id, folders, bundle_root=root, dataset_version="d" * 12, alias=alias)

    return run


def test_a_version_goes_from_registration_to_champion(
    fresh_url: str, register: Callable[[str, str], dict[str, int]], tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match="no champion registered: run `fraud train --alias champion`"):
        registry.get(fresh_url, "fraud-lightgbm", "champion")
    assert registry.list_versions(fresh_url) == []

    assert register("first", "champion") == dict.fromkeys(MODELS, 1)
    champion = registry.get(fresh_url, "fraud-gnn", "champion")
    folder = Path(urlsplit(champion.storage_uri).path)
    assert folder == tmp_path / "bundles" / "fraud-gnn" / f"1-{champion.sha12}"
    assert verify(folder, "fraud-gnn").label == f"1-{champion.sha12}"
    assert (folder / "deep" / "weights.txt").read_text() == "first"
    with pytest.raises(RegistryError, match="no challenger registered"):
        registry.promote(fresh_url)

    assert register("second", "challenger") == dict.fromkeys(MODELS, 2)
    assert registry.get(fresh_url, "fraud-gnn", "champion") == champion
    promoted = registry.promote(fresh_url)
    assert [(v.name, v.version, v.aliases) for v in promoted] == [(m, 2, ("champion",)) for m in MODELS]
    assert [(v.name, v.version, v.aliases) for v in registry.list_versions(fresh_url)] == [
        (m, n, a) for m in MODELS for n, a in ((1, ()), (2, ("champion",)))
    ]
    tags = MlflowClient(fresh_url).get_model_version("fraud-fusion", "2").tags
    assert tags["dataset_version"] == "d" * 12
    assert tags["sha12"] == promoted[2].sha12

    # The same content again is the same version, and its published folder is left as it is.
    assert register("second", "again") == dict.fromkeys(MODELS, 2)
    (folder / "deep" / "weights.txt").write_text("tampered")
    with pytest.raises(BundleError, match="differs from its manifest"):
        register("first", "tampered")
