"""How a proof ends: its report, its table, and an exit status that a build understands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from pipelines.report import Row, write_report

_MET = {None: "", True: "yes", False: "[red]no[/red]"}


def leave(code: int) -> NoReturn:
    """Ends the process: DuckDB's binding reports its own types as leaks, forty lines, when Python shuts down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def conclude(rows: Sequence[Row], report: Path, console: Console) -> int:
    """Writes the report and prints the table; returns 1 when a bound is missed."""
    write_report(report, list(rows))
    table = Table("measure", "value", "bound", "met")
    for row in rows:
        table.add_row(row.name, row.text(), row.bound, _MET[row.met])
    console.print(table)
    return 0 if all(row.met is not False for row in rows) else 1
