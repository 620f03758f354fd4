"""The graph of a rollout of one model; `python -m pipelines.rollout_pipeline FOLDER` runs it on one machine.

It is one line: a canary that is to go back fails the pipeline, as a model that is to stay out fails the gate. Whatever
happened, the exit leaves no canary behind.
"""

import sys

from kfp import dsl

from components.judge_canary.component import judge_canary
from components.observe_canary.component import observe_canary
from components.promote_canary.component import promote_canary
from components.raise_canary.component import raise_canary
from components.roll_back_canary.component import roll_back_canary
from pipelines import step_settings
from pipelines.local_pipeline import run_steps
from pipelines.step_settings import BUNDLES, DECISIONS, MINUTES, MLFLOW, PATIENCE, SMALL, StepSettings

SHARES = (5, 25, 50)  # percent
_HOURS = 60 * MINUTES
_SERVED = (MLFLOW, PATIENCE)


def _settings() -> dict[str, StepSettings]:
    raised = StepSettings(
        SMALL, 30 * MINUTES, 2, "asks for the same share of the same versions", (BUNDLES,), variables=_SERVED
    )
    seen = StepSettings(
        SMALL, 24 * _HOURS, 2, "only reads, from when the share began", (BUNDLES, DECISIONS), variables=_SERVED
    )
    judged = StepSettings(SMALL, 10 * MINUTES, 0, "safe and useless: the same verdict says the same")
    ends = {
        "promote-canary": StepSettings(
            SMALL, 30 * MINUTES, 2, "what is promoted stays, the aliases move last", (BUNDLES,), variables=_SERVED
        ),
        "roll-back-canary": StepSettings(
            SMALL, 30 * MINUTES, 5, "goes on where it stopped", (BUNDLES,), variables=_SERVED
        ),
    }
    suffixes = ["" if n == 0 else f"-{n + 1}" for n in range(len(SHARES))]
    rows = {"raise-canary": raised, "observe-canary": seen, "judge-canary": judged}
    return {f"{name}{suffix}": row for suffix in suffixes for name, row in rows.items()} | ends


SETTINGS = _settings()


@dsl.pipeline(name="fraud-rollout", description="The challenger of one model: a growing canary, judged, then promoted.")
def rollout_pipeline(
    tracking_uri: str,
    model: str,
    decisions_path: str,
    policy: str,
    settings: dict = {},  # type: ignore[type-arg]  # noqa: B006 - KFP reads the default, nothing mutates it
) -> None:
    """Raises, observes and judges at each share, then promotes; or goes back.

    Args:
        tracking_uri: MLflow server with the aliases champion and challenger.
        model: fraud-lightgbm, and in a later run fraud-gnn.
        decisions_path: the decision log, a folder of day=*/*.parquet.
        policy: text of threshold_settings.yaml.
        settings: fields of `ObserveSettings`.
    """
    back = roll_back_canary(tracking_uri=tracking_uri)
    tasks = [back]
    with dsl.ExitHandler(back):
        for percent in SHARES:
            raised = raise_canary(tracking_uri=tracking_uri, model=model, percent=percent)
            if len(tasks) > 1:
                raised.after(tasks[-1])
            seen = observe_canary(
                tracking_uri=tracking_uri,
                model=model,
                percent=percent,
                since=raised.output,
                decisions_path=decisions_path,
                policy=policy,
                settings=settings,
            )
            tasks += [raised, seen, judge_canary(verdict=seen.outputs["verdict"], model=model, percent=percent)]
        tasks.append(promote_canary(tracking_uri=tracking_uri).after(tasks[-1]))
    step_settings.apply(tasks, SETTINGS)


if __name__ == "__main__":
    run_steps(rollout_pipeline, sys.argv[1:])
