"""Registration, promotion, comparison and export against a real MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.errors import MlflowUnreachable
from components.outbox_delivery import EXPERIMENT
from components.promote_canary.aliases import promote
from components.register_model.logic import MODELS, register_all
from feature_repo.feature_names import MODEL_FEATURES, features_version
from inference_services.bundle import verify
from inference_services.errors import BundleError
from pipelines import registry
from pipelines.errors import RegistryError
from pipelines.model_comparison import compare
from pipelines.registry_export import Lineage, RegisteredModel, Registry, Version, read_registry, write_export
from simulators.local_services import free_port
from tests.conftest import ROOT
from tests.pipeline.model_sets import EVALUATION, POLICY, make_set, request, write_evaluation

Register = Callable[..., dict[str, int]]
Cut = Callable[[Callable[[str, str], bool], BaseException], None]
FUSED = EVALUATION["pairs"]["challenger"]


@pytest.fixture
def register(fresh_url: str, tmp_path: Path) -> Register:
    """Registers bundles whose content is a word."""
    client = MlflowClient(fresh_url)
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)

    def run(
        content: str, alias: str, *, dataset: str = "d", claim: str = "", precision: float = 0.41, **choices: Any
    ) -> dict[str, int]:
        folders = make_set(tmp_path / alias, content, **choices)
        tags = {"mlflow.source.git.commit": "c" * 40}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        client.log_metric(run_id, "pairs.challenger.average_precision", precision)
        client.log_metric(run_id, "prevalence", 0.012)
        evaluation = write_evaluation(tmp_path / alias / "evaluation.json")
        return register_all(client, run_id, folders, request(tmp_path, alias, dataset, claim), evaluation=evaluation)

    return run


def aliases(url: str) -> dict[str, dict[str, int]]:
    return {model.name: model.aliases for model in read_registry(url).models}


def test_a_version_goes_from_registration_to_champion(fresh_url: str, register: Register, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no champion registered: run `fraud train --alias champion`"):
        registry.get(fresh_url, "fraud-lightgbm", "champion")
    assert read_registry(fresh_url).models == ()

    assert register("first", "champion") == dict.fromkeys(MODELS, 1)
    champion = registry.get(fresh_url, "fraud-gnn", "champion")
    assert champion.folder == tmp_path / "bundles" / "fraud-gnn" / f"1-{champion.sha12}"
    assert verify(champion.folder, "fraud-gnn").label == f"1-{champion.sha12}"
    assert (champion.folder / "deep" / "weights.txt").read_text() == "first"
    with pytest.raises(RegistryError, match="no challenger registered"):
        promote(fresh_url)

    assert register("second", "challenger") == dict.fromkeys(MODELS, 2)
    assert registry.get(fresh_url, "fraud-gnn", "champion") == champion
    assert [(v.name, v.version) for v in promote(fresh_url)] == [(model, 2) for model in MODELS]
    assert aliases(fresh_url) == {model: {"champion": 2} for model in MODELS}

    # The same content again is the same version, and its published folder is left as it is.
    assert register("second", "again") == dict.fromkeys(MODELS, 2)
    (champion.folder / "deep" / "weights.txt").write_text("tampered")
    with pytest.raises(BundleError, match="differs from its manifest"):
        register("first", "tampered")


def test_a_version_that_a_cluster_registered_is_found_where_its_claim_is_mounted(
    fresh_url: str, register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("first", "champion", claim="fraud-bundles")
    champion = registry.get(fresh_url, "fraud-gnn", "champion")
    assert champion.storage_uri == f"pvc://fraud-bundles/fraud-gnn/1-{champion.sha12}"
    assert champion.folder == Path("/mnt/bundles/fraud-gnn") / f"1-{champion.sha12}"
    monkeypatch.setenv("FRAUD_BUNDLES_ROOT", str(tmp_path / "bundles"))
    assert verify(champion.folder, "fraud-gnn").label == f"1-{champion.sha12}"


def test_a_bundle_that_is_altered_registers_none_of_the_three(fresh_url: str, tmp_path: Path) -> None:
    folders = make_set(tmp_path, "one")
    (folders["fraud-fusion"] / "fusion.json").write_text("{}")
    with pytest.raises(BundleError, match=r"'fusion\.json' differs"):
        register_all(MlflowClient(fresh_url), "no run", folders, request(tmp_path, "champion"))
    assert read_registry(fresh_url).models == ()


def test_every_version_names_where_it_comes_from(fresh_url: str, register: Register) -> None:
    register("first", "champion")
    found = {v.model: v for v in read_registry(fresh_url).versions()}
    lightgbm, gnn, fusion = (found[model].lineage for model in MODELS)
    common = lightgbm.model_dump(include={"dataset_sha256", "dataset_version", "git_commit", "pipeline_run"})
    assert common == {
        "dataset_sha256": "d" * 64,
        "dataset_version": "d" * 12,
        "git_commit": "c" * 40,
        "pipeline_run": "kfp-7",
    }
    assert {lightgbm.mlflow_run, gnn.mlflow_run, fusion.mlflow_run} == {
        v.run_id for v in MlflowClient(fresh_url).search_model_versions("name = 'fraud-gnn'")
    }
    assert lightgbm.feature_service == "fraud_lightgbm_x"
    assert lightgbm.features_version == features_version(MODEL_FEATURES)
    assert (fusion.policy_sha256, fusion.lightgbm, fusion.gnn) == (
        POLICY,
        found["fraud-lightgbm"].sha12,
        found["fraud-gnn"].sha12,
    )


def test_every_version_has_a_card_in_the_registry_and_among_the_artifacts(
    fresh_url: str, register: Register, tmp_path: Path
) -> None:
    register("first", "champion")
    client = MlflowClient(fresh_url)
    version = client.get_model_version("fraud-fusion", "1")
    for part in ("Made of first.", "| average precision | 0.41 |", "0.31 to 0.51", "collusion: 0.25", POLICY):
        assert part in version.description
    path = client.download_artifacts(version.run_id, "cards/fraud-fusion/model_card.md", str(tmp_path))
    assert Path(path).read_text() == version.description


def test_a_bundle_that_is_missing_or_altered_is_not_promoted(
    fresh_url: str, register: Register, tmp_path: Path
) -> None:
    register("first", "champion")
    register("second", "challenger")
    before = aliases(fresh_url)
    gnn = registry.get(fresh_url, "fraud-gnn", "challenger").folder
    weights = gnn / "deep" / "weights.txt"
    weights.write_text("secand")
    with pytest.raises(RegistryError, match=r"fraud-gnn 2 is not promoted: .*weights\.txt' differs"):
        promote(fresh_url)
    weights.write_text("second")
    gnn.rename(tmp_path / "elsewhere")
    with pytest.raises(RegistryError, match="fraud-gnn 2 is not promoted: there is no bundle folder"):
        promote(fresh_url)
    # Whole, but not what the registry calls by this name.
    (tmp_path / "bundles" / "fraud-gnn" / f"1-{registry.get(fresh_url, 'fraud-gnn', 'champion').sha12}").rename(gnn)
    with pytest.raises(RegistryError, match="fraud-gnn 2 is not promoted: the registry knows it as"):
        promote(fresh_url)
    assert aliases(fresh_url) == before


def test_versions_that_do_not_belong_together_are_not_promoted(fresh_url: str, register: Register) -> None:
    register("first", "champion")
    register("second", "challenger")
    MlflowClient(fresh_url).set_registered_model_alias("fraud-gnn", "challenger", "1")
    before = aliases(fresh_url)
    with pytest.raises(RegistryError, match=r"fraud-fusion 2 was made for the fraud-gnn [0-9a-f]{12}, and the"):
        promote(fresh_url)
    assert aliases(fresh_url) == before


@pytest.mark.parametrize("moved", range(1, 7))
def test_a_promotion_that_fails_half_way_leaves_the_aliases_as_they_were(
    moved: int, fresh_url: str, register: Register, cut: Cut
) -> None:
    register("first", "champion")
    register("second", "challenger")
    before = aliases(fresh_url)
    calls = 0

    def hit(method: str, path: str) -> bool:
        nonlocal calls
        calls += path == "registered-models/alias" and method in {"POST", "DELETE"}
        return calls == moved and method != "GET"

    cut(hit, requests.ConnectionError("cut"))
    with pytest.raises(MlflowException, match="cut"):
        promote(fresh_url)
    assert calls > moved or moved == 6
    assert aliases(fresh_url) == before


@pytest.mark.parametrize("taken", range(3))
def test_a_promotion_that_was_killed_is_finished_by_the_next(taken: int, fresh_url: str, register: Register) -> None:
    register("first", "champion")
    register("second", "challenger")
    client = MlflowClient(fresh_url)
    for model in MODELS:
        client.set_registered_model_alias(model, "champion", "2")
    for model in MODELS[:taken]:
        client.delete_registered_model_alias(model, "challenger")
    promote(fresh_url)
    assert aliases(fresh_url) == {model: {"champion": 2} for model in MODELS}


def test_a_challenger_that_is_not_whole_is_named(fresh_url: str, register: Register) -> None:
    register("first", "champion")
    register("second", "challenger")
    MlflowClient(fresh_url).delete_registered_model_alias("fraud-lightgbm", "challenger")
    with pytest.raises(RegistryError, match="fraud-lightgbm has no challenger"):
        promote(fresh_url)


def test_a_comparison_shows_measures_and_what_the_bundles_do_not_share(fresh_url: str, register: Register) -> None:
    register("first", "champion", precision=0.5)
    register("second", "challenger", precision=0.6, rounds=40, features=(*MODEL_FEATURES[1:], "new_one"))
    found = compare(read_registry(fresh_url), "champion", "2")
    assert found.warnings == []
    measures = {m.name: m for m in found.measures}
    assert (measures["average_precision"].a, measures["average_precision"].b) == (0.5, 0.6)
    assert measures["average_precision"].difference == pytest.approx(0.1)
    rows = {(d.model, d.what): (d.a, d.b) for d in found.differences}
    assert rows["fraud-lightgbm", "settings.rounds"] == ("20", "40")
    assert rows["fraud-lightgbm", "features added"] == ("", "new_one")
    assert rows["fraud-lightgbm", "features removed"] == (MODEL_FEATURES[0], "")
    assert {model for model, _ in rows} == set(MODELS)
    with pytest.raises(RegistryError, match="no version or alias 'best': there are versions 1 to 2"):
        compare(read_registry(fresh_url), "best", "1")


def test_figures_of_other_datasets_are_said_not_to_be_comparable(fresh_url: str, register: Register) -> None:
    register("first", "champion", dataset="a")
    register("second", "challenger", dataset="b")
    found = compare(read_registry(fresh_url), "champion", "challenger")
    assert "NOT comparable" in found.warnings[0]
    assert ("fraud-gnn", "dataset_sha256") in {(d.model, d.what) for d in found.differences}


def test_an_export_holds_the_whole_registry_and_is_the_same_twice(
    fresh_url: str, register: Register, tmp_path: Path
) -> None:
    register("first", "champion")
    register("second", "challenger")
    for name in ("one.json", "two.json"):
        write_export(read_registry(fresh_url), tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    document = json.loads((tmp_path / "one.json").read_text())
    assert [(m["name"], m["aliases"]) for m in document["models"]] == [
        (model, {"challenger": 2, "champion": 1}) for model in MODELS
    ]
    fusion = document["models"][2]["versions"][1]
    assert fusion["aliases"] == ["challenger"]
    assert fusion["metrics"] == {"average_precision": 0.41, "prevalence": 0.012}
    assert fusion["storage_uri"].endswith(f"/bundles/fraud-fusion/2-{fusion['sha12']}")
    assert Registry.model_validate(document) == read_registry(fresh_url)


def test_the_schema_of_the_export_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    for model in (Registry, RegisteredModel, Version, Lineage):
        for name, field in model.model_fields.items():
            assert f"| `{name}` | {field.description} |" in page


def test_a_registry_that_is_away_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(MlflowUnreachable, match=f"MLflow at {url} does not answer"):
        read_registry(url)
    with pytest.raises(RegistryError, match="there is none to challenge"):
        registry.champion_folders(url, tmp_path / "memory.json", "challenger")
    assert set(registry.champion_folders(url, tmp_path / "memory.json", "champion").values()) == {""}


def test_the_last_champion_is_remembered_for_when_mlflow_is_away(
    fresh_url: str, register: Register, tmp_path: Path
) -> None:
    register("first", "champion")
    seen = registry.champion_folders(fresh_url, tmp_path / "memory.json", "challenger")
    away = f"http://127.0.0.1:{free_port()}"
    assert registry.champion_folders(away, tmp_path / "memory.json", "challenger") == seen
    assert all(verify(Path(folder), model) for model, folder in seen.items())
