"""Clients that were written for a cluster work against the local KServe as they are: KServe's SDK, a watch, kubectl."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest
from kserve import (
    KServeClient,
    V1beta1InferenceService,
    V1beta1InferenceServiceSpec,
    V1beta1ModelFormat,
    V1beta1ModelSpec,
    V1beta1PredictorSpec,
)
from kubernetes import watch

from pipelines import deploy
from simulators.local_kserve import LocalKServe
from tests.local_kserve import PLACE, custom, infer, isvc, patch

ROOT = Path(__file__).parents[3]
MODE = {"serving.kserve.io/deploymentMode": "Knative"}


@pytest.fixture
def sdk(local: LocalKServe, api: Any, monkeypatch: pytest.MonkeyPatch) -> KServeClient:
    del api  # clears up
    # It sets the default of the process.
    monkeypatch.setattr(kubernetes.client.Configuration, "_default", None)
    return KServeClient(config_file=str(local.kubeconfig))


def echo(folder: Path, **predictor: Any) -> V1beta1InferenceService:
    model = V1beta1ModelSpec(
        model_format=V1beta1ModelFormat(name="fake"), runtime="fake", storage_uri=folder.as_uri(), name=""
    )
    return V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=kubernetes.client.V1ObjectMeta(name="echo", namespace="fraud", annotations=MODE),
        spec=V1beta1InferenceServiceSpec(predictor=V1beta1PredictorSpec(model=model, **predictor)),
    )


def test_kserves_own_client_creates_waits_changes_and_deletes(sdk: KServeClient, tmp_path: Path) -> None:
    (tmp_path / "model.bst").write_text("tree")
    sdk.create(echo(tmp_path), namespace="fraud")
    sdk.wait_isvc_ready("echo", namespace="fraud", timeout_seconds=30, polling_interval=0.2)
    assert sdk.is_isvc_ready("echo", namespace="fraud")
    assert [item["metadata"]["name"] for item in sdk.get(namespace="fraud")["items"]] == ["echo"]

    sdk.patch("echo", echo(tmp_path, min_replicas=2, canary_traffic_percent=10), namespace="fraud")
    sdk.wait_isvc_ready("echo", namespace="fraud", watch=True, timeout_seconds=30, expected_generation=2)
    status = sdk.get("echo", namespace="fraud")["status"]
    assert [target["percent"] for target in status["components"]["predictor"]["traffic"]] == [10, 90]

    replaced = sdk.replace("echo", echo(tmp_path, min_replicas=2), namespace="fraud")
    sdk.wait_isvc_ready("echo", "fraud", timeout_seconds=30, polling_interval=0.2, expected_generation=3)
    assert replaced["metadata"]["generation"] == 3
    assert infer(status["url"])["revision"] == "echo-predictor-00002"

    sdk.delete("echo", namespace="fraud")
    with pytest.raises(RuntimeError, match="not found"):
        sdk.get("echo", namespace="fraud")


def test_deploying_over_a_canary_never_gives_it_everything(local: LocalKServe, api: Any, tmp_path: Path) -> None:
    def serving(bundle: str) -> dict[str, Any]:
        (tmp_path / bundle).mkdir()
        (tmp_path / bundle / "model.bst").write_text("tree")
        uri = (tmp_path / bundle).as_uri()
        return isvc(
            "echo", predictor={"model": {"modelFormat": {"name": "fake"}, "runtime": "fake", "storageUri": uri}}
        )

    deploy.apply(api, serving("champion"))
    local.wait_ready("echo")
    patch(api, "echo", {**serving("challenger")["spec"]["predictor"], "canaryTrafficPercent": 10})
    local.wait_ready("echo")
    before = api.list_namespaced_custom_object(*PLACE)["metadata"]["resourceVersion"]
    deploy.apply(api, serving("next"))
    local.wait_ready("echo")
    after = int(api.list_namespaced_custom_object(*PLACE)["metadata"]["resourceVersion"])
    shares = []
    for event in watch.Watch().stream(api.list_namespaced_custom_object, *PLACE, resource_version=before):
        traffic = event["object"]["status"]["components"]["predictor"]["traffic"]
        shares.append({target["revisionName"][-1]: target["percent"] for target in traffic})
        if int(event["object"]["metadata"]["resourceVersion"]) >= after:
            break
    assert {share.get("2", 0) for share in shares} <= {0, 10}
    assert shares[-1] == {"3": 100}


def test_a_watch_tells_every_change_once(api: Any) -> None:
    before = api.list_namespaced_custom_object(*PLACE)["metadata"]["resourceVersion"]
    api.create_namespaced_custom_object(*PLACE, isvc("other"))
    created = api.create_namespaced_custom_object(*PLACE, isvc("echo"))
    seen: list[tuple[str, str]] = []
    versions: list[int] = []
    stream = watch.Watch().stream(
        api.list_namespaced_custom_object,
        *PLACE,
        resource_version=before,
        field_selector="metadata.name=echo",
        timeout_seconds=20,
    )
    for event in stream:
        thing = event["object"]
        ready = next(c["status"] for c in thing["status"]["conditions"] if c["type"] == "Ready")
        seen.append((event["type"], ready))
        versions.append(int(thing["metadata"]["resourceVersion"]))
        assert thing["metadata"]["name"] == "echo"
        if seen[-1] == ("MODIFIED", "True"):
            # Nothing is changed by it, so nobody is told.
            patch(api, "echo", custom())
            api.delete_namespaced_custom_object(*PLACE, "echo")
        if event["type"] == "DELETED":
            break
    assert seen == [("ADDED", "Unknown"), ("MODIFIED", "True"), ("DELETED", "True")]
    assert versions == sorted(set(versions))
    assert versions[0] == int(created["metadata"]["resourceVersion"])


class Kubectl:
    """kubectl against a local KServe."""

    def __init__(self, binary: str, kubeconfig: Path) -> None:
        self._command = [binary, "--kubeconfig", str(kubeconfig)]

    def __call__(self, *arguments: str) -> str:
        """What it printed; an error is an AssertionError with what it said."""
        done = self.tried(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tried(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._command, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def kubectl(local: LocalKServe, api: Any) -> Kubectl:
    del api  # clears up
    binary = shutil.which("kubectl")
    if binary is None:
        pytest.skip("no kubectl on PATH: the API was not tried with it")
    return Kubectl(binary, local.kubeconfig)


def test_kubectl_applies_waits_shows_patches_and_deletes(kubectl: Kubectl, tmp_path: Path) -> None:
    file = tmp_path / "isvc.yaml"
    file.write_text(json.dumps(isvc("echo")))
    assert "created" in kubectl("apply", "-f", str(file))
    assert "condition met" in kubectl("wait", "--for=condition=Ready", "isvc/echo", "--timeout=30s")
    assert "unchanged" in kubectl("apply", "-f", str(file))

    file.write_text(json.dumps(isvc("echo", predictor={**custom(MARK="new"), "canaryTrafficPercent": 10})))
    assert "configured" in kubectl("apply", "--dry-run=server", "-f", str(file))
    assert kubectl("get", "isvc", "echo", "-o", "jsonpath={.spec.predictor.canaryTrafficPercent}") == ""
    assert "configured" in kubectl("apply", "-f", str(file))
    kubectl("wait", "--for=condition=Ready", "isvc/echo", "--timeout=30s")
    header, row = kubectl("get", "isvc").splitlines()
    assert header.split()[:5] == ["NAME", "URL", "READY", "PREV", "LATEST"]
    assert row.split()[2:7] == ["True", "90", "10", "echo-predictor-00001", "echo-predictor-00002"]

    change = [{"op": "replace", "path": "/spec/predictor/canaryTrafficPercent", "value": 60}]
    kubectl("patch", "isvc", "echo", "--type=json", "-p", json.dumps(change))
    kubectl("patch", "isvc", "echo", "--type=merge", "-p", '{"metadata": {"annotations": {"a": "b"}}}')
    (item,) = json.loads(kubectl("get", "isvc", "-o", "json"))["items"]
    assert item["spec"]["predictor"]["canaryTrafficPercent"] == 60
    assert item["metadata"]["annotations"]["a"] == "b"

    assert "deleted" in kubectl("delete", "isvc", "echo")
    assert kubectl("get", "isvc", "-o", "name") == ""


def test_kubectl_says_what_was_refused(kubectl: Kubectl, tmp_path: Path) -> None:
    file = tmp_path / "isvc.yaml"
    for predictor, words in (
        ({**custom(), "minReplicaz": 1}, 'unknown field "spec.predictor.minReplicaz"'),
        ({**custom(), "minReplicas": 3, "maxReplicas": 2}, "denied the request"),
    ):
        file.write_text(json.dumps(isvc("echo", predictor=predictor)))
        refused = kubectl.tried("apply", "-f", str(file))
        assert refused.returncode == 1
        assert words in refused.stderr
    refused = kubectl.tried("get", "isvc", "-l", "app in (echo)")
    assert "only key, !key, key=value and key!=value are known" in refused.stderr


def test_the_commands_of_the_docs_work(kubectl: Kubectl, local: LocalKServe, api: Any) -> None:
    api.create_namespaced_custom_object(*PLACE, isvc("fraud-detector"))
    page = (ROOT / "docs" / "local_kserve.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) >= 8
    for line in lines:
        command, option, file, *arguments = shlex.split(line)
        assert (command, option, file) == ("kubectl", "--kubeconfig", ".local/kubeconfig")
        kubectl(*arguments)
    assert api.list_namespaced_custom_object(*PLACE)["items"] == []
