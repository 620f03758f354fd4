"""The local KServe as its callers see it: real processes, real listeners, the ordinary Kubernetes client."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from kubernetes.client import ApiException

from simulators.local_kserve import LocalKServe, LocalKServeError
from simulators.local_kserve.errors import RevisionFailed
from simulators.local_kserve.patches import merge_patch
from simulators.local_kserve.volumes import Volumes
from tests.local_kserve import PLACE, alive, custom, infer, isvc, patch, start, until


def shares(url: str, requests: int) -> Counter[str]:
    return Counter(infer(url)["revision"] for _ in range(requests))


def predictor_status(found: dict[str, Any]) -> dict[str, Any]:
    status: dict[str, Any] = found["status"]["components"]["predictor"]
    return status


def test_canary_is_split_then_promoted_then_rolled_back(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    url = local.wait_ready("echo")["status"]["url"]
    assert shares(url, 5) == {"echo-predictor-00001": 5}

    patch(api, "echo", {**custom(MARK="new"), "canaryTrafficPercent": 10})
    canary = predictor_status(local.wait_ready("echo"))
    assert canary["traffic"] == [
        {"revisionName": "echo-predictor-00002", "percent": 10, "latestRevision": True},
        {"revisionName": "echo-predictor-00001", "percent": 90, "latestRevision": False, "tag": "prev"},
    ]
    before = local.requests()
    split = shares(url, 200)
    assert abs(split["echo-predictor-00002"] - 20) <= 2
    assert split.total() == 200
    counted = Counter(local.requests()) - Counter(before)
    assert counted == split

    patch(api, "echo", {"canaryTrafficPercent": 0})
    local.wait_ready("echo")
    assert shares(url, 20) == {"echo-predictor-00001": 20}

    patch(api, "echo", {"canaryTrafficPercent": None})
    promoted = predictor_status(local.wait_ready("echo"))
    assert promoted["latestRolledoutRevision"] == "echo-predictor-00002"
    assert promoted["previousRolledoutRevision"] == "echo-predictor-00001"
    assert shares(url, 20) == {"echo-predictor-00002": 20}

    patch(api, "echo", {"canaryTrafficPercent": 0})
    local.wait_ready("echo")
    assert shares(url, 20) == {"echo-predictor-00001": 20}


def test_failed_revision_is_reported_and_the_old_one_keeps_serving(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    url = local.wait_ready("echo")["status"]["url"]
    patch(api, "echo", custom("broken"))
    with pytest.raises(LocalKServeError, match="the bundle is for another model"):
        local.wait_ready("echo")
    found = local.get("echo")
    assert predictor_status(found)["latestReadyRevision"] == "echo-predictor-00001"
    assert predictor_status(found)["latestCreatedRevision"] == "echo-predictor-00002"
    assert found["status"]["modelStatus"]["transitionStatus"] == "BlockedByFailedLoad"
    assert shares(url, 5) == {"echo-predictor-00001": 5}
    patch(api, "echo", custom(MARK="mended"))
    local.wait_ready("echo")
    assert shares(url, 5) == {"echo-predictor-00003": 5}


def test_crashed_revision_is_restarted_at_the_same_address(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    url = local.wait_ready("echo")["status"]["url"]
    first = infer(url)["pid"]
    with pytest.raises(urllib.error.HTTPError, match="502"):
        infer(url, b"crash")

    def answered() -> Any:
        with suppress(urllib.error.HTTPError):
            return infer(url)["pid"]

    assert until(answered) != first
    local.wait_ready("echo")


def test_deleted_service_leaves_no_process_and_no_object(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    url = local.wait_ready("echo")["status"]["url"]
    pid = infer(url)["pid"]
    api.delete_namespaced_custom_object(*PLACE, "echo")
    until(lambda: not alive(pid))
    assert "echo-predictor-00001" not in local.requests()
    with pytest.raises(ApiException) as refusal:
        local.get("echo")
    assert refusal.value.status == 404
    with pytest.raises(urllib.error.HTTPError, match="503"):
        infer(url)


def test_superseded_revision_is_ended_after_promotion(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    url = local.wait_ready("echo")["status"]["url"]
    pid = infer(url)["pid"]
    patch(api, "echo", custom(MARK="new"))
    local.wait_ready("echo")
    until(lambda: not alive(pid))
    assert infer(url)["env"]["MARK"] == "new"


def test_traffic_stays_until_the_revision_it_goes_back_to_is_ready(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo", predictor=custom(START_S="0.5")))
    url = local.wait_ready("echo")["status"]["url"]
    pid = infer(url)["pid"]
    patch(api, "echo", custom(START_S="0"))
    local.wait_ready("echo")
    until(lambda: not alive(pid))
    patch(api, "echo", {"canaryTrafficPercent": 0})
    assert infer(url)["revision"] == "echo-predictor-00002"
    until(lambda: infer(url)["revision"] == "echo-predictor-00001")


def test_request_in_flight_is_answered_by_the_revision_that_is_ended(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    url = local.wait_ready("echo")["status"]["url"]
    pid = infer(url)["pid"]
    patch(api, "echo", {**custom(MARK="new"), "canaryTrafficPercent": 0})
    local.wait_ready("echo")
    with ThreadPoolExecutor(1) as pool:
        before = local.requests()["echo-predictor-00001"]
        slow = pool.submit(infer, url, b"slow")
        until(lambda: local.requests()["echo-predictor-00001"] > before)
        patch(api, "echo", {"canaryTrafficPercent": None})
        assert infer(url)["env"]["MARK"] == "new"
        assert slow.result()["pid"] == pid
    until(lambda: not alive(pid))


def test_model_runs_as_its_runtime_says(local: LocalKServe, api: Any, tmp_path: Path) -> None:
    (tmp_path / "model.bst").write_text("tree")
    model = {"modelFormat": {"name": "fake"}, "runtime": "fake", "storageUri": f"file://{tmp_path}"}
    api.create_namespaced_custom_object(*PLACE, isvc("echo", predictor={"model": model}))
    about = infer(local.wait_ready("echo")["status"]["url"])
    assert about["arguments"][0] == "--model_name=echo"
    fetched = Path(about["arguments"][1].removeprefix("--model_dir="))
    assert (fetched / "model.bst").read_text() == "tree"
    assert about["env"]["K_REVISION"] == "echo-predictor-00001"
    assert about["env"]["INJECTED"] == "yes"
    assert Path(about["env"]["SPOOL"]).is_dir()

    patch(api, "echo", {"model": {"storageUri": f"file://{tmp_path}/absent"}})
    with pytest.raises(LocalKServeError, match=r"cannot fetch file://.*/absent"):
        local.wait_ready("echo")


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "link"])
async def test_a_path_that_leads_out_of_its_claim_is_not_mounted(path: str, tmp_path: Path) -> None:
    for folder in ("claim", "secret"):
        (tmp_path / folder).mkdir()
    (tmp_path / "claim" / "link").symlink_to(tmp_path / "secret")
    volumes = Volumes(tmp_path, {}, {"bundles": tmp_path / "claim"})
    with pytest.raises(RevisionFailed, match="leads out of the claim"):
        await volumes._model(f"pvc://bundles/{path}", tmp_path / "model")


def test_a_claim_is_mounted_as_a_cluster_would(local: LocalKServe, api: Any) -> None:
    bundle = local.state_dir.parent / "claim" / "fake" / "1"
    bundle.mkdir(parents=True)
    (bundle / "model.bst").write_text("tree")
    model = {"modelFormat": {"name": "fake"}, "runtime": "fake", "storageUri": "pvc://bundles/fake/1"}
    transformer = custom(BUNDLES="/mnt/bundles/fake/1")
    transformer["containers"][0]["volumeMounts"] = [
        {"name": "bundles", "mountPath": "/mnt/bundles", "readOnly": True},
        {"name": "other", "mountPath": "/mnt/other"},
    ]
    transformer["volumes"] = [
        {"name": "bundles", "persistentVolumeClaim": {"claimName": "bundles"}},
        {"name": "other", "persistentVolumeClaim": {"claimName": "nobody-gave-a-folder"}},
    ]
    spec = {"predictor": {"model": model}, "transformer": transformer}
    api.create_namespaced_custom_object(*PLACE, isvc("echo", **spec))
    status = local.wait_ready("echo")["status"]
    predictor = infer(status["components"]["predictor"]["url"])
    assert predictor["arguments"][1] == f"--model_dir={bundle}"
    assert infer(status["url"])["env"]["BUNDLES"] == str(bundle)

    patch(api, "echo", {"model": {"storageUri": "pvc://bundles/fake/2"}})
    with pytest.raises(LocalKServeError, match=r"cannot mount pvc://bundles/fake/2: there is no folder"):
        local.wait_ready("echo")


def test_transformer_is_the_entry_and_knows_its_predictor_and_neighbours(local: LocalKServe, api: Any) -> None:
    transformer = custom(NEIGHBOUR="http://graph-predictor.fraud.svc.cluster.local", OTHER="redis://redis.fraud")
    api.create_namespaced_custom_object(*PLACE, isvc("echo", predictor=custom(), transformer=transformer))
    status = local.wait_ready("echo")["status"]
    about = infer(status["url"])
    assert about["revision"] == "echo-transformer-00001"
    predictor = about["arguments"][about["arguments"].index("--predictor_host") + 1]
    assert infer(f"http://{predictor}")["revision"] == "echo-predictor-00001"
    assert about["env"]["OTHER"] == "redis://redis.fraud"
    with pytest.raises(urllib.error.HTTPError, match="503"):
        infer(about["env"]["NEIGHBOUR"])
    graph = isvc("graph")
    api.create_namespaced_custom_object(*PLACE, graph)
    local.wait_ready("graph")
    assert infer(about["env"]["NEIGHBOUR"])["revision"] == "graph-predictor-00001"


def test_bodies_and_refusals_pass_unchanged(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    url = local.wait_ready("echo")["status"]["url"]
    assert infer(url, b"x" * 3_000_000)["bytes"] == 3_000_000
    with pytest.raises(urllib.error.HTTPError, match="400"):
        infer(url, b"refuse")


def test_a_request_may_take_as_long_as_the_spec_says(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo", predictor={**custom(), "timeout": 1}))
    url = local.wait_ready("echo")["status"]["url"]
    with pytest.raises(urllib.error.HTTPError, match="504"):
        infer(url, b"too slow")


def test_grpc_calls_are_split_and_errors_pass_through(local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo", predictor=custom("grpc")))
    status = predictor_status(local.wait_ready("echo"))
    method = "/inference.GRPCInferenceService/ModelInfer"
    with grpc.insecure_channel(status["grpcUrl"].removeprefix("grpc://")) as channel:
        call = channel.unary_unary(method)
        assert call(b"\x00tensor", timeout=10) == method.encode() + b"|\x00tensor"
        with pytest.raises(grpc.RpcError) as refusal:
            call(b"refuse", timeout=10)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.details() == "row 3: no such city"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"metadata": {"name": "Echo"}}, 422, "lower-case"),
        ({"metadata": {"annotations": None}}, 422, "must be Knative"),
        ({"spec": {"predictor": {"canaryTrafficPercent": 101}}}, 403, "from 0 to 100"),
        ({"spec": {"predictor": {"canaryTrafficPercent": "5"}}}, 422, "must be an integer"),
        ({"spec": {"predictor": {"containers": None}}}, 403, "exactly one of"),
        ({"spec": {"predictor": None}}, 422, "predictor must be set"),
        ({"spec": {"predictor": {"canaryPercent": 5}}}, 400, "unknown field"),
        ({"kind": "Pod"}, 400, "InferenceService"),
    ],
)
def test_what_kserve_would_refuse_is_refused(
    local: LocalKServe, api: Any, change: dict[str, Any], code: int, words: str
) -> None:
    with pytest.raises(ApiException) as refusal:
        api.create_namespaced_custom_object(*PLACE, merge_patch(isvc("echo"), change))
    status = json.loads(refusal.value.body)
    assert (refusal.value.status, status["kind"], status["code"]) == (code, "Status", code)
    assert words in status["message"]
    assert api.list_namespaced_custom_object(*PLACE)["items"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "", b"\xff", 400),
        ("POST", "", b"[" * 100_000, 400),
        ("PATCH", "/echo", b'[{"op": "add", "path": 5, "value": 1}]', 422),
        ("GET", "?watch=true&resourceVersion=latest", None, 400),
        ("GET", "?watch=true&timeoutSeconds=soon", None, 400),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_status(  # noqa: PLR0917 - a request, and what it is answered
    local: LocalKServe, api: Any, method: str, path: str, body: bytes | None, code: int
) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    group, version, namespace, plural = PLACE
    url = f"{local.url}/apis/{group}/{version}/namespaces/{namespace}/{plural}{path}"
    kind = {"content-type": "application/json-patch+json"}
    request = urllib.request.Request(url, body, kind, method=method)
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)
    status = json.loads(refusal.value.read())
    assert (refusal.value.code, status["kind"], status["code"]) == (code, "Status", code)


def test_an_object_that_was_read_elsewhere_is_not_created_again(api: Any) -> None:
    with pytest.raises(ApiException) as refusal:
        api.create_namespaced_custom_object(*PLACE, merge_patch(isvc("echo"), {"metadata": {"resourceVersion": "7"}}))
    assert (refusal.value.status, "resourceVersion" in refusal.value.body) == (400, True)


def test_second_create_and_stale_change_conflict(local: LocalKServe, api: Any) -> None:
    stale = api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    with pytest.raises(ApiException) as again:
        api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    assert (again.value.status, json.loads(again.value.body)["reason"]) == (409, "AlreadyExists")
    patch(api, "echo", {"canaryTrafficPercent": 5})
    with pytest.raises(ApiException) as conflict:
        api.replace_namespaced_custom_object(*PLACE, "echo", stale)
    assert (conflict.value.status, json.loads(conflict.value.body)["reason"]) == (409, "Conflict")


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
def test_only_the_object_that_a_client_means_is_deleted(api: Any, field: str) -> None:
    metadata = api.create_namespaced_custom_object(*PLACE, isvc("echo"))["metadata"]
    other = {"preconditions": {field: metadata[field] + "0"}}
    with pytest.raises(ApiException) as refusal:
        api.delete_namespaced_custom_object(*PLACE, "echo", body=other)
    assert (refusal.value.status, json.loads(refusal.value.body)["reason"]) == (409, "Conflict")
    api.delete_namespaced_custom_object(*PLACE, "echo", body={"dryRun": ["All"]})
    uid = api.get_namespaced_custom_object(*PLACE, "echo")["metadata"]["uid"]
    api.delete_namespaced_custom_object(*PLACE, "echo", body={"preconditions": {"uid": uid}})
    assert api.list_namespaced_custom_object(*PLACE)["items"] == []


def test_ending_the_server_answers_what_is_in_flight_then_ends_every_process(tmp_path: Path) -> None:
    with start(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        server.api().create_namespaced_custom_object(*PLACE, isvc("echo"))
        url = server.wait_ready("echo")["status"]["url"]
        slow = pool.submit(infer, url, b"slow")
        until(server.requests)
        server.close()
        assert not alive(slow.result()["pid"])


def test_killed_server_leaves_no_process_behind(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        server.api().create_namespaced_custom_object(*PLACE, isvc("echo"))
        pid = infer(server.wait_ready("echo")["status"]["url"])["pid"]
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not alive(pid))


def test_missing_runtimes_are_named_when_it_starts(tmp_path: Path) -> None:
    with pytest.raises(LocalKServeError, match="no ServingRuntime in"):
        LocalKServe(tmp_path, tmp_path / "state", {})
