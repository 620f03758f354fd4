"""Which events were confirmed fraud at each midnight, as far as the labels said so by then: DuckDB SQL.

A label counts from the first midnight (UTC) after both it was observed and its event had arrived. The verdict on an
event is that of the most trusted source that has spoken, in its latest word: the rule of the training labels.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from feature_repo.labels import LABEL_SOURCES
from feature_repo.pseudonyms import ENTITY_KINDS


def add_fraud_spells(connection: duckdb.DuckDBPyConnection, labels: pa.Table) -> None:
    """Makes the table `fraud_spells`: one row for each time during which an event counted as confirmed fraud.

    Args:
        connection: a database with the event log as `log`.
        labels: event_id, is_fraud, source, observed_at, in the order of the label log.
    """
    ordered = labels.append_column("label_row", pa.array(np.arange(len(labels))))
    connection.register("label_rows", ordered)
    connection.execute(f"CREATE TABLE fraud_spells AS {spells_query()}")


def spells_query() -> str:
    """SQL for the spells: the event's entities, its `ts`, the first arrival day that ends with it being fraud, `since`,
    and the first that does not any more, `until` (NULL while it is).
    """
    names = ", ".join(f"'{name}'" for name in LABEL_SOURCES)
    trust = f"list_position([{names}], source)"
    return f"""
    WITH known AS (
        SELECT event_id, is_fraud, date_trunc('day', greatest(observed_at, ingested_at)) AS day,
               row_number() OVER trusted AS place
        FROM label_rows JOIN log USING (event_id)
        WINDOW trusted AS (PARTITION BY event_id ORDER BY {trust} NULLS LAST, observed_at DESC, label_row)
    ),
    verdicts AS (
        SELECT DISTINCT event_id, day, arg_min(is_fraud, place) OVER so_far AS is_fraud
        FROM known WINDOW so_far AS (PARTITION BY event_id ORDER BY day RANGE UNBOUNDED PRECEDING)
    ),
    turns AS (FROM verdicts QUALIFY is_fraud != lag(is_fraud, 1, false) OVER (PARTITION BY event_id ORDER BY day)),
    spells AS (
        SELECT event_id, is_fraud, day AS since, lead(day) OVER (PARTITION BY event_id ORDER BY day) AS until FROM turns
    )
    SELECT {", ".join(f"{kind}_id" for kind in ENTITY_KINDS)}, ts, since, until
    FROM spells JOIN log USING (event_id) WHERE is_fraud
    """  # noqa: S608 - made of constants


def history_query(kind: str) -> str:
    """SQL for `frauds` and `last_us` (-1 for none) of every entity of `kind` by the days on which they changed."""
    key = f"{kind}_id"
    return f"""
    SELECT turn.{key}, turn.day, count(spell.ts) AS frauds, COALESCE(max(spell.ts), -1) AS last_us
    FROM (SELECT {key}, since AS day FROM fraud_spells
          UNION SELECT {key}, until FROM fraud_spells WHERE until IS NOT NULL) turn
    LEFT JOIN fraud_spells spell
    ON spell.{key} = turn.{key} AND spell.since <= turn.day AND (spell.until IS NULL OR turn.day < spell.until)
    WHERE turn.{key} IS NOT NULL GROUP BY 1, 2
    """  # noqa: S608 - made of constants
