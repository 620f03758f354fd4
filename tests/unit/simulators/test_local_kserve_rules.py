"""The local KServe's pure rules: how traffic moves, what a patch does, what a revision runs."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from simulators.local_kserve.api.selectors import selector
from simulators.local_kserve.api.tables import age
from simulators.local_kserve.errors import ApiError, ManifestError
from simulators.local_kserve.events import Event, EventLog
from simulators.local_kserve.patches import json_patch, merge_patch
from simulators.local_kserve.plan import Image, RevisionPlan, plan, process, read_config_maps, template_hash
from simulators.local_kserve.traffic import Rollout, Split, Target, advance, plan_traffic
from simulators.local_kserve.volumes import mounted


@pytest.mark.parametrize("percent", [1, 5, 10, 25, 50, 99])
def test_split_keeps_every_share_within_three_requests_at_any_time(percent: int) -> None:
    split = Split((Target("new", percent, latest=True), Target("old", 100 - percent, latest=False)))
    counts: Counter[str | None] = Counter()
    for n in range(1, 2001):
        counts[split.choose()] += 1
        assert abs(counts["new"] - n * percent / 100) <= 3
    assert counts.keys() == {"new", "old"}


def test_split_does_not_lock_on_to_a_callers_period() -> None:
    split = Split((Target("new", 10, latest=True), Target("old", 90, latest=False)))
    chosen = [split.choose() for _ in range(2000)]
    for offset in range(10):
        assert abs(chosen[offset::10].count("new") - 20) <= 3


def test_first_revision_cannot_be_split() -> None:
    assert plan_traffic("a-1", 10, Rollout()) == (Target("a-1", 100, latest=True),)
    assert advance("a-1", "a-1", 10, Rollout()) == Rollout("a-1", None)


def test_canary_leaves_the_rolled_out_revision_in_force() -> None:
    assert advance("a-2", "a-2", 10, Rollout("a-1")) == Rollout("a-1")
    assert advance("a-2", "a-2", None, Rollout("a-1")) == Rollout("a-2", "a-1")


def test_share_asked_of_a_revision_that_is_not_ready_does_not_roll_back_its_predecessor() -> None:
    assert advance("a-3", "a-2", 10, Rollout("a-2", "a-1")) == Rollout("a-2", "a-1")


def test_share_asked_of_a_rolled_out_revision_rolls_it_back() -> None:
    assert advance("a-2", "a-2", 0, Rollout("a-2", "a-1")) == Rollout("a-1", "a-1")


def test_merge_patch_follows_the_rfc() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": [1, 2]}
    assert merge_patch(before, {"a": {"b": None, "e": {"f": None}}, "d": [3]}) == {
        "a": {"c": 2, "e": {}},
        "d": [3],
    }
    assert before == {"a": {"b": 1, "c": 2}, "d": [1, 2]}


def test_json_patch_adds_replaces_removes_and_tests() -> None:
    before = {"a": {"b/c": 1}, "d": [1, 3]}
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": "/a/b~1c", "value": 1},
        {"op": "add", "path": "/d/1", "value": 2},
        {"op": "add", "path": "/d/-", "value": 4},
        {"op": "replace", "path": "/a/b~1c", "value": 5},
        {"op": "add", "path": "/e", "value": {}},
        {"op": "remove", "path": "/d/0"},
    ]
    assert json_patch(before, operations) == {"a": {"b/c": 5}, "d": [2, 3, 4], "e": {}}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/absent"},
        {"op": "replace", "path": "/absent", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "move", "path": "/a", "from": "/b"},
        {"op": "add", "value": 1},
    ],
)
def test_json_patch_that_does_not_apply_is_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="does not apply"):
        json_patch({"a": 1}, [operation])


RUNTIME: dict[str, Any] = {
    "supportedModelFormats": [{"name": "fake"}],
    "containers": [
        {
            "image": "registry.example/team/fake:2.0",
            "command": ["python", "-m", "fake"],
            "args": ["--model_name={{.Name}}", "--model_dir=/mnt/models"],
            "env": [{"name": "A", "value": "runtime"}, {"name": "B", "value": "runtime"}],
        }
    ],
}


def isvc(**model: Any) -> dict[str, Any]:
    model = {"modelFormat": {"name": "fake"}, "runtime": "fake", "storageUri": "file:///b", **model}
    return {
        "metadata": {"name": "echo", "namespace": "fraud"},
        "spec": {"predictor": {"model": model, "minReplicas": 1}},
    }


def run(planned: RevisionPlan, images: dict[str, Image]) -> list[str]:
    what = process(
        planned,
        images,
        revision="echo-predictor-00001",
        ports=(1, 2),
        folders={"/mnt/models": Path("/state/models")},
        resolve=lambda label, grpc: f"{label}:{'grpc' if grpc else 'http'}",
    )
    return [*what.command, *(f"{k}={v}" for k, v in what.env.items())]


def test_model_overrides_its_runtime_as_kserve_merges_them() -> None:
    planned = plan(isvc(args=["--more"], env=[{"name": "B", "value": "model"}]), "predictor", {"fake": RUNTIME})
    assert run(planned, {"fake": Image(python="/env/python", env={"C": "image"})}) == [
        "/env/python",
        *["-m", "fake", "--model_name=echo", "--model_dir=/state/models", "--more"],
        *["--http_port", "1", "--grpc_port", "2"],
        *["A=runtime", "B=model", "K_REVISION=echo-predictor-00001", "C=image"],
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://graph-predictor.fraud.svc.cluster.local/v2", "http://graph-predictor:http/v2"),
        ("https://graph.fraud", "http://graph:http"),
        ("grpc://graph-predictor.fraud.svc", "grpc://graph-predictor:grpc"),
        ("redis://redis.fraud.svc:6379/0", "redis://redis.fraud.svc:6379/0"),
        ("http://graph.other.svc", "http://graph.other.svc"),
        ("/mnt/models/features.json", "/state/models/features.json"),
        ("/mnt/models-old", "/mnt/models-old"),
    ],
)
def test_only_services_of_the_namespace_are_given_local_addresses(value: str, expected: str) -> None:
    planned = plan(isvc(env=[{"name": "B", "value": value}]), "predictor", {"fake": RUNTIME})
    assert f"B={expected}" in run(planned, {"fake": Image(python="python")})


def test_a_pinned_image_is_found_by_its_name() -> None:
    pinned = {**RUNTIME, "containers": [{**RUNTIME["containers"][0], "image": "registry.example/team/fake@sha256:abc"}]}
    assert run(plan(isvc(), "predictor", {"fake": pinned}), {"fake": Image(python="/env/python")})[0] == "/env/python"


def test_what_comes_from_a_secret_is_left_to_the_image_table() -> None:
    secret = {"name": "B", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    planned = plan(isvc(env=[secret]), "predictor", {"fake": RUNTIME})
    words = run(planned, {"fake": Image(python="python")})
    assert not [word for word in words if word.startswith("B=")]
    assert "B=here" in run(planned, {"fake": Image(python="python", env={"B": "here"})})


def test_kserve_makes_workers_of_a_transformers_concurrency() -> None:
    container = {"image": "fake", "command": ["python"], "args": ["--model_name=echo"]}
    spec = {"transformer": {"containers": [container], "containerConcurrency": 2, "timeout": 10}}
    planned = plan({"metadata": {"name": "echo", "namespace": "fraud"}, "spec": spec}, "transformer", {})
    words = run(planned, {"fake": Image(python="python")})
    assert words[2:6] == ["--predictor_host", "echo-predictor:http", "--workers", "2"]
    assert planned.timeout_s == 10


def test_share_of_traffic_is_not_part_of_the_template() -> None:
    before, after, other = isvc(), isvc(), isvc(storageUri="file:///other")
    after["spec"]["predictor"]["canaryTrafficPercent"] = 5
    assert template_hash(before, "predictor") == template_hash(after, "predictor")
    assert template_hash(before, "predictor") != template_hash(other, "predictor")


def test_image_runtime_and_format_that_are_not_there_are_named() -> None:
    with pytest.raises(ManifestError, match=r"no interpreter for image '.*fake:2.0'; .*\['other'\]"):
        run(plan(isvc(), "predictor", {"fake": RUNTIME}), {"other": Image(python="python")})
    with pytest.raises(ManifestError, match=r"no ServingRuntime 'fake'; there are \['other'\]"):
        plan(isvc(), "predictor", {"other": RUNTIME})
    with pytest.raises(ManifestError, match="not 'sklearn'"):
        plan(isvc(modelFormat={"name": "sklearn"}), "predictor", {"fake": RUNTIME})


def test_a_mounted_config_map_is_the_files_that_kustomize_packs(tmp_path: Path) -> None:
    mounts = [{"name": "policy", "mountPath": "/etc/policy"}, {"name": "spool", "mountPath": "/spool"}]
    volumes = [{"name": "policy", "configMap": {"name": "limits"}}, {"name": "spool", "emptyDir": {}}]
    spec = {"transformer": {"volumes": volumes, "containers": [{"volumeMounts": mounts}]}}
    planned = plan({"metadata": {"name": "echo", "namespace": "fraud"}, "spec": spec}, "transformer", {})
    assert (planned.config_maps, planned.scratch) == ({"/etc/policy": "limits"}, {"/spool": "spool"})
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "a.yaml").write_text("first")
    (tmp_path / "kustomization.yaml").write_text("configMapGenerator: [{name: limits, files: [policy/a.yaml]}]")
    found = read_config_maps(tmp_path)
    folder = mounted("limits", found, tmp_path / "state")
    (tmp_path / "policy" / "a.yaml").write_text("second")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a.yaml": "second"}
    with pytest.raises(ManifestError, match=r"no ConfigMap 'other'; .*\['limits'\]"):
        mounted("other", found, tmp_path / "state")
    assert read_config_maps(tmp_path / "policy") == {}


THINGS = [
    {"metadata": {"name": "a", "namespace": "fraud", "labels": {"tier": "gold"}}},
    {"metadata": {"name": "b", "namespace": "fraud", "labels": {"tier": "iron", "old": ""}}},
    {"metadata": {"name": "c", "namespace": "shop"}},
]


@pytest.mark.parametrize(
    ("labels", "fields", "names"),
    [
        ("", "", "abc"),
        ("tier=gold", "", "a"),
        ("tier == gold", "", "a"),
        ("tier!=gold", "", "bc"),
        ("tier, !old", "", "a"),
        ("old", "", "b"),
        ("", "metadata.name=c", "c"),
        ("tier", "metadata.namespace!=shop,metadata.name=b", "b"),
    ],
)
def test_selectors_choose_as_in_kubernetes(labels: str, fields: str, names: str) -> None:
    chosen = selector(labels, fields)
    assert "".join(thing["metadata"]["name"] for thing in THINGS if chosen(thing)) == names


@pytest.mark.parametrize(("labels", "fields"), [("tier in (gold)", ""), ("!tier=gold", ""), ("", "spec.x=1")])
def test_a_selector_that_is_not_understood_chooses_nothing(labels: str, fields: str) -> None:
    with pytest.raises(ApiError, match="selector"):
        selector(labels, fields)


def test_an_age_is_the_coarser_the_longer() -> None:
    assert [age(s) for s in (-1, 119, 125, 900, 4 * 3600, 3 * 86400)] == ["0s", "119s", "2m5s", "15m", "4h", "3d"]


def test_a_watcher_that_missed_events_is_told() -> None:
    async def missed() -> tuple[bool, bool]:
        log = EventLog()
        for _ in range(1001):
            log.add(Event(log.next_version(), "MODIFIED", {}))
        assert [e.version for e in await log.after(1000)] == [1001]
        return log.expired(0), log.expired(1)

    assert asyncio.run(missed()) == (True, False)
