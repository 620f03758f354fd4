"""KFP step: fails the pipeline when the canary is to go back."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def judge_canary(verdict: dsl.Input[dsl.Artifact], model: str, percent: int) -> None:
    """Lets the canary advance.

    Args:
        verdict: JSON of `observe_canary`.
        model: fraud-lightgbm or fraud-gnn.
        percent: the share at which it was observed.
    """
    from pathlib import Path

    from components.judge_canary.logic import Verdict, check

    check(Verdict.from_json(Path(verdict.path).read_text()), f"{model} at {percent} %")
