"""The bundle: a folder that holds one model, and a manifest that pins every byte of it.

`bundle.json` reads {"format": 1, "model", "files": {relative path: sha256}, "metadata": {}}. The content id is the
SHA-256 over the lines "path NUL file-sha256", sorted by path, so it names what is served and nothing else; `metadata`
informs a reader and steers nothing. `registration.json` {"version": N} may be added later: it
does not change the content id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath
from typing import Any

from inference_services.errors import BundleError

FORMAT = 1
MANIFEST = "bundle.json"
REGISTRATION = "registration.json"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        folder: where it lies.
        model: registered model name, for example fraud-lightgbm.
        sha256: content id, 64 hex digits.
        metadata: free facts about the model.
        version: registry version, 0 while unregistered.
    """

    folder: Path
    model: str
    sha256: str
    metadata: Mapping[str, Any]
    version: int = 0

    @property
    def sha12(self) -> str:
        """The first 12 hex digits of the content id, by which other bundles refer to this one."""
        return self.sha256[:12]

    @property
    def label(self) -> str:
        """What the model answers as its `model_version`: "<version>-<sha12>"."""
        return f"{self.version}-{self.sha12}"

    def read_json(self, name: str) -> Any:
        """Returns a JSON file of the bundle.

        Raises:
            BundleError: the file is not there or not JSON.
        """
        return _read_json(self.folder / name)


def sha12_of(label: str) -> str | None:
    """Returns the content id in a version label, None when the text is not one."""
    _, dash, sha = label.rpartition("-")
    return sha if dash and len(sha) == 12 else None


def write_manifest(folder: Path, model: str, metadata: Mapping[str, Any]) -> Bundle:
    """Pins the files now in `folder` as a bundle of `model` and returns it."""
    files = {path: _file_sha256(folder / path) for path in _list_files(folder)}
    manifest = {"format": FORMAT, "model": model, "files": files, "metadata": dict(metadata)}
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")
    return load_manifest(folder, model)


def load_manifest(folder: Path, model: str) -> Bundle:
    """Reads the manifest without reading the model's files: for a folder that has been verified before.

    Raises:
        BundleError: there is no manifest, it is malformed, or it is of another model.
    """
    return _bundle(folder, model, _manifest(folder, model))


def verify(folder: Path, model: str) -> Bundle:
    """Reads the manifest and proves that the folder holds exactly the bytes it pins.

    Raises:
        BundleError: a file is missing, extra or altered, or the manifest cannot be used.
    """
    manifest = _manifest(folder, model)
    expected: dict[str, str] = manifest["files"]
    found = set(_list_files(folder))
    for path in sorted(expected.keys() - found):
        raise BundleError(f"bundle {folder} lacks the file {path!r}; fetch it again from the registry")
    for path in sorted(found - expected.keys()):
        raise BundleError(f"bundle {folder} has a file {path!r} that its manifest does not name; remove it")
    for path, digest in sorted(expected.items()):
        if _file_sha256(folder / path) != digest:
            raise BundleError(f"bundle {folder}: the file {path!r} differs from its manifest; fetch it again")
    return _bundle(folder, model, manifest)


def content_id(files: Mapping[str, str]) -> str:
    """Returns the content id of {relative path: sha256}."""
    lines = "".join(f"{path}\0{digest}\n" for path, digest in sorted(files.items()))
    return sha256(lines.encode()).hexdigest()


def _bundle(folder: Path, model: str, manifest: Mapping[str, Any]) -> Bundle:
    version: Any = 0
    if (folder / REGISTRATION).exists():
        registration = _read_json(folder / REGISTRATION)
        version = registration.get("version") if isinstance(registration, dict) else None
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise BundleError(f'{folder / REGISTRATION} must read {{"version": N}} with N of at least 1')
    return Bundle(folder, model, content_id(manifest["files"]), manifest["metadata"], version)


def _manifest(folder: Path, model: str) -> dict[str, Any]:
    if not folder.is_dir():
        raise BundleError(f"there is no bundle folder {folder}; give the folder of a {model} bundle")
    manifest = _read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{folder / MANIFEST} is not a bundle manifest of format {FORMAT}")
    if manifest.get("model") != model:
        raise BundleError(f"bundle {folder} is of model {manifest.get('model')!r}, not {model!r}")
    files, metadata = manifest.get("files"), manifest.get("metadata")
    if not isinstance(files, dict) or not isinstance(metadata, dict):
        raise BundleError(f"{folder / MANIFEST} lacks 'files' or 'metadata'")
    for path, digest in files.items():
        if not _is_safe(path) or not isinstance(digest, str) or len(digest) != 64:
            raise BundleError(f"{folder / MANIFEST} names a file {path!r:.80} that a bundle cannot hold")
    return manifest


def _is_safe(path: str) -> bool:
    # A manifest comes from a store: it must not be able to name a file outside its folder.
    pure = PurePosixPath(path)
    return path.isprintable() and str(pure) == path and not pure.is_absolute() and ".." not in pure.parts


def _list_files(folder: Path) -> list[str]:
    # KServe's storage initialiser links local files into place, so a link to a file counts as the file: its bytes
    # are pinned all the same.
    paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [p for p in paths if p not in {MANIFEST, REGISTRATION}]


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BundleError(f"there is no file {path}; is this the folder of a bundle?") from None
    # Nested too deep for the parser: a bundle of ours never is.
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read as JSON: {error}") from None
