"""`make audit` and `make security` fail where their tools would be content."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.checks import audit, security

VULNERABLE = {
    "name": "jinja2",
    "version": "2.10",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.10.1"], "description": ""}],
}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}


def test_a_vulnerability_and_a_package_that_was_not_looked_at_are_faults() -> None:
    assert list(audit.faults({"dependencies": [VULNERABLE, SKIPPED, SOUND]})) == [
        "jinja2 2.10: PYSEC-1, CVE-1; mended in 2.10.1",
        "torch: not audited: Dependency not found on PyPI",
    ]


class Ignorant(BaseHTTPRequestHandler):
    """A service that answers, and has no advisories."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        """Nothing on stderr."""


@pytest.fixture
def ignorant() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Ignorant)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_service_without_advisories_does_not_pass(ignorant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--vulnerability-service=osv", f"--osv-url={ignorant}"]) == 2
    assert "nothing was audited" in capsys.readouterr().err


def test_a_service_that_is_away_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--vulnerability-service=osv", "--osv-url=http://127.0.0.1:9"]) == 2
    assert "nothing was audited" in capsys.readouterr().err


def found(check: str, lines: list[int]) -> list[security.Finding]:
    result = {"test_id": check, "filename": "a.py", "line_range": lines, "issue_text": "SQL"}
    return security.findings({"errors": [], "results": [result]})


def test_an_exception_of_ruff_holds_for_the_same_check_of_bandit() -> None:
    source = ["query = (", '    f"SELECT {columns}"  # noqa: S608 - our own columns', ")"]
    assert found("B608", [1, 2, 3])[0].excepted(source)
    assert not found("B608", [3])[0].excepted(source)
    assert not found("B603", [1, 2, 3])[0].excepted(source)


def test_a_file_that_bandit_cannot_read_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"a\.py"):
        security.findings({"errors": [{"filename": "a.py", "reason": "syntax error"}], "results": []})


def test_bandit_sees_what_ruff_would_have_to_except(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import pickle\n\npickle.loads(b'')\n")
    report = json.loads(security.bandit([str(tmp_path)]).stdout)
    assert {one.check for one in security.findings(report)} >= {"B301"}
