"""Which events were confirmed fraud at each midnight, as far as the labels said so by then: DuckDB SQL.

A label counts from the first midnight (UTC) after both it was observed and its event had arrived. The verdict on an
event is that of the most trusted source that has spoken, in its latest word, and of two words at one instant the
graver: the rule of the training labels.
"""

from __future__ import annotations

from feature_repo.labels import LABEL_SOURCES
from feature_repo.pseudonyms import ENTITY_KINDS


def spells_query() -> str:
    """SQL for one row for each time during which an event counted as confirmed fraud.

    Reads the event log `log` and the label log `label_rows`. Gives the event's entities, its `ts`, the day `since`
    whose end was the first to know of the fraud, and the day `until` whose end was the first to know better, NULL for
    none.
    """
    names = ", ".join(f"'{name}'" for name in LABEL_SOURCES)
    trust = f"list_position([{names}], source)"
    return f"""
    WITH known AS (
        SELECT event_id, is_fraud, date_trunc('day', greatest(observed_at, ingested_at)) AS day,
               row_number() OVER trusted AS place
        FROM label_rows JOIN log USING (event_id)
        WINDOW trusted AS (PARTITION BY event_id ORDER BY {trust} NULLS LAST, observed_at DESC, is_fraud DESC)
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
    """SQL for `frauds` and `last_us` (-1 for none) of every entity of `kind` by the days on which they changed.

    Reads the spells from `fraud_spells`.
    """
    key = f"{kind}_id"
    return f"""
    SELECT turn.{key}, turn.day, count(spell.ts) AS frauds, COALESCE(max(spell.ts), -1) AS last_us
    FROM (SELECT {key}, since AS day FROM fraud_spells
          UNION SELECT {key}, until FROM fraud_spells WHERE until IS NOT NULL) turn
    LEFT JOIN fraud_spells spell
    ON spell.{key} = turn.{key} AND spell.since <= turn.day AND (spell.until IS NULL OR turn.day < spell.until)
    WHERE turn.{key} IS NOT NULL GROUP BY 1, 2
    """  # noqa: S608 - made of constants
