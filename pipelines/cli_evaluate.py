"""`fraud evaluate`: every contender on the weeks after it was fitted."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipelines.terminal import DEFAULT_HOME, Home, bars, console
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.prequential.run import Evaluation

# Days of a dataset that a quick look reads: history, the labels' delay, the weeks judged, and windows to fill.
_QUICK_DAYS = 56


def evaluate(
    home: Home = DEFAULT_HOME,
    dataset: Annotated[str | None, typer.Option(help="Dataset hash; default: checked out, else the newest.")] = None,
    weeks: Annotated[int, typer.Option(help="Weeks to judge, the last that can be.", min=1)] = 6,
    refit_every: Annotated[int, typer.Option(help="Weeks from one refit to the next.", min=1)] = 2,
    seeds: Annotated[str, typer.Option(help='Seeds of the models, "7 8 9" say.')] = "7 8 9",
    quick: Annotated[bool, typer.Option("--quick", help="One refit with small budgets, one seed, two weeks.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; default: evaluation in the home.")] = None,
) -> None:
    """Refit all contenders as if in the past, judge each on the weeks after, and write a report."""
    from inference_services.policy_settings import ThresholdSettings
    from pipelines.local_stack import MANIFESTS
    from pipelines.steps import choose_dataset

    # Feast has set filters of its own by now, and torch-geometric warns as it loads.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from pipelines.prequential.material import Source, recent
    from pipelines.prequential.run import evaluate_over_time
    from pipelines.prequential.settings import PrequentialSettings
    from pipelines.prequential.settings import quick as quick_settings

    workspace = Workspace(home.absolute())
    work, target = workspace.root / "evaluation" / "work", out or workspace.root / "evaluation"
    numbers = _numbers(seeds)
    chosen = choose_dataset(workspace, dataset)
    settings = PrequentialSettings(weeks=weeks, refit_every=refit_every)
    if quick:
        settings, numbers = quick_settings(), numbers[:1]
        chosen = recent(chosen, _QUICK_DAYS, work)
    sources = [Source(f"seed {seed}", chosen, seed) for seed in numbers]
    policy = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
    with bars.shown():
        found = evaluate_over_time(sources, settings, policy, work, bars.bar)
    found.write(target)
    console.print(table_of(found))
    for check in found.report.checks:
        word = {True: "met", False: "MISSED", None: "undecided"}[check.passed]
        console.print(f"{word}: {check.name}: {check.found} ({check.bound})", markup=False)
    console.print(f"report: {target / 'report.html'}")


def _numbers(seeds: str) -> list[int]:
    from pipelines.errors import StepError

    try:
        found = [int(part) for part in seeds.replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or min(found) < 0:
        raise StepError(f"--seeds {seeds!r} is not a list of whole numbers from 0 on: write it as '7 8 9'")
    return list(dict.fromkeys(found))


def table_of(found: Evaluation) -> Table:
    """The main figures, one row for each contender."""
    heads = ("AP", "95 %", "recall at 1 % FPR", "at 5 %", "slope", "cost saved, of the oracle's")
    table = Table("contender", *heads)
    for model in found.report.models:
        m = model.measures
        low, high = (m["average_precision_95"][end] for end in ("low", "high"))
        recall = m["recall_at_fpr"]
        slope: Any = m.get("calibration_slope", {}).get("value")
        table.add_row(
            model.name,
            f"{m['average_precision']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{recall['1.0%']:.1%}",
            f"{recall['5.0%']:.1%}",
            "" if slope is None else f"{slope:.2f}",
            f"{m['cost_saved_share']:.1%}",
        )
    return table
