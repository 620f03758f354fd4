"""`python -m tests.checks.audit [OPTION ...]`: pip-audit over every lock; options go to pip-audit.

A package that the service does not know is skipped, and pip-audit is content: so is a mirror that has no advisories at
all. Here both fail, and a service is trusted only after it has told of a vulnerability that everybody knows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.local_stack import PROJECT_ROOT

# CVE-2019-10906: a template of this version leaves its sandbox.
KNOWN = "jinja2==2.10"


class NoService(Exception):
    """No vulnerability service answers; the message is what pip-audit said."""


def audit(requirements: Path, options: Sequence[str]) -> Mapping[str, Any]:
    """pip-audit's JSON report on a compiled requirements file.

    Raises:
        NoService: it has written none.
    """
    # The lock is complete: nothing is resolved, nothing is installed.
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--format=json",
        "--progress-spinner=off",
        "--no-deps",
        "--disable-pip",
    ]
    done = subprocess.run(
        [*command, *options, f"--requirement={requirements}"], capture_output=True, text=True, check=False
    )
    try:
        report: Mapping[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise NoService(done.stderr.strip().rpartition("\n")[2]) from None
    return report


def faults(report: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong by a report, a line each: a vulnerability, or a package that was not looked at."""
    for package in report["dependencies"]:
        if "skip_reason" in package:
            yield f"{package['name']}: not audited: {package['skip_reason']}"
        for found in package.get("vulns", ()):
            names = ", ".join([found["id"], *found["aliases"]])
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            yield f"{package['name']} {package['version']}: {names}; mended in {fixed}"


def knows(report: Mapping[str, Any]) -> bool:
    """Whether a service has told of any vulnerability."""
    return any(package.get("vulns") for package in report["dependencies"])


def main(options: Sequence[str]) -> int:
    """Runs from the command line."""
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as asked:
            asked.write(KNOWN)
            asked.flush()
            if not knows(audit(Path(asked.name), options)):
                raise NoService(f"it knows nothing of {KNOWN}")
        locks = sorted((PROJECT_ROOT / "requirements").glob("*.txt"))
        found = {lock.name: list(faults(audit(lock, options))) for lock in locks}
    except NoService as problem:
        sys.stderr.write(
            f"nothing was audited, because no vulnerability service answers: {problem}\n"
            "PyPI's own API is asked, which mirrors do not have; ARGS='--vulnerability-service=osv' asks OSV.\n"
        )
        return 2
    for name, lines in found.items():
        for line in lines:
            sys.stderr.write(f"requirements/{name}: {line}\n")
        sys.stdout.write(f"requirements/{name}: {len(lines) or 'nothing'} found\n")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
