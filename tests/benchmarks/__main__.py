"""`python -m tests.benchmarks [NAME...]`: runs all benchmarks or the named, prints a table, writes a report.

The report of all is `.local/reports/bench.json`, of some `.local/reports/bench-<names>.json`.
"""

from __future__ import annotations

import argparse
import sys
import warnings

from rich.console import Console

from pipelines.local_stack import PROJECT_ROOT
from tests.benchmarks import direct_infer, online_reader, point_in_time, simulator
from tests.bounds import conclude

BENCHMARKS = {
    "online_reader": online_reader.run,
    "direct_infer": direct_infer.run,
    "simulator": simulator.run,
    "point_in_time": point_in_time.run,
}


def main() -> int:
    """Returns 1 when a bound is missed."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which to run; all if none is named")
    names = parser.parse_args().names
    rows = [row for name in names or BENCHMARKS for row in BENCHMARKS[name]()]
    report = "-".join(["bench", *names]) + ".json"
    return conclude(rows, PROJECT_ROOT / ".local" / "reports" / report, Console())


if __name__ == "__main__":
    sys.exit(main())
