"""A decision as a page in the terminal: what was asked, what was answered and why, and whether it can be made again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from inference_services.transformer.decision_record import DecisionRecord
from pipelines.decision_replay import Replayed

_STYLE = {"allow": "green", "review": "yellow", "block": "red"}
_TIMES = {"event_timestamp"}


def page(record: DecisionRecord, replayed: Replayed) -> RenderableType:
    """The decision about one event."""
    head = Text.assemble(
        (record.decision, f"bold {_STYLE[record.decision]}"),
        f"  {_probability(record.fraud_probability)}  {record.event_id}  {record.event['event_type']}",
    )
    return Group(
        head,
        Text(
            f"decided {_time(record.decided_at)} in {record.latency_ms:g} ms, request {record.request_id or 'unnamed'}"
        ),
        _event(record),
        _scores(record),
        *_rules(record),
        *_reasons(record),
        _verdict(replayed),
    )


def _event(record: DecisionRecord) -> Table:
    table = Table("field of the event", "value")
    for name, value in record.event.items():
        table.add_row(name, _time(value) if name in _TIMES else str(value))
    return table


def _scores(record: DecisionRecord) -> Table:
    table = Table("part", "version", "log-odds", "probability")
    for name, version, log_odds, probability in (
        ("LightGBM", record.lightgbm_version, record.lightgbm_log_odds, record.lightgbm_probability),
        ("graph model", record.gnn_version, record.gnn_log_odds, record.gnn_probability),
    ):
        odds = "" if log_odds is None else f"{log_odds:.4f}"
        table.add_row(name, version or "did not answer", odds, _probability(probability))
    table.add_row("fusion", record.fusion, "", _probability(record.fraud_probability))
    table.add_row("offset for equal alarm rates", "", f"{-record.alarm_offset:.4f}", "")
    facts = [f"available: {record.availability}", f"missing: {record.degraded or 'nothing'}"]
    facts += [f"store as of event {record.seen_sequence}", f"revision {record.revision or 'none'}"]
    if record.materialised:
        facts.append(f"oldest materialised view of {_time(min(record.materialised.values()))}")
    table.caption = "; ".join(facts)
    return table


def _rules(record: DecisionRecord) -> Iterator[Text]:
    rules = record.rules
    if rules is None:
        return
    if rules.decided_by is not None:
        yield Text(f"rule {rules.decided_by} decided: {rules.action}")
    for what, names in (("matched", rules.matched), ("matched in dry run", rules.dry_run), ("failed", rules.failed)):
        if names:
            yield Text(f"rules that {what}: {', '.join(names)}")


def _reasons(record: DecisionRecord) -> Iterator[Text]:
    for reason in record.reasons:
        yield Text(f"- {reason['text']}")


def _verdict(replayed: Replayed) -> Text:
    if replayed.same:
        return Text(f"replay: {len(replayed.compared)} values made again, all the same to the last bit", "green")
    lines = [f"replay: {one.name} was {one.logged!r} and is {one.now!r} now" for one in replayed.differences]
    lines += [f"replay: not made again: {reason}" for reason in replayed.missing]
    return Text("\n".join(lines), "red")


def _probability(value: float) -> str:
    return "no score" if value < 0 else f"{value:.2%}"


def _time(microseconds: Any) -> str:
    return f"{datetime.fromtimestamp(int(microseconds) / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
