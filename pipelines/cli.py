"""The `fraud` command: every step of the platform alone, and `demo` for all of them in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import warnings
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipelines.cli_decisions import decisions_app
from pipelines.cli_errors import exit_code
from pipelines.cli_evaluate import evaluate
from pipelines.cli_features import features_app
from pipelines.cli_models import models_app
from pipelines.cli_rollout import rollout_app
from pipelines.cli_rules import rules_app
from pipelines.terminal import DEFAULT_HOME, Home, bars, console
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.local_stack import LocalParts
    from pipelines.remote import RemoteResult
    from pipelines.training import TrainingResult

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Real-time fraud detection for ride hailing.")
data_app = typer.Typer(no_args_is_help=True, help="Event log and datasets.")
app.add_typer(data_app, name="data")
app.add_typer(rules_app, name="rules")
app.add_typer(features_app, name="features")
app.add_typer(decisions_app, name="decisions")
app.command()(evaluate)

DriftPython = Annotated[Path, typer.Option(help="Interpreter of the drift detector's environment.")]
DEFAULT_DRIFT_PYTHON = Path(".venv-drift/bin/python")


@app.command()
def demo(
    home: Home = DEFAULT_HOME,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the services running until Ctrl-C.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulated world.")] = 7,
    days: Annotated[int, typer.Option(help="Days of history.", min=30)] = 45,
    events_per_day: Annotated[int, typer.Option(help="Events a day, about.", min=500)] = 4000,
    live_events: Annotated[int | None, typer.Option(help="Replay only the first so many events of the day.")] = None,
    drift_python: DriftPython = DEFAULT_DRIFT_PYTHON,
) -> None:
    """Simulate, train twice, serve with a canary, replay a day, judge it; prints one table at the end."""
    from pipelines.demo import DemoSettings, run_demo
    from simulators.ride_hailing import WorldSettings
    from simulators.ride_hailing import simulate as simulate_world

    workspace = Workspace(home.absolute())
    workspace.reset()
    settings = DemoSettings(workspace, drift_python.absolute(), live_events, keep)
    with bars.shown():
        world = WorldSettings(seed=seed, days=days + 1, events_per_day=events_per_day)
        simulate_world(world, workspace.world, progress=bars.bar("simulated days"))
    run_demo(settings, _parts(), bars, console)


@app.command()
def simulate(
    home: Home = DEFAULT_HOME,
    seed: Annotated[int, typer.Option(help="Same seed, same world, to the byte.")] = 7,
    days: Annotated[
        int | None, typer.Option(help="Days, the last of them kept for replay; 46 if not given.", min=2)
    ] = None,
    events_per_day: Annotated[int | None, typer.Option(help="Events a day, about; 4000 if not given.", min=10)] = None,
    events: Annotated[int | None, typer.Option(help="Events in all, about: chooses days and volume.", min=600)] = None,
    scenario: Annotated[str | None, typer.Option(help="Turn one kind of fraud up and the others off.")] = None,
    world: Annotated[str | None, typer.Option(help="A frozen world, world-v1 say; compared with its record.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a world that is there.")] = False,
) -> None:
    """Write a simulated company's event files, late labels and (apart) the truth."""
    from pipelines.errors import StepError
    from simulators.abuse_scenarios import scenario_settings
    from simulators.ride_hailing import WorldSettings
    from simulators.ride_hailing import simulate as simulate_world
    from simulators.ride_hailing.scale import days_and_volume
    from simulators.ride_hailing.world_records import verdict
    from simulators.ride_hailing.worlds import world_settings

    if events is not None and (days is not None or events_per_day is not None):
        raise StepError("--events chooses days and volume: leave out --days and --events-per-day, or --events")
    if world is not None and any(given is not None for given in (days, events_per_day, events, scenario)):
        raise StepError("--world fixes all but the seed: leave out --days, --events-per-day, --events and --scenario")
    length, volume = days_and_volume(events) if events is not None else (days or 46, events_per_day or 4000)
    if world is not None:
        settings = world_settings(world, seed)
    elif scenario is not None:
        settings = scenario_settings(scenario, seed=seed, days=length, events_per_day=volume)
    else:
        settings = WorldSettings(seed=seed, days=length, events_per_day=volume)
    workspace = Workspace(home)
    workspace.claim()
    with bars.shown():
        summary = simulate_world(settings, workspace.world, force=force, progress=bars.bar("simulated days"))
    share = summary.fraud_events / summary.events
    console.print(f"{summary.events:,} events, {share:.2%} fraud, {summary.labels:,} labels in {workspace.world}")
    if world is not None:
        console.print(verdict(world, workspace.world))


@data_app.command("ingest")
def data_ingest(
    home: Home = DEFAULT_HOME,
    all_days: Annotated[bool, typer.Option("--all", help="Also the last day, which replay wants for itself.")] = False,
) -> None:
    """Validate, pseudonymise and number the event files into the event log."""
    from feature_repo.event_log import log_days
    from feature_repo.ingestion import ingest_files

    workspace = Workspace(home)
    days = len(log_days(workspace.world / "events"))
    with bars.shown():
        events = ingest_files(
            workspace.world / "events",
            workspace.event_log,
            workspace.pseudonymiser(),
            days=None if all_days else max(days - 1, 0),
            progress=bars.bar("ingested days"),
        )
    console.print(f"{events:,} events in {workspace.event_log}")


@data_app.command("snapshot")
def data_snapshot(
    home: Home = DEFAULT_HOME,
    cutoff: Annotated[str | None, typer.Option(help="YYYY-MM-DD; what arrived before it is in. Default: all.")] = None,
) -> None:
    """Freeze what has arrived as an immutable dataset, named by its content hash."""
    from feature_repo.datasets import snapshot
    from feature_repo.event_log import log_days
    from pipelines.errors import StepError

    workspace = Workspace(home)
    days = log_days(workspace.event_log)
    if not days:
        raise StepError(f"no events in {workspace.event_log}: run `fraud data ingest` first")
    try:
        until = date.fromisoformat(cutoff) if cutoff else days[-1] + timedelta(days=1)
    except ValueError:
        raise StepError(f"--cutoff {cutoff!r} is not a date: write it as 2026-02-17") from None
    with bars.shown():
        dataset = snapshot(
            workspace.event_log, workspace.label_log, workspace.datasets, until, bars.bar("copied day partitions")
        )
    console.print(f"{dataset.sha12}  {dataset.events:,} events, {dataset.labels:,} labels before {dataset.cutoff}")


@data_app.command("list")
def data_list(home: Home = DEFAULT_HOME) -> None:
    """List the datasets."""
    from feature_repo.datasets import list_datasets

    table = Table("dataset", "from", "to", "events", "labels", "cutoff")
    for d in list_datasets(Workspace(home).datasets):
        table.add_row(d.sha12, str(d.first_day), str(d.last_day), f"{d.events:,}", f"{d.labels:,}", str(d.cutoff))
    console.print(table)


@data_app.command("checkout")
def data_checkout(
    name: Annotated[str, typer.Argument(help="The dataset's hash, or its first digits.")], home: Home = DEFAULT_HOME
) -> None:
    """Verify a dataset and make it the one that `fraud train` uses."""
    from feature_repo.datasets import find

    workspace = Workspace(home)
    dataset = find(workspace.datasets, name)
    (workspace.datasets / "CURRENT").write_text(dataset.sha256)
    console.print(f"{dataset.sha12} verified: `fraud train` will use it")


@app.command()
def train(
    home: Home = DEFAULT_HOME,
    alias: Annotated[str, typer.Option(help="Alias for the new version: champion or challenger.")] = "champion",
    dataset: Annotated[str | None, typer.Option(help="Dataset hash; default: checked out, else the newest.")] = None,
    host: Annotated[str | None, typer.Option(help="Kubeflow Pipelines server to run on, instead of here.")] = None,
    experiment: Annotated[str, typer.Option(help="With --host: experiment of the run.")] = "fraud-training",
    run_name: Annotated[str, typer.Option(help="With --host: name; default: alias and dataset.")] = "",
    cache: Annotated[bool, typer.Option(help="With --host: reuse the answers of steps that allow it.")] = True,
    follow: Annotated[str | None, typer.Option(help="With --host: submit nothing, watch the run of this id.")] = None,
    trials: Annotated[int, typer.Option(help="LightGBM settings to try in a search first; 0: none.", min=0)] = 0,
) -> None:
    """Run the KFP training pipeline on a dataset and register what passes the gate."""
    from pipelines.errors import StepError
    from pipelines.steps import choose_dataset, train_on

    workspace = Workspace(home.absolute())
    choices = {"lightgbm": {"trials": trials}} if trials else {}
    result: TrainingResult | RemoteResult
    if host is not None:
        from pipelines.cli_train import train_on_cluster
        from pipelines.remote import Submission

        how = Submission(experiment, run_name, cache)
        result = train_on_cluster(workspace, host, how, alias=alias, dataset=dataset, follow=follow, **choices)
        alias = result.alias
    elif follow is not None:
        raise StepError("--follow needs --host: the server of the run")
    else:
        chosen = choose_dataset(workspace, dataset)
        with _mlflow(workspace) as url, bars.shown():
            result = train_on(workspace, chosen, alias, url, bars.bar, **choices)
    for name, value in result.metrics.items():
        console.print(f"  {name:<32} {value:.4f}")
    if result.kept:
        console.print(f"MLflow is away: nothing registered yet, all is kept in {result.kept}")
        console.print("push it once MLflow is up: `fraud models push`; the next `fraud train` does so too")
    else:
        console.print(f"registered as {alias}: " + ", ".join(f"{v.name} {v.version}" for v in result.versions))


@app.command()
def materialize(
    redis_url: Annotated[str, typer.Option(help="Redis address.")],
    home: Home = DEFAULT_HOME,
    cutoff: Annotated[
        str | None, typer.Option(help="YYYY-MM-DD, midnight UTC; default: the log's last that is over.")
    ] = None,
    gnn_bundle: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a graph model that is to serve, to embed with it from now on; may be repeated."),
    ] = None,
) -> None:
    """Run the KFP materialisation pipeline: bring Redis up to date with batch features and embeddings."""
    from datetime import UTC, datetime

    from pipelines.errors import StepError
    from pipelines.materialization import materialize as run

    try:
        until = datetime.fromisoformat(cutoff).replace(tzinfo=UTC) if cutoff else None
    except ValueError:
        raise StepError(f"--cutoff {cutoff!r} is not a date: write it as 2026-02-17") from None
    if absent := [folder for folder in gnn_bundle or [] if not folder.is_dir()]:
        raise StepError(f"--gnn-bundle {absent[0]} is no folder")
    workspace = Workspace(home.absolute())
    bundles = dict.fromkeys([*workspace.embedded_bundles(), *(folder.resolve() for folder in gnn_bundle or [])])
    with bars.shown():
        views = run(workspace, redis_url, bars.bar, cutoff=until, gnn_bundles=list(bundles))
    table = Table("view", "rows written", "why", "newest row")
    for v in views:
        table.add_row(v.view, f"{v.rows:,}", v.why, (v.newest or "")[:16])
    console.print(table)


@app.command()
def serve(
    home: Home = DEFAULT_HOME,
    canary: Annotated[int, typer.Option(help="Percent of traffic for the challenger's LightGBM.", min=0, max=99)] = 0,
    drift_python: DriftPython = DEFAULT_DRIFT_PYTHON,
) -> None:
    """Bring up Redis, MLflow, the worker and the InferenceServices with the champion; Ctrl-C ends them."""
    from pipelines import local_stack
    from pipelines.steps import registered

    workspace = Workspace(home.absolute())
    parts = _parts()
    with _mlflow(workspace) as mlflow_url:
        serving = registered(mlflow_url, "champion")
        with local_stack.running(workspace, parts, serving, drift_python.absolute(), bars.bar) as stack:
            if canary:
                candidate = registered(mlflow_url, "challenger")
                stack.canary(candidate.lightgbm, candidate.fusion, canary)
            local_stack.wait_for_interrupt(workspace, stack, mlflow_url, console)


@app.command()
def score(
    event: Annotated[Path, typer.Argument(help="JSON file with one event, or a list of them; - reads standard input.")],
    home: Home = DEFAULT_HOME,
    raw: Annotated[bool, typer.Option("--raw", help="The ids are raw: replace them by pseudonyms first.")] = False,
) -> None:
    """Score events with the running detector and print the decisions."""
    from feature_repo.event_batch import EventBatch
    from feature_repo.ingestion import with_pseudonyms
    from pipelines.errors import StepError
    from pipelines.steps import score_batch

    workspace = Workspace(home)
    try:
        text = sys.stdin.read() if str(event) == "-" else event.read_text()
        rows = json.loads(text)
    except FileNotFoundError:
        raise StepError(f"no file {event}: give a JSON file with one event") from None
    except ValueError as error:
        raise StepError(f"{event} is not JSON: {error}") from None
    rows = rows if isinstance(rows, list) else [rows]
    if not all(isinstance(row, dict) for row in rows):
        raise StepError(f"{event} must hold one event as a JSON object, or a list of them")
    batch = EventBatch.from_rows(rows)
    if raw:
        batch = with_pseudonyms(batch, workspace.pseudonymiser())
    console.print_json(json.dumps(score_batch(workspace.addresses()["fraud-detector"], batch)))


@app.command()
def replay(
    home: Home = DEFAULT_HOME,
    day: Annotated[str | None, typer.Option(help="YYYY-MM-DD; default: the world's last day.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many events.", min=1)] = None,
) -> None:
    """Send a day of events through the running detector and the worker, and print how well it decided."""
    from feature_repo.event_log import log_days
    from pipelines.demo import judge
    from pipelines.errors import StepError
    from pipelines.replay import read_day
    from pipelines.replay import replay as replay_events

    workspace = Workspace(home.absolute())
    addresses = workspace.addresses()
    try:
        which = date.fromisoformat(day) if day else workspace.live_day()
    except ValueError:
        raise StepError(f"--day {day!r} is not a date: write it as 2026-02-17") from None
    if which in log_days(workspace.event_log):
        raise StepError(f"{which} is in the event log already, so its events would see themselves: give another --day")
    table = read_day(workspace.world / "events", which, limit)
    with bars.shown():
        done = asyncio.run(
            replay_events(
                table, addresses["fraud-detector"], addresses["redis"], workspace.pseudonymiser(), bars.bar("replayed")
            )
        )
    rows = Table("measure", "value")
    for row in judge(workspace, done):
        rows.add_row(row.name, row.text())
    console.print(rows)


def _parts() -> LocalParts:
    from pipelines.local_stack import LocalParts
    from simulators.local_kserve import LocalKServe
    from simulators.local_services import LocalProcess, MlflowServer, RedisServer

    return LocalParts(RedisServer, MlflowServer, LocalProcess, LocalKServe)


def _mlflow(workspace: Workspace) -> Any:
    """The tracking server: the one that MLFLOW_TRACKING_URI names, else one of our own while inside."""
    from contextlib import contextmanager

    @contextmanager
    def server() -> Any:
        given = os.environ.get("MLFLOW_TRACKING_URI")
        if given:
            yield given
            return
        own = _parts().mlflow(workspace.mlflow)
        try:
            yield own.url
        finally:
            own.stop()

    return server()


# Here, since only this module may start the local server.
app.add_typer(models_app, name="models", context_settings={"obj": _mlflow})
app.add_typer(rollout_app, name="rollout", context_settings={"obj": _mlflow})


def _simulator_errors() -> tuple[type[Exception], ...]:
    from simulators.local_kserve.errors import LocalKServeError
    from simulators.local_services import LocalServiceError
    from simulators.ride_hailing import SimulationError

    return SimulationError, LocalServiceError, LocalKServeError


def main() -> None:
    """Entry point: prints an expected error as one line and exits with 1."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of libraries: a developer sees them in the tests
    # A polite kill ends everything that was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = exit_code(app, _simulator_errors)
    # DuckDB's binding reports its own types as leaks, forty lines, when Python shuts down: leave before that.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
