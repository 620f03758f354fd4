"""`fraud models`: the model registry."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.table import Table

from pipelines.terminal import DEFAULT_HOME, Home, console
from pipelines.workspace import Workspace

models_app = typer.Typer(no_args_is_help=True, help="The model registry.")


def _mlflow(context: typer.Context, home: Path) -> AbstractContextManager[str]:
    """The tracking server's address while inside: how to come by it is handed down by `fraud` itself."""
    serve = cast(Callable[[Workspace], AbstractContextManager[str]], context.obj)
    return serve(Workspace(home.absolute()))


@models_app.command("list")
def models_list(context: typer.Context, home: Home = DEFAULT_HOME) -> None:
    """List the registered versions: aliases, content, dataset, commit, when, average precision."""
    from pipelines.registry_export import read_registry

    with _mlflow(context, home) as url:
        registry = read_registry(url)
    columns = ("model", "version", "aliases", "content", "dataset", "commit", "registered (UTC)", "average precision")
    table = Table(*columns)
    for v in registry.versions():
        precision = "" if v.average_precision is None else f"{v.average_precision:.4f}"
        table.add_row(
            v.model,
            str(v.version),
            ", ".join(v.aliases),
            v.sha12,
            v.lineage.dataset_version,
            v.lineage.git_commit[:12],
            v.created[:16].replace("T", " "),
            precision,
        )
    console.print(table)


@models_app.command("compare")
def models_compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="Alias or version.")] = "champion",
    b: Annotated[str, typer.Argument(help="Alias or version.")] = "challenger",
    model: Annotated[str, typer.Option(help="Whose versions; fraud-fusion stands for all three.")] = "fraud-fusion",
    home: Home = DEFAULT_HOME,
) -> None:
    """Compare two versions: what their runs measured on their test days, and what the bundles do not share."""
    from pipelines.model_comparison import compare
    from pipelines.registry_export import read_registry

    with _mlflow(context, home) as url:
        found = compare(read_registry(url), a, b, model)
    for warning in found.warnings:
        console.print(f"Note: {warning}", style="yellow", markup=False)
    heads = [f"{name} ({model} {version.version})" for name, version in ((a, found.a), (b, found.b))]
    measures = Table("measure on its own test days", *heads, "difference")
    for row in found.measures:
        measures.add_row(row.name, *(_number(v) for v in (row.a, row.b)), _number(row.difference, sign=True))
    bundles = Table("model", "what differs", a, b)
    for difference in found.differences:
        bundles.add_row(difference.model, difference.what, difference.a, difference.b)
    console.print(measures)
    console.print(bundles)


@models_app.command("promote")
def models_promote(context: typer.Context, home: Home = DEFAULT_HOME) -> None:
    """Make the challenger of all three models the champion, or of none."""
    from components.promote_canary.aliases import promote

    with _mlflow(context, home) as url:
        for version in promote(url):
            console.print(f"champion: {version.name} {version.version}")


@models_app.command("export")
def models_export(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("fraud_model_versions.json"),
    home: Home = DEFAULT_HOME,
) -> None:
    """Write the whole registry as JSON: the same registry gives the same bytes."""
    from pipelines.registry_export import read_registry, write_export

    with _mlflow(context, home) as url:
        registry = read_registry(url)
    write_export(registry, out)
    console.print(f"{len(registry.versions())} versions of {len(registry.models)} models in {out}")


@models_app.command("push")
def models_push(context: typer.Context, home: Home = DEFAULT_HOME) -> None:
    """Deliver the runs that were kept while MLflow was away, and register their models."""
    from pipelines.errors import RegistryError
    from pipelines.tracking import outbox_root, push_kept

    root = outbox_root(Workspace(home.absolute()).root / "pipeline")
    with _mlflow(context, home) as url:
        pushed = push_kept(url, root)
    for run in pushed:
        if not run.refused:
            console.print(f"pushed {run.key}: MLflow run {run.run_id}")
    refused = [run for run in pushed if run.refused]
    if refused:
        raise RegistryError(
            "; ".join(f"{run.key} stays in {root / run.key}: {run.refused}" for run in refused)
            + ": mend that and push again, or remove the folder to give the run up"
        )
    if not pushed:
        console.print(f"nothing waits in {root}")


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return ""
    return f"{value:+.4g}" if sign else f"{value:.6g}"
