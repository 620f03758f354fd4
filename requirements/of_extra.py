"""Prints what an image installs, one requirement a line: the project's own dependencies and those of one extra.

`python requirements/of_extra.py pyproject.toml transformer`; the versions come from the lock, as pip's constraints.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def requirements(project: dict[str, Any], extra: str) -> Iterator[str]:
    """Those of an extra; an extra of ours among them stands for what it lists."""
    for requirement in project["optional-dependencies"][extra]:
        own = re.fullmatch(rf"{re.escape(project['name'])}\[(.+)\]", requirement)
        if own is None:
            yield requirement
        else:
            for named in own[1].split(","):
                yield from requirements(project, named)


if __name__ == "__main__":
    pyproject, wanted = sys.argv[1:]
    described = tomllib.loads(Path(pyproject).read_text())["project"]
    found = [*described["dependencies"], *requirements(described, wanted)]
    sys.stdout.write("\n".join(dict.fromkeys(found)) + "\n")
