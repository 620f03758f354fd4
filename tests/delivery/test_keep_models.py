"""A new image, or a new setting, reaches a running InferenceService without taking its model away."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.register_model.logic import MODELS
from manifests.keep_models import champion_of, keep_models, main
from pipelines.registry_export import Lineage, RegisteredModel, Registry, Version

BASE = Path(__file__).parents[2] / "manifests" / "base"
FUSION = "FRAUD_TRANSFORMER_FUSION_URI"
DETECTOR = "fraud-detector"


def manifest(name: str) -> dict[str, Any]:
    """An InferenceService of the repository."""
    found: dict[str, Any] = yaml.safe_load((BASE / "inference_services" / f"{name.replace('-', '_')}.yaml").read_text())
    return found


@pytest.fixture
def built() -> dict[str, Any]:
    """The detector as the repository has it, of another image."""
    detector = manifest(DETECTOR)
    detector["spec"]["transformer"]["containers"][0]["image"] = "fraud-transformer@sha256:new"
    return detector


@pytest.fixture
def live() -> dict[str, Any]:
    """The detector as it runs: what rollouts wrote, and what the cluster adds."""
    detector = manifest(DETECTOR)
    detector["spec"]["predictor"]["model"]["storageUri"] = "pvc://fraud-bundles/fraud-lightgbm/2-abc"
    for variable in detector["spec"]["transformer"]["containers"][0]["env"]:
        if variable["name"] == FUSION:
            variable["value"] = "pvc://fraud-bundles/fraud-fusion/2-abc"
    detector["spec"]["predictor"]["canaryTrafficPercent"] = 10
    detector["metadata"]["resourceVersion"] = "7"
    return {**detector, "status": {"url": "http://fraud-detector.example"}}


def environment(thing: dict[str, Any]) -> dict[str, Any]:
    return {
        variable["name"]: variable.get("value") for variable in thing["spec"]["transformer"]["containers"][0]["env"]
    }


def test_the_models_and_the_canary_stay(built: dict[str, Any], live: dict[str, Any]) -> None:
    (kept,) = keep_models([built], [live])
    assert kept["spec"]["predictor"]["model"]["storageUri"] == "pvc://fraud-bundles/fraud-lightgbm/2-abc"
    assert kept["spec"]["predictor"]["canaryTrafficPercent"] == 10
    assert environment(kept) == {**environment(built), FUSION: "pvc://fraud-bundles/fraud-fusion/2-abc"}


def test_all_else_is_as_built(built: dict[str, Any], live: dict[str, Any]) -> None:
    before = copy.deepcopy(built)
    (kept,) = keep_models([built], [live])
    assert built == before
    assert kept["spec"]["transformer"]["containers"][0]["image"] == "fraud-transformer@sha256:new"
    assert "status" not in kept
    assert "resourceVersion" not in kept["metadata"]


def test_the_first_time_everything_is_as_built(built: dict[str, Any], live: dict[str, Any]) -> None:
    other = {"kind": "Service", "metadata": {"name": DETECTOR, "namespace": "fraud"}}
    live["metadata"]["namespace"] = "elsewhere"
    assert keep_models([built, other], [live]) == [built, other]
    assert keep_models([built, other], []) == [built, other]


def test_an_ended_canary_is_not_begun_again(built: dict[str, Any], live: dict[str, Any]) -> None:
    del live["spec"]["predictor"]["canaryTrafficPercent"]
    (kept,) = keep_models([built], [live])
    assert "canaryTrafficPercent" not in kept["spec"]["predictor"]


def champion() -> dict[str, str]:
    """By way of the document that `fraud models export` writes."""
    versions = [
        Version(
            model=model,
            version=number,
            aliases=("champion",) if number == 3 else (),
            sha256="",
            sha12="",
            created="",
            storage_uri=f"pvc://fraud-bundles/{model}/{number}-abc",
            lineage=Lineage.model_validate({}),
            metrics={},
        )
        for model in MODELS
        for number in (2, 3)
    ]
    registry = Registry(models=tuple(RegisteredModel(name=v.model, aliases={}, versions=(v,)) for v in versions))
    return champion_of(registry.model_dump(mode="json"))


def test_what_serves_no_model_yet_gets_the_champion(built: dict[str, Any], live: dict[str, Any]) -> None:
    for running in ([], [manifest(DETECTOR)]):
        (first,) = keep_models([built], running, champion())
        assert first["spec"]["predictor"]["model"]["storageUri"] == "pvc://fraud-bundles/fraud-lightgbm/3-abc"
        assert environment(first)[FUSION] == "pvc://fraud-bundles/fraud-fusion/3-abc"
    assert keep_models([built], [live], champion()) == keep_models([built], [live])


@pytest.mark.parametrize("name", [DETECTOR, "fraud-gnn", "fraud-drift"])
def test_every_placeholder_of_the_manifests_is_known(name: str) -> None:
    (filled,) = keep_models([manifest(name)], [], champion())
    assert "0-000000000000" not in str(filled)


def test_it_reads_what_kubectl_prints(
    built: dict[str, Any], live: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "built.yaml", tmp_path / "live.json"]
    files[0].write_text(yaml.safe_dump_all([built]))
    files[1].write_text("")
    main([str(file) for file in files])
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == [built]
    files[1].write_text(json.dumps({"kind": "List", "items": [live]}))
    main([str(file) for file in files])
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == keep_models([built], [live])
