"""The compiled pipelines that the repository keeps: golden files, and the custom resources made of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from components.image import PIPELINES_IMAGE
from pipelines import compiled, materialization, step_settings, training
from pipelines.materialization_pipeline import SETTINGS as MATERIALIZATION
from pipelines.rollout_pipeline import SETTINGS as ROLLOUT
from pipelines.step_settings import BUNDLES, DATASETS, DECISIONS, FEATURES, MLFLOW, PATIENCE, REDIS, THREADS
from pipelines.training_pipeline import SETTINGS as TRAINING
from tests.conftest import ROOT
from tests.manifest_checks import building, custom_kinds
from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Object

TABLES = {"training_pipeline": TRAINING, "materialization_pipeline": MATERIALIZATION, "rollout_pipeline": ROLLOUT}
PIPELINES = sorted(TABLES)


@pytest.fixture(scope="module")
def fresh() -> dict[Path, bytes]:
    if "FRAUD_PIPELINES_IMAGE" in os.environ:
        pytest.skip("FRAUD_PIPELINES_IMAGE is set: what is kept names the default image")
    return compiled.compile_all()


def golden(pipeline: str) -> tuple[Object, Object]:
    graph, platform = yaml.safe_load_all((compiled.GOLDEN / f"{pipeline}.yaml").read_text())
    return graph, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def steps(graph: Object) -> dict[str, Object]:
    """Every step by name, those inside an exit handler too."""
    groups = [graph["root"], *graph["components"].values()]
    tasks = {name: task for group in groups for name, task in group.get("dag", {}).get("tasks", {}).items()}
    return {name: task for name, task in tasks.items() if not name.startswith("exit-handler")}


def resources(pipeline: str) -> list[Object]:
    return list(yaml.safe_load_all((compiled.MANIFESTS / f"{pipeline}.yaml").read_text()))


def test_what_is_kept_is_what_the_code_compiles_to(fresh: dict[Path, bytes]) -> None:
    stale = [str(path.relative_to(ROOT)) for path, content in fresh.items() if path.read_bytes() != content]
    assert not stale, f"{', '.join(stale)}: run `make compile`, look at the difference, and commit it"


def test_compiling_again_gives_the_same_bytes(fresh: dict[Path, bytes]) -> None:
    assert compiled.compile_all() == fresh


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_step_has_its_row_of_the_table(pipeline: str) -> None:
    graph, on_cluster = golden(pipeline)
    executors = graph["deploymentSpec"]["executors"]
    tasks = steps(graph)
    assert set(tasks) == set(TABLES[pipeline])
    assert {e["container"]["image"] for e in executors.values()} == {PIPELINES_IMAGE}
    for step, task in tasks.items():
        row, platform = TABLES[pipeline][step], on_cluster[f"exec-{step}"]
        given = executors[f"exec-{step}"]["container"]["resources"]
        assert (given["resourceCpuRequest"], given["resourceCpuLimit"]) == row.resources.cpu, step
        assert (given["resourceMemoryRequest"], given["resourceMemoryLimit"]) == row.resources.memory, step
        assert task["cachingOptions"] == ({"enableCache": True} if row.cached else {}), step
        assert task.get("retryPolicy", {}).get("maxRetryCount", 0) == row.retries, step
        assert platform["activeDeadlineSeconds"] == str(row.timeout_s)
        assert [m["constant"] for m in platform.get("pvcMount", [])] == [v.claim for v in row.volumes]
        assert row.twice


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_retries_wait_longer_each_time(pipeline: str) -> None:
    policies = [t["retryPolicy"] for t in steps(golden(pipeline)[0]).values() if "retryPolicy" in t]
    assert policies
    for policy in policies:
        assert policy["backoffFactor"] > 1
        assert policy["backoffDuration"] == "30s"
        assert policy["backoffMaxDuration"] == "300s"


def test_what_cannot_be_undone_or_changed_by_trying_again_is_tried_once() -> None:
    assert {step for table in TABLES.values() for step, row in table.items() if row.retries == 0} == {
        "gate",
        "judge-canary",
        "judge-canary-2",
        "judge-canary-3",
        "materialize-features",
    }


def test_only_steps_that_see_nothing_but_artifacts_may_answer_from_the_cache() -> None:
    assert {step for table in TABLES.values() for step, row in table.items() if row.cached} == {
        "gate",
        "judge-canary",
        "judge-canary-2",
        "judge-canary-3",
    }


def test_the_tables_are_the_steps_that_progress_is_shown_for() -> None:
    assert set(TRAINING) == set(training.STEPS)
    assert set(MATERIALIZATION) == set(materialization.STEPS)


def test_credentials_come_by_reference_and_only_where_they_are_needed() -> None:
    with_mlflow = {step for step, row in TRAINING.items() if MLFLOW in row.variables}
    graph, on_cluster = golden("training_pipeline")
    definitions = graph["components"]
    talks = {
        step for step in TRAINING if "tracking_uri" in definitions[f"comp-{step}"]["inputDefinitions"]["parameters"]
    }
    assert with_mlflow == talks
    for step in TRAINING:
        secrets = on_cluster[f"exec-{step}"].get("secretAsEnv", [])
        assert [s["secretName"] for s in secrets] == (["fraud-mlflow"] if step in with_mlflow else [])
        # An MLflow without a login needs no Secret.
        assert all(s["optional"] for s in secrets)
        assert {v["envVar"] for s in secrets for v in s["keyToEnv"]} <= {
            "MLFLOW_TRACKING_TOKEN",
            "MLFLOW_TRACKING_USERNAME",
            "MLFLOW_TRACKING_PASSWORD",
        }
    assert {s for s, row in MATERIALIZATION.items() if REDIS in row.variables} == {"materialize-features"}


def test_a_table_that_forgets_a_step_does_not_compile() -> None:
    with pytest.raises(ValueError, match="these stand alone: evaluate, gate"):
        step_settings.apply([SimpleNamespace(name="gate")], {"evaluate": TRAINING["evaluate"]})


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_resources_hold_the_golden_pipeline_and_fit_their_definitions(pipeline: str) -> None:
    parent, version = resources(pipeline)
    graph, platform = yaml.safe_load_all((compiled.GOLDEN / f"{pipeline}.yaml").read_text())
    assert version["spec"]["pipelineSpec"] == graph
    assert version["spec"]["platformSpec"] == platform
    assert version["spec"]["pipelineName"] == parent["metadata"]["name"] == graph["pipelineInfo"]["name"]
    assert version["metadata"]["name"].startswith(f"{parent['metadata']['name']}-")
    if custom_kinds.CRDS.exists():
        assert list(custom_kinds.check(Built(pipeline, (parent, version)))) == []


@pytest.mark.skipif(bool(building.without_kubectl()), reason=building.without_kubectl())
def test_the_kustomizations_have_everything_that_the_steps_name() -> None:
    built, base = building.build(compiled.MANIFESTS), building.build(compiled.MANIFESTS.parent)
    assert {thing["metadata"]["namespace"] for thing in built.objects} == {"fraud"}
    claims = {thing["metadata"]["name"] for thing in base.of("PersistentVolumeClaim")}
    assert claims >= {BUNDLES.claim, DATASETS.claim, DECISIONS.claim, FEATURES.claim}
    found = built.find("ConfigMap", THREADS.source)
    assert found is not None
    settings = found["data"]
    assert set(settings) == {*THREADS.keys, *PATIENCE.keys}
    limits = {row.resources.cpu[1] for table in TABLES.values() for row in table.values() if THREADS in row.variables}
    assert limits == {settings["omp_num_threads"]}


def test_the_image_can_be_one_of_a_company() -> None:
    code = (
        "from components.gate.component import gate; from components.evaluate.component import evaluate;"
        "print({c.component_spec.implementation.container.image for c in (gate, evaluate)})"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FRAUD_PIPELINES_IMAGE": "company/fraud:7"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "{'company/fraud:7'}", done.stderr
