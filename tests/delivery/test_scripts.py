"""The scripts of delivery, with the real kustomize; what would reach a cluster or a registry is played by a script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.delivery.workflows import ROOT

DIGEST = f"sha256:{'a' * 64}"
KUBECTL = shutil.which("kubectl")


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script of .ci with the programs of `folder` before all others."""
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = [ROOT / ".ci" / script, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


@pytest.mark.skipif(KUBECTL is None, reason="no kubectl on PATH: nothing builds the overlay")
def test_a_deployment_applies_the_overlay_with_the_models_that_serve(tmp_path: Path) -> None:
    live = ROOT / "manifests" / "base" / "inference_services" / "fraud_gnn.yaml"
    running = yaml.safe_load(live.read_text())
    running["spec"]["predictor"]["model"]["storageUri"] = "pvc://fraud-bundles/fraud-gnn/7-abc"
    (tmp_path / "live.json").write_text(json.dumps({"items": [running]}))
    fake = f"""case $1 in
      kustomize) exec {KUBECTL} "$@" ;;
      get) cat {tmp_path}/live.json ;;
      apply) cp "$3" {tmp_path}/applied.yaml ;;
    esac"""
    program(tmp_path / "kubectl", fake)
    done = run(tmp_path, "deploy", "manifests/overlays/knative", str(ROOT / ".venv" / "bin" / "python"))
    assert done.returncode == 0, done.stderr
    applied = list(yaml.safe_load_all((tmp_path / "applied.yaml").read_text()))
    services = {thing["metadata"]["name"]: thing for thing in applied if thing["kind"] == "InferenceService"}
    assert services["fraud-gnn"]["spec"]["predictor"]["model"]["storageUri"].endswith("/7-abc")
    assert len(applied) > len(services) == 3


def test_a_failed_look_at_the_cluster_applies_nothing(tmp_path: Path) -> None:
    program(tmp_path / "kubectl", f"case $1 in kustomize) ;; get) exit 1 ;; apply) touch {tmp_path}/applied ;; esac")
    assert run(tmp_path, "deploy", "manifests/overlays/knative", "python3").returncode != 0
    assert not (tmp_path / "applied").exists()


def test_an_overlay_that_was_never_pinned_is_not_applied(tmp_path: Path) -> None:
    built = f"image: host/fraud-x@sha256:{'0' * 64}"
    program(tmp_path / "kubectl", f"case $1 in kustomize) echo '{built}' ;; *) touch {tmp_path}/asked ;; esac")
    done = run(tmp_path, "deploy", "manifests/overlays/production", "python3")
    assert done.returncode == 1
    assert "host/fraud-x@sha256" in done.stderr
    assert not (tmp_path / "asked").exists()


def test_a_pushed_image_is_named_by_its_digest_in_that_registry(tmp_path: Path) -> None:
    program(
        tmp_path / "docker", f'test "$1" = image && printf "other/fraud-x@sha256:0\\nhost/a/fraud-x@{DIGEST}\\n"; true'
    )
    done = run(tmp_path, "push_image", "docker", "fraud-x:0.1.0", "host/a/fraud-x")
    assert done.stdout == f"host/a/fraud-x@{DIGEST}\n"


def test_buildah_tells_the_digest_in_a_file(tmp_path: Path) -> None:
    program(tmp_path / "buildah", f'printf %s "{DIGEST}" > "$3"')
    done = run(tmp_path, "push_image", "buildah", "fraud-x:0.1.0", "host/a/fraud-x")
    assert done.stdout == f"host/a/fraud-x@{DIGEST}\n"


def test_a_failed_push_names_nothing(tmp_path: Path) -> None:
    program(tmp_path / "docker", 'test "$1" != push')
    done = run(tmp_path, "push_image", "docker", "fraud-x:0.1.0", "host/a/fraud-x")
    assert done.returncode != 0
    assert done.stdout == ""
