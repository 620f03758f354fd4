"""`python -m tests.checks.security`: bandit over all code but the tests; each exception has its reason in place.

ruff runs most of bandit's checks already, under S where bandit says B, and its exceptions stand in the code as
`# noqa: S608 - why`. They hold for bandit too. What bandit alone sees is excepted by `# nosec B105 - why`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.local_stack import PROJECT_ROOT

FOLDERS = ("components", "feature_repo", "inference_services", "manifests", "pipelines", "requirements", "simulators")


@dataclass(frozen=True)
class Finding:
    """What bandit objects to.

    Attributes:
        check: bandit's name of it, B608.
        path: the file.
        lines: those of the statement.
        text: bandit's words.
    """

    check: str
    path: Path
    lines: tuple[int, ...]
    text: str

    def excepted(self, source: Sequence[str]) -> bool:
        """Whether a line of the statement has ruff's exception for the same check."""
        statement = (source[number - 1] for number in self.lines)
        return any(f"S{self.check[1:]}" in line.partition("# noqa:")[2] for line in statement)


def findings(report: Mapping[str, Any]) -> list[Finding]:
    """All findings of bandit's JSON report.

    Raises:
        RuntimeError: bandit could not read a file, which is not the same as nothing found.
    """
    if report["errors"]:
        raise RuntimeError(f"bandit could not read {report['errors']}")
    return [
        Finding(found["test_id"], Path(found["filename"]), tuple(found["line_range"]), found["issue_text"])
        for found in report["results"]
    ]


def bandit(folders: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs bandit with the project's settings; its JSON report is on stdout."""
    command = [sys.executable, "-m", "bandit", "--quiet", "--format=json", "--configfile=pyproject.toml", "--recursive"]
    return subprocess.run([*command, *folders], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)


def main() -> int:
    """Runs from the command line."""
    done = bandit(FOLDERS)
    if not done.stdout:
        sys.stderr.write(done.stderr)
        return 1
    report = json.loads(done.stdout)
    found = findings(report)
    left = [one for one in found if not one.excepted((PROJECT_ROOT / one.path).read_text().splitlines())]
    for one in left:
        sys.stderr.write(f"{one.path}:{one.lines[0]}: {one.check} {one.text}\n")
    sys.stdout.write(
        f"bandit: {report['metrics']['_totals']['loc']} lines, {len(found) - len(left)} findings excepted in place, "
        f"{len(left)} not\n"
    )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
