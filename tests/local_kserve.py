"""A local KServe with services small enough to start in a fraction of a second, for its tests."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from simulators.local_kserve import LocalKServe

PLACE = ("serving.kserve.io", "v1beta1", "fraud", "inferenceservices")
RUNTIME = """
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: fake}
spec:
  supportedModelFormats: [{name: fake, version: "1"}]
  containers:
    - name: kserve-container
      image: registry.example/fake:1.0
      command: [python, -m, local_kserve_fake]
      args: ["--model_name={{.Name}}", "--model_dir=/mnt/models"]
      env:
        - {name: FAKE, value: http}
        - {name: SPOOL, value: /var/spool/fake}
      volumeMounts: [{name: spool, mountPath: /var/spool/fake}]
  volumes: [{name: spool, emptyDir: {}}]
"""


def start(folder: Path) -> LocalKServe:
    (folder / "serving_runtimes").mkdir()
    (folder / "serving_runtimes" / "fake.yaml").write_text(RUNTIME)
    shutil.copy(Path(__file__).with_name("local_kserve_fake.py"), folder)
    images = {"fake": {"python": sys.executable, "env": {"PYTHONPATH": str(folder), "INJECTED": "yes"}}}
    claims = {"bundles": folder / "claim"}
    return LocalKServe(folder, folder / "state", images, claims, backoff_s=0.2, drain_s=5)


def custom(fake: str = "http", **env: str) -> dict[str, Any]:
    return {
        "containers": [
            {
                "name": "kserve-container",
                "image": "fake",
                "command": ["python", "-m", "local_kserve_fake"],
                "args": ["--model_name=echo"],
                "env": [{"name": k, "value": v} for k, v in {"FAKE": fake, **env}.items()],
            }
        ]
    }


def isvc(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {"serving.kserve.io/deploymentMode": "Knative"}},
        "spec": spec or {"predictor": custom()},
    }


def patch(api: Any, name: str, predictor: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = api.patch_namespaced_custom_object(*PLACE, name, {"spec": {"predictor": predictor}})
    return found


def infer(url: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(f"{url}/v2/models/echo/infer", data=body, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def until(happened: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return result


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
