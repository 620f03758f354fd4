"""How this repository opens DuckDB: in UTC, and without a progress bar of its own between ours."""

from __future__ import annotations

from contextlib import suppress

import duckdb


def connect() -> duckdb.DuckDBPyConnection:
    """A database in memory, closed by leaving it as a context."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    # Within Jupyter without ipywidgets, DuckDB has no bar to switch off and refuses to.
    with suppress(duckdb.InvalidInputException):
        connection.execute("SET enable_progress_bar = false")
    return connection
