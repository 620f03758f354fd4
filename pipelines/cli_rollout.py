"""`fraud rollout`: the challenger's way into traffic, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from pipelines.terminal import DEFAULT_HOME, Home, bars, console
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from components.judge_canary.logic import Verdict
    from components.model_registry import ModelVersion
    from components.rollout import Leg

rollout_app = typer.Typer(
    no_args_is_help=True, help="Bring the challenger into traffic: start, ramp, promote or rollback; run does it all."
)
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Cluster to act on; default: what `fraud serve` runs from --home, else the pod's or kubectl's."),
]
Percent = Annotated[int, typer.Option(help="Share of the traffic for the challenger, percent.", min=1, max=99)]


@rollout_app.command("start")
def rollout_start(
    context: typer.Context, percent: Percent = 5, home: Home = DEFAULT_HOME, kubeconfig: Kubeconfig = None
) -> None:
    """Start the challenger beside the champion: LightGBM first, and the graph network once that is promoted."""
    from components.kserve_api import serving
    from pipelines.errors import StepError

    with _rollout(context, home, kubeconfig) as at:
        leg = at.leg()
        if leg.begun(serving(at.api, leg.canary.service)):
            raise StepError(f"the canary of {leg.model} has a share: `fraud rollout ramp --percent N` changes it")
        _prepare(at.workspace, leg)
        at.raise_to(leg, percent, "start")


@rollout_app.command("ramp")
def rollout_ramp(
    context: typer.Context,
    percent: Annotated[int, typer.Option(help="Its new share, percent.", min=1, max=99)],
    home: Home = DEFAULT_HOME,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Give the canary another share."""
    from components.kserve_api import serving
    from pipelines.errors import StepError

    with _rollout(context, home, kubeconfig) as at:
        leg = at.leg()
        if not leg.begun(serving(at.api, leg.canary.service)):
            raise StepError(f"no canary of {leg.model} has a share: start it with `fraud rollout start`")
        at.raise_to(leg, percent, "ramp")


@rollout_app.command("promote")
def rollout_promote(context: typer.Context, home: Home = DEFAULT_HOME, kubeconfig: Kubeconfig = None) -> None:
    """Give the canary everything; after the last model the alias champion moves, for all three."""
    from components import rollout

    with _rollout(context, home, kubeconfig) as at:
        leg = rollout.next_leg(at.api, at.legs)
        champions = rollout.promote(at.api, at.legs, at.move_aliases)
        at.journal.note("promote", leg, 100)
        for version in champions:
            console.print(f"champion: {version.name} {version.version}")
        if not champions:
            console.print(f"{at.leg().model} comes next: `fraud rollout start`; the alias champion moves after it")


@rollout_app.command("rollback")
def rollout_rollback(context: typer.Context, home: Home = DEFAULT_HOME, kubeconfig: Kubeconfig = None) -> None:
    """Take the traffic from the challenger at once, and serve the champion alone; the aliases stay."""
    from components import rollout

    with _rollout(context, home, kubeconfig) as at:
        at.journal.note("rollback", rollout.next_leg(at.api, at.legs), why="by hand")
        for now in rollout.roll_back(at.api, at.legs):
            console.print(f"{now.service} serves {now.storage_uri}")


@rollout_app.command("status")
def rollout_status(context: typer.Context, home: Home = DEFAULT_HOME, kubeconfig: Kubeconfig = None) -> None:
    """Show who serves how much of each model, and how many decisions each version answered for."""
    from components.kserve_api import serving
    from components.observe_canary.decisions import versions_of

    table = Table("model", "challenger", "stage", "revisions", "ready", "decisions by version")
    with _rollout(context, home, kubeconfig) as at:
        for leg in at.legs:
            now = serving(at.api, leg.canary.service)
            stage = f"{now.percent} %" if leg.begun(now) else "promoted" if leg.finished(now) else "not begun"
            shares = ", ".join(f"{share.revision} {share.percent} %" for share in now.shares)
            counts = versions_of(at.workspace.decision_log, leg.model)
            told = ", ".join(f"{label} {n:,}" for label, n in sorted(counts.items()))
            ready = "yes" if now.ready else now.problem or "not yet"
            table.add_row(leg.model, f"{leg.challenger.version}-{leg.challenger.sha12}", stage, shares, ready, told)
    console.print(table)


@rollout_app.command("run")
def rollout_run(
    context: typer.Context,
    shares: Annotated[str, typer.Option(help="Percents, one after the other.")] = "5,25,50",
    patience: Annotated[float, typer.Option(help="Minutes that a share may take; then back.", min=0)] = 60,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 5,
    budget_ms: Annotated[float | None, typer.Option(help="Slower is slow; default: the policy's budget.")] = None,
    least_decisions: Annotated[int | None, typer.Option(help="Of the canary at each share, at least.", min=2)] = None,
    decisions: Annotated[Path | None, typer.Option(help="Decision log; default: that of --home.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Label log, where a rollout is slow enough for labels.")] = None,
    home: Home = DEFAULT_HOME,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Roll the challenger out: raise, observe and judge at each share, then promote; or back, where it does harm.

    This process does it, and has to last as long; to leave it to Kubeflow Pipelines: fraud rollout submit --host URL.
    """
    from components.judge_canary.logic import JudgeSettings
    from components.observe_canary.logic import ObserveSettings
    from inference_services.policy_settings import ThresholdSettings
    from pipelines import rollout_run
    from pipelines.errors import StepError
    from pipelines.local_stack import MANIFESTS

    try:
        percents = [int(part) for part in shares.split(",")]
    except ValueError:
        raise StepError(f"--shares {shares!r}: write percents as 5,25,50") from None
    if sorted(set(percents)) != percents or not 0 < percents[0] <= percents[-1] < 100:
        raise StepError(f"--shares {shares!r} must rise from 1 to 99 percent at most")
    policy = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
    chosen = {} if least_decisions is None else {"least_decisions": least_decisions}
    watch = ObserveSettings(
        patience_s=60 * patience, every_s=every, budget_ms=budget_ms, labels=labels, judge=JudgeSettings(**chosen)
    )
    with _rollout(context, home, kubeconfig) as at:
        course = rollout_run.Course(percents, decisions or at.workspace.decision_log, watch, policy)
        found = rollout_run.run(
            at.api, at.legs, at.move_aliases, course, at.journal, _say, lambda leg: _prepare(at.workspace, leg)
        )
    for version in found:
        console.print(f"champion: {version.name} {version.version}")


@rollout_app.command("submit")
def rollout_submit(
    host: Annotated[str, typer.Option(help="Kubeflow Pipelines server to run on.")],
    model: Annotated[str, typer.Option(help="fraud-lightgbm, and once that is promoted fraud-gnn.")] = "fraud-lightgbm",
) -> None:
    """Start the rollout pipeline on Kubeflow for one model, and leave it to itself; `run` does the same from here."""
    from pipelines import remote, rollout_submission
    from pipelines.local_stack import MANIFESTS

    policy = MANIFESTS / "policy" / "threshold_settings.yaml"
    done = rollout_submission.submit(remote.Cluster.at(host), model, policy)
    console.print(f"{done.name}: {done.link}", soft_wrap=True)


class _Rollout:
    """A rollout and what it acts on."""

    def __init__(self, workspace: Workspace, mlflow_url: str, api: Any) -> None:
        from components import rollout
        from pipelines.rollout_run import Journal

        self.workspace, self.api, self._mlflow_url = workspace, api, mlflow_url
        self.legs = rollout.legs(mlflow_url)
        self.journal = Journal(workspace.root / "rollout" / "journal.jsonl")

    def move_aliases(self) -> list[ModelVersion]:
        """Makes the challenger the champion in the registry."""
        from components.promote_canary.aliases import promote

        return promote(self._mlflow_url)

    def leg(self) -> Leg:
        """The leg under way, or the next."""
        from components import rollout
        from pipelines.errors import StepError

        leg = rollout.next_leg(self.api, self.legs)
        if leg is None:
            raise StepError("the challenger serves alone: `fraud rollout promote` moves the alias champion")
        return leg

    def raise_to(self, leg: Leg, percent: int, action: str) -> None:
        from components import canary, rollout

        now = canary.raise_to(self.api, leg.canary, percent, rollout.READY_S)
        self.journal.note(action, leg, percent)
        for share in now.shares:
            console.print(f"{share.revision}: {share.percent} % of {leg.model}")


@contextmanager
def _rollout(context: typer.Context, home: Path, kubeconfig: Path | None) -> Iterator[_Rollout]:
    """The registry is the one that serves beside the cluster, where `fraud serve` runs from this home."""
    from components.kserve_api import connect

    workspace = Workspace(home.absolute())
    running = (workspace.root / "addresses.json").exists()
    if kubeconfig is None and running:
        kubeconfig = workspace.root / "kserve" / "kubeconfig"
    api = connect(kubeconfig)
    if running:
        yield _Rollout(workspace, str(workspace.addresses()["mlflow"]), api)
        return
    serve = cast(Callable[[Workspace], AbstractContextManager[str]], context.obj)
    with serve(workspace) as url:
        yield _Rollout(workspace, url, api)


def _prepare(workspace: Workspace, leg: Leg) -> None:
    """A graph model is asked with embeddings that its own weights made: without them every entity is a new one."""
    from components.volumes import VolumeSettings
    from inference_services.model_names import GNN
    from pipelines.materialization import materialize

    if leg.model != GNN or not (workspace.root / "addresses.json").exists():
        return
    bundles = [version.folder for version in (leg.champion, leg.challenger)]
    if set(bundles) <= set(workspace.embedded_bundles()):
        return
    redis_url, volumes = str(workspace.addresses()["redis"]), VolumeSettings(least_share=0)
    with bars.shown():
        materialize(workspace, redis_url, bars.bar, gnn_bundles=bundles, volumes=volumes)


def _say(leg: Leg, percent: int, verdict: Verdict | None) -> None:
    if verdict is None:
        console.print(f"{leg.model} at {percent} %")
        return
    why = verdict.why()
    console.print(f"  {verdict.action}: {why}" if why else f"  {verdict.action}", markup=False)
