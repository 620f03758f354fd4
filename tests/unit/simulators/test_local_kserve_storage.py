"""A bundle in object storage reaches a predictor through KServe's own storage library, whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from inference_services.bundle import verify, write_manifest
from simulators.local_kserve.errors import RevisionFailed
from simulators.local_kserve.plan import MODEL_MOUNT, RevisionPlan
from simulators.local_kserve.volumes import Volumes

PREFIX = "fraud-lightgbm/1-0a1b2c3d4e5f"


class Bucket(BaseHTTPRequestHandler):
    """The three calls of S3 that fetching makes: is the bucket there, what is in it, and the objects."""

    protocol_version = "HTTP/1.1"
    root: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        _, bucket, key = unquote(url.path).split("/", 2) if url.path.count("/") > 1 else ("", url.path[1:], "")
        if bucket != "bundles":
            return self._answer(404, b"")
        if key:
            path = self.root / key
            return self._answer(200, path.read_bytes()) if path.is_file() else self._answer(404, b"")
        prefix = parse_qs(url.query).get("prefix", [""])[0]
        keys = [p.relative_to(self.root).as_posix() for p in sorted(self.root.rglob("*")) if p.is_file()]
        found = "".join(
            f"<Contents><Key>{k}</Key><Size>{(self.root / k).stat().st_size}</Size></Contents>"
            for k in keys
            if k.startswith(prefix)
        )
        return self._answer(
            200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()
        )

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an S3 bucket named `bundles`, with its address and credentials in the environment."""
    root = tmp_path / "bucket"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Bucket,), {"root": root}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    variables = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**variables, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
        monkeypatch.setenv(name, value)
    yield root
    server.shutdown()
    thread.join()
    server.server_close()


def mount(state_dir: Path, uri: str) -> Path:
    plan = RevisionPlan("echo", "fraud", "predictor", {}, uri)
    return asyncio.run(Volumes(state_dir, {}, {}).mount(plan, "echo-predictor-00001"))[MODEL_MOUNT]


def test_a_bundle_in_a_bucket_is_fetched_whole(bucket: Path, tmp_path: Path) -> None:
    folder = bucket / PREFIX
    (folder / "deep").mkdir(parents=True)
    (folder / "model.bst").write_text("tree")
    (folder / "deep" / "features.json").write_text(json.dumps(["amount"]))
    known = write_manifest(folder, "fraud-lightgbm", {})
    found = mount(tmp_path / "state", f"s3://bundles/{PREFIX}")
    assert verify(found, "fraud-lightgbm").sha256 == known.sha256
    assert not (found / "model.bst").is_symlink()


@pytest.mark.parametrize("uri", ["s3://bundles/absent", "s3://elsewhere/x", "file:///absent"])
def test_what_cannot_be_fetched_is_named(uri: str, bucket: Path, tmp_path: Path) -> None:
    with pytest.raises(RevisionFailed, match=f"cannot fetch {uri}: .+"):
        mount(tmp_path / "state", uri)
