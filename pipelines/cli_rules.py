"""`fraud rules`: check a rules file, and try rules on history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipelines.progress import Bars
from pipelines.terminal import DEFAULT_HOME, Home, bars, console
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.rule_backtest import RuleResult

rules_app = typer.Typer(no_args_is_help=True, help="Rules that decide beside the models.")

DEFAULT_RULES = Path(__file__).resolve().parents[1] / "manifests" / "base" / "policy" / "rules.yaml"


@rules_app.command("check")
def rules_check(file: Annotated[Path, typer.Argument(help="The rules file.")] = DEFAULT_RULES) -> None:
    """Check a rules file as the transformer does before it takes one over, and list its rules."""
    from inference_services.transformer.rules.rule_set import RuleSet

    rules = RuleSet.read(file)
    table = Table("rule", "mode", "action", "events", "expires", "owner", "reviewed by", "on")
    for rule in rules.rules:
        table.add_row(
            rule.name,
            "dry run" if rule.dry_run else "live",
            rule.action,
            ", ".join(rule.event_types),
            str(rule.expires or ""),
            rule.owner,
            rule.reviewed_by,
            str(rule.reviewed_on),
        )
    console.print(table)
    lists = ", ".join(f"{name} ({len(named.entries):,} of kind {named.kind})" for name, named in rules.lists.items())
    console.print(f"{file} can be used, sha256 {rules.sha256[:12]}; lists: {lists or 'none'}", markup=False)


@rules_app.command("test")
def rules_test(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RULE]...", help="Rules to test; default: all.")] = None,
    file: Annotated[Path, typer.Option("--file", help="The rules file.")] = DEFAULT_RULES,
    home: Home = DEFAULT_HOME,
    dataset: Annotated[str | None, typer.Option(help="Dataset hash; default: checked out, else the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run rules over a dataset and tell what each would have caught and cost, by the labels known at its cutoff."""
    from inference_services.policy_settings import ThresholdSettings
    from inference_services.transformer.rules.rule_set import RuleSet
    from pipelines.local_stack import MANIFESTS
    from pipelines.rule_backtest import ALL_TYPES, History, backtest, choose
    from pipelines.steps import choose_dataset

    workspace = Workspace(home.absolute())
    # A rule with a mistake is told before minutes go into features.
    rules = RuleSet.read(file)
    chosen = choose(rules, names or [])
    policy = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
    data = choose_dataset(workspace, dataset)
    # Where figures are read by a program, progress must not stand among them.
    shown = Bars(Console(stderr=True)) if as_json else bars
    with shown.shown():
        history = History.of(data, policy, workspace.root / "rules", shown.bar("feature files"))
        results = backtest(rules, history, policy, chosen, shown.bar("events judged"))
    if as_json:
        found = {
            "dataset": data.sha12,
            "cutoff": str(data.cutoff),
            "rules_sha256": rules.sha256,
            "policy_sha256": policy.sha256(),
            "results": [result.to_json() for result in results],
        }
        console.print_json(json.dumps(found))
        return
    console.print(table_of(results))
    for result in results:
        if result.errors and result.event_type == ALL_TYPES:
            console.print(
                f"{result.rule} could not be evaluated on {result.errors:,} events", style="red", markup=False
            )
    days = (data.cutoff - data.first_day).days
    console.print(f"dataset {data.sha12}, {days} days, labels before {data.cutoff}; money in toman")


def table_of(results: Sequence[RuleResult]) -> Table:
    """One row for each rule and event type."""
    heads = ("matches", "fraud", "honest", "unlabelled", "precision", "recall", "false positives", "saved", "at risk")
    table = Table("rule", "mode", "action", "events of type", *heads)
    for r in results:
        counts = (f"{n:,}" for n in (r.matches, r.fraud, r.honest, r.unlabelled))
        shares = (_percent(r.precision), _percent(r.recall), _percent(r.false_positive_rate, digits=4))
        money = (f"{r.saved:,.0f}", f"{r.at_risk:,.0f}")
        where = f"{r.event_type} ({r.events:,})"
        table.add_row(r.rule, r.mode.replace("_", " "), r.action or "", where, *counts, *shares, *money)
    return table


def _percent(share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{share:.{digits}%}"
