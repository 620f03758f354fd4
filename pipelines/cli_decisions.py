"""`fraud decisions`: the decisions that the services gave."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipelines.cli_rules import DEFAULT_RULES
from pipelines.terminal import DEFAULT_HOME, Home, console
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from inference_services.transformer.decision_record import DecisionRecord
    from pipelines.decision_replay import Replayed

decisions_app = typer.Typer(no_args_is_help=True, help="The decision log.")

Log = Annotated[Path | None, typer.Option("--log", help="Folder of the decision log; default: of --home.")]
BundleRoot = Annotated[Path | None, typer.Option("--bundles", help="Root of the model bundles; default: of --home.")]
RulesFiles = Annotated[Path, typer.Option("--rules", help="Rules file of that time, or a folder of rules files.")]
RedisOption = Annotated[
    str | None, typer.Option("--redis-url", help="Redis with the decision stream; default: of what runs from --home.")
]
Day = Annotated[str | None, typer.Option(help="YYYY-MM-DD, UTC: the day on which they were made.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@decisions_app.command("show")
def decisions_show(
    event_id: Annotated[str, typer.Argument(help="The event.")],
    home: Home = DEFAULT_HOME,
    log: Log = None,
    bundles: BundleRoot = None,
    rules: RulesFiles = DEFAULT_RULES,
    redis_url: RedisOption = None,
    as_json: AsJson = False,
) -> None:
    """Show the decisions about an event, and make them again from what was logged; exit code 1 when a bit differs."""
    from pipelines.decision_page import page
    from pipelines.decision_replay import Versions, replay
    from pipelines.errors import StepError

    workspace = Workspace(home)
    records = _find(workspace, log or workspace.decision_log, redis_url, event_id)
    if not records:
        raise StepError(f"no decision about event {event_id} in {log or workspace.decision_log}, nor in the stream")
    versions = Versions(bundles or workspace.bundles, rules)
    replays = [(record, replay(record, versions)) for record in records]
    if as_json:
        console.print_json(data=[_as_json(record, replayed) for record, replayed in replays])
    else:
        for record, replayed in replays:
            console.print(page(record, replayed))
    failed = [record.decision_id for record, replayed in replays if not replayed.same]
    if failed:
        raise StepError(f"{len(failed)} of {len(replays)} decisions about {event_id} could not be made again alike")


@decisions_app.command("list")
def decisions_list(
    home: Home = DEFAULT_HOME,
    log: Log = None,
    day: Day = None,
    decision: Annotated[str | None, typer.Option(help="allow, review or block.")] = None,
    rider: Annotated[str | None, typer.Option(help="The rider's pseudonym.")] = None,
    limit: Annotated[int, typer.Option(help="The most to list.", min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest logged decisions."""
    from inference_services.decision_log.reader import Wanted, newest
    from pipelines.errors import StepError

    try:
        which = date.fromisoformat(day) if day else None
    except ValueError:
        raise StepError(f"--day {day!r} is not a date: write it as 2026-02-17") from None
    if decision not in {None, "allow", "review", "block"}:
        raise StepError(f"--decision {decision!r} is none: choose allow, review or block")
    rows = newest(log or Workspace(home).decision_log, Wanted(which, decision, rider), limit)
    if as_json:
        console.print_json(data=[{**row, "decided_at": row["decided_at"].isoformat()} for row in rows])
        return
    table = Table("decided (UTC)", "event", "type", "rider", "decision", "probability", "missing", "LightGBM", "graph")
    for row in rows:
        table.add_row(
            f"{row['decided_at']:%Y-%m-%d %H:%M:%S}",
            *(row[name] for name in ("event_id", "event_type", "rider_id", "decision")),
            "no score" if row["fraud_probability"] < 0 else f"{row['fraud_probability']:.2%}",
            *(row[name] or "" for name in ("degraded", "lightgbm_version", "gnn_version")),
        )
    console.print(table)


def _find(workspace: Workspace, log: Path, redis_url: str | None, event_id: str) -> list[DecisionRecord]:
    """What the log has, else what waits in the stream."""
    import redis

    from inference_services.decision_log.reader import find, find_waiting
    from pipelines.errors import StepError

    found = find(log, event_id)
    if found:
        return found
    address = redis_url
    if address is None:
        with suppress(StepError):  # nothing runs here: then there is the log alone
            address = workspace.addresses().get("redis")
    if address is None:
        return []
    with redis.Redis.from_url(address) as client:
        return find_waiting(client, log, event_id)


def _as_json(record: DecisionRecord, replayed: Replayed) -> dict[str, Any]:
    compared = [dataclasses.asdict(one) | {"same": one.same} for one in replayed.compared]
    verdict = {"same": replayed.same, "compared": compared, "missing": list(replayed.missing)}
    return {"record": dataclasses.asdict(record), "replay": verdict}
