"""`python -m tests.benchmarks`: runs every benchmark, prints a table, writes `.local/reports/bench.json`."""

from __future__ import annotations

import sys
import warnings

from rich.console import Console
from rich.table import Table

from pipelines.local_stack import PROJECT_ROOT
from pipelines.report import write_report
from tests.benchmarks import direct_infer, online_reader


def main() -> int:
    """Returns 1 when a bound is missed."""
    warnings.simplefilter("ignore")
    rows = [*online_reader.run(), *direct_infer.run()]
    write_report(PROJECT_ROOT / ".local" / "reports" / "bench.json", rows)
    table = Table("measure", "value", "bound", "met")
    for row in rows:
        table.add_row(row.name, row.text(), row.bound, "" if row.met is None else str(row.met))
    Console().print(table)
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
