"""KFP step: the exit of a rollout. A canary that still has a share was not promoted, and goes back."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def roll_back_canary(tracking_uri: str) -> list:  # type: ignore[type-arg]  # KFP knows no parametrised list
    """Rolls back what is not promoted.

    Args:
        tracking_uri: MLflow server with the aliases champion and challenger.

    Returns:
        The services that serve the champion again; empty where there was no canary.
    """
    from components.kserve_api import connect
    from components.roll_back_canary.logic import settle

    return [now.service for now in settle(connect(), tracking_uri)]
