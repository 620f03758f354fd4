"""The LightGBM predictor's image is built, and scores events inside, as a cluster would run it.

Building takes minutes and a package index, so it is done where FRAUD_BUILD_IMAGE asks for it; elsewhere an image that
was built from this commit already is tried, and one that was not is skipped aloud. `make check-images` tries them all.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checks.containers import CannotRun, Runner, runner
from tests.checks.images import check
from tests.delivery.workflows import ROOT
from tests.unit.inference_services.test_extras import PROJECT

NAME = "fraud-lightgbm-predictor"
BUILD = bool(os.environ.get("FRAUD_BUILD_IMAGE"))
HOW = "FRAUD_BUILD_IMAGE=1 builds it, with the variables of `make images`"


@pytest.fixture(scope="module")
def builder() -> Iterator[Runner]:
    """What builds and runs images here."""
    try:
        with runner() as found:
            yield found
    except CannotRun as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def built(builder: Runner) -> None:
    """The image, of this commit."""
    if BUILD:
        subprocess.run(["make", "images", f"IMAGE={NAME}"], cwd=ROOT, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    try:
        labels = builder.image(f"{NAME}:{PROJECT['version']}").config["Labels"]
    except CannotRun:
        pytest.skip(f"{NAME} was not built: {HOW}")
    if labels["org.opencontainers.image.revision"] != commit.strip():
        pytest.skip(f"{NAME} was built from another commit: {HOW}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("built")
def test_the_image_scores_events_as_this_machine_does(tmp_path: Path) -> None:
    # The image's user reads the bundle.
    tmp_path.chmod(0o755)
    rows = check([NAME], tmp_path)
    assert [row.name for row in rows if row.met is False] == []
    assert any("scores, off by at most" in row.name for row in rows)
