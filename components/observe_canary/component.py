"""KFP step: watches the canary at one share until the judge knows, or its time is up."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def observe_canary(
    *,
    tracking_uri: str,
    model: str,
    percent: int,
    since: str,
    decisions_path: str,
    policy: str,
    settings: dict,  # type: ignore[type-arg]  # KFP knows no parametrised dict
    verdict: dsl.Output[dsl.Artifact],
) -> None:
    """Reads the decision log again and again.

    Args:
        tracking_uri: MLflow server with the aliases champion and challenger.
        model: fraud-lightgbm or fraud-gnn.
        percent: the canary's share.
        since: when it got it, ISO 8601 with its offset.
        decisions_path: the decision log, a folder of day=*/*.parquet.
        policy: text of threshold_settings.yaml.
        settings: fields of `ObserveSettings` that differ from its defaults.
        verdict: JSON of the judge's verdict with its findings.
    """
    from datetime import datetime
    from pathlib import Path

    import yaml

    from components.observe_canary.logic import ObserveSettings, Watched, observe
    from components.rollout import leg_of, legs
    from inference_services.policy_settings import ThresholdSettings

    chosen = ObserveSettings.model_validate(settings)
    arms = leg_of(legs(tracking_uri), model).arms
    watched = Watched(Path(decisions_path), arms, datetime.fromisoformat(since), percent / 100)
    found = observe(watched, chosen, ThresholdSettings.model_validate(yaml.safe_load(policy)))
    Path(verdict.path).write_text(found.to_json())
