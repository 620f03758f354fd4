"""What is loaded is no longer looked at by the garbage collector; in a process of its own, for it is so for good."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc
from inference_services.garbage import settle

loaded = [[] for _ in range(50_000)]
settle()
later = [[] for _ in range(100)]
looked_at = len(gc.get_objects())
assert gc.get_freeze_count() >= len(loaded), gc.get_freeze_count()
assert len(later) <= looked_at < len(loaded), looked_at
full = gc.get_stats()[2]["collections"]
for _ in range(200 * gc.get_threshold()[0]):
    cycle = []
    cycle.append(cycle)
assert gc.get_stats()[2]["collections"] > full, "cycles that grow old stay"
del cycle
assert gc.collect() >= 1
assert gc.isenabled()
"""


def test_what_is_there_is_left_alone_and_what_comes_is_collected() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)
