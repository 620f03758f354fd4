"""Keeps Python's garbage collector from holding up requests.

A full collection looks at every object of the process: some 500,000 after the imports of a service, which takes a
tenth of a second, and the first one comes with the first requests. What was loaded stays until the process ends, so
there is nothing in it to find. Requests that wait together are garbage to be for no more than their time: looking for
cycles among them less often costs a few megabytes.
"""

from __future__ import annotations

import gc

# Container objects made and not freed between two collections of the young; Python's own is 700.
_YOUNG = 10_000


def settle() -> None:
    """Takes all objects that are there out of what the collector looks at: call it once, when all is loaded."""
    gc.collect()
    gc.freeze()
    # Python puts a full collection off until a quarter of what the last one left has come: now that is nothing.
    gc.collect()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
