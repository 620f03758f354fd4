"""`python -m tests.benchmarks [NAME...]`: runs all benchmarks or the named, prints a table, writes a report.

The report of all is `.local/reports/bench.json`, of some `.local/reports/bench-<names>.json`.
"""

from __future__ import annotations

import argparse
import warnings
from importlib import import_module

from rich.console import Console

from pipelines.local_stack import PROJECT_ROOT
from tests.bounds import conclude, leave

# Each is a module with `run() -> list[Row]`, imported when it is asked for: the peers of some are installed only then.
GROUPS = {
    "features": ["online_reader", "streaming", "point_in_time"],
    "serving": ["predictor_load", "path_load"],
    "observability": ["observability"],
    "simulator": ["simulator"],
    "materialization": ["materialization"],
    "rules": ["rules"],
    "models": ["single_row", "gnn_scoring", "gnn_refresh", "training_run"],
}


def main() -> int:
    """Returns 1 when a bound is missed."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", choices=[*GROUPS, []], help="which to run; all if none is named")
    names = parser.parse_args().names
    modules = [module for name in names or GROUPS for module in GROUPS[name]]
    rows = [row for module in modules for row in import_module(f"tests.benchmarks.{module}").run()]
    report = "-".join(["bench", *names]) + ".json"
    return conclude(rows, PROJECT_ROOT / ".local" / "reports" / report, Console())


if __name__ == "__main__":
    leave(main())
