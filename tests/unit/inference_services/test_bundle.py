from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from inference_services.bundle import load_manifest, sha12_of, verify, write_manifest
from inference_services.errors import BundleError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.bst").write_bytes(b"trees")
    (folder / "deep" / "notes.md").write_text("notes")
    write_manifest(folder, "fraud-lightgbm", {"trained": "2026-02-01"})
    return folder


def test_content_id_is_the_hash_of_paths_and_file_hashes(folder: Path):
    lines = "".join(
        f"{path}\0{sha256(content).hexdigest()}\n"
        for path, content in (("deep/notes.md", b"notes"), ("model.bst", b"trees"))
    )
    bundle = verify(folder, "fraud-lightgbm")
    assert bundle.sha256 == sha256(lines.encode()).hexdigest()
    assert bundle.label == f"0-{bundle.sha256[:12]}"
    assert sha12_of(bundle.label) == bundle.sha12
    assert bundle.metadata == {"trained": "2026-02-01"}


def test_registration_changes_the_label_and_not_the_content_id(folder: Path):
    before = verify(folder, "fraud-lightgbm")
    (folder / "registration.json").write_text('{"version": 7}')
    after = verify(folder, "fraud-lightgbm")
    assert (after.sha256, after.label) == (before.sha256, f"7-{before.sha12}")
    assert load_manifest(folder, "fraud-lightgbm") == after


def _edit_manifest(folder: Path, edit: Callable[[dict], None]) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    edit(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))


def _link_for_a_file(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes(b"other trees")
    (folder / "model.bst").unlink()
    (folder / "model.bst").symlink_to(outside)


def _link_for_a_folder(folder: Path) -> None:
    (folder / "deep").rename(folder.parent / "outside")
    (folder / "deep").symlink_to(folder.parent / "outside")


TAMPERING = {
    "altered": (lambda f: (f / "model.bst").write_bytes(b"Trees"), "'model.bst' differs"),
    "missing": (lambda f: (f / "model.bst").unlink(), "lacks the file 'model.bst'"),
    "extra": (lambda f: (f / "deep" / "x.py").write_text(""), "'deep/x.py' that its manifest does not name"),
    "link": (lambda f: (f / "link").symlink_to(f / "model.bst"), "has a file 'link'"),
    "no manifest": (lambda f: (f / "bundle.json").unlink(), "there is no file"),
    "not JSON": (lambda f: (f / "bundle.json").write_text("{"), "cannot be read as JSON"),
    "another format": (lambda f: _edit_manifest(f, lambda m: m.update(format=2)), "format 1"),
    "another model": (lambda f: _edit_manifest(f, lambda m: m.update(model="fraud-gnn")), "of model 'fraud-gnn'"),
    "escaping path": (lambda f: _edit_manifest(f, lambda m: m["files"].update({"../x": "0" * 64})), "'../x'"),
    "absolute path": (lambda f: _edit_manifest(f, lambda m: m["files"].update({"/x": "0" * 64})), "'/x'"),
    "roundabout path": (
        lambda f: _edit_manifest(f, lambda m: m["files"].update({"deep/../x": "0" * 64})),
        "cannot hold",
    ),
    "folder for a file": (lambda f: _edit_manifest(f, lambda m: m["files"].update({".": "0" * 64})), "lacks the file"),
    "short hash": (lambda f: _edit_manifest(f, lambda m: m["files"].update({"model.bst": "0"})), "cannot hold"),
    "hash of a number": (lambda f: _edit_manifest(f, lambda m: m["files"].update({"model.bst": 7})), "cannot hold"),
    "bottomless": (lambda f: (f / "bundle.json").write_text("[" * 100_000), "cannot be read as JSON"),
    "not text": (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe\x00"), "cannot be read as JSON"),
    "half a file": (lambda f: (f / "model.bst").write_bytes(b"tre"), "'model.bst' differs"),
    "link for a file": (_link_for_a_file, "'model.bst' differs"),
    "link for a folder": (_link_for_a_folder, "lacks the file 'deep/notes.md'"),
    "bad registration": (lambda f: (f / "registration.json").write_text('{"version": "7"}'), "version"),
}


@pytest.mark.parametrize("case", TAMPERING)
def test_tampering_is_refused_by_name(case: str, folder: Path):
    tamper, message = TAMPERING[case]
    tamper(folder)
    with pytest.raises(BundleError, match=message.replace("(", r"\(")):
        verify(folder, "fraud-lightgbm")


def test_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(BundleError, match="there is no bundle folder"):
        verify(tmp_path / "nowhere", "fraud-gnn")
