"""The digests of what was pushed, and nothing else, get into an overlay."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from manifests.pin_images import CannotPin, main, pin

OVERLAY = """\
# Production.
resources:
  - ../../base
# Written by `make pin-images`.
images:
  - name: fraud-transformer
    digest: sha256:0000000000000000000000000000000000000000000000000000000000000000
  - name: fraud-drift
    newName: old.example/fraud-drift
    digest: sha256:0000000000000000000000000000000000000000000000000000000000000000

# What comes after.
patches: []
"""
TRANSFORMER = f"registry.example:5000/team/fraud-transformer@sha256:{'a' * 64}\n"
DRIFT = f"registry.example:5000/team/fraud-drift@sha256:{'b' * 64}\n"


def test_every_image_gets_its_registry_and_its_digest() -> None:
    pinned = yaml.safe_load(pin(OVERLAY, [DRIFT, TRANSFORMER]))
    assert pinned["images"] == [
        {
            "name": "fraud-transformer",
            "newName": "registry.example:5000/team/fraud-transformer",
            "digest": f"sha256:{'a' * 64}",
        },
        {"name": "fraud-drift", "newName": "registry.example:5000/team/fraud-drift", "digest": f"sha256:{'b' * 64}"},
    ]


def test_the_rest_of_the_file_stays_as_it_was() -> None:
    pinned = pin(OVERLAY, [DRIFT, TRANSFORMER])
    before, _, after = OVERLAY.partition("images:\n")
    assert pinned.startswith(before)
    assert pinned.endswith(after[after.index("\n# What comes after") :])
    assert pin(pinned, [DRIFT, TRANSFORMER]) == pinned


def test_a_list_at_the_end_of_the_file_is_found() -> None:
    short = OVERLAY[: OVERLAY.index("\n# What comes after")]
    assert yaml.safe_load(pin(short, [DRIFT, TRANSFORMER]))["images"][1]["digest"] == f"sha256:{'b' * 64}"


@pytest.mark.parametrize(
    ("references", "told"),
    [
        ([TRANSFORMER], "no digest of fraud-drift"),
        ([], "no digest of fraud-transformer, fraud-drift"),
        ([TRANSFORMER, "registry.example/team/fraud-drift:0.1.0"], "not a digest"),
        ([TRANSFORMER, "registry.example/team/fraud-drift@sha256:abc"], "not a digest"),
        ([TRANSFORMER, f"registry.example/nginx@sha256:{'c' * 64}"], "not a digest"),
        ([TRANSFORMER, DRIFT, f"registry.example/fraud-features@sha256:{'c' * 64}"], "does not use fraud-features"),
        ([TRANSFORMER, DRIFT, DRIFT.replace("b", "c")], "pushed twice"),
    ],
)
def test_what_does_not_fit_is_refused(references: list[str], told: str) -> None:
    with pytest.raises(CannotPin, match=told):
        pin(OVERLAY, references)


def test_a_list_without_indentation_is_found() -> None:
    flat = "images:\n- name: fraud-drift\n  newTag: 0.1.0\nresources: []\n"
    pinned = yaml.safe_load(pin(flat, [DRIFT]))
    assert pinned["images"][0]["digest"] == f"sha256:{'b' * 64}"
    assert pinned["resources"] == []


def test_an_overlay_without_images_is_refused() -> None:
    with pytest.raises(CannotPin, match="no list"):
        pin("resources: []\n", [TRANSFORMER])


def test_a_refused_file_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overlay, digest = tmp_path / "kustomization.yaml", tmp_path / "fraud-transformer"
    overlay.write_text(OVERLAY)
    digest.write_text(TRANSFORMER)
    assert main([str(overlay), str(digest)]) == 1
    assert "no digest of fraud-drift" in capsys.readouterr().err
    assert overlay.read_text() == OVERLAY
    (tmp_path / "fraud-drift").write_text(DRIFT)
    assert main([str(overlay), str(digest), str(tmp_path / "fraud-drift")]) == 0
    assert "newName: registry.example:5000/team/fraud-drift\n" in overlay.read_text()
