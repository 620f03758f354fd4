"""KFP step: gives the challenger a share of the traffic, starting it if it does not serve yet."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def raise_canary(tracking_uri: str, model: str, percent: int) -> str:
    """Raises the canary's share.

    Args:
        tracking_uri: MLflow server with the aliases champion and challenger.
        model: fraud-lightgbm or fraud-gnn.
        percent: the share, 1 to 99.

    Returns:
        Since when it has it, ISO 8601.
    """
    from components.kserve_api import connect
    from components.raise_canary.logic import raise_leg
    from components.rollout import legs

    return raise_leg(connect(), legs(tracking_uri), model, percent).isoformat()
