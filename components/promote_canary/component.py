"""KFP step: gives the canary all traffic; after the last model the alias champion moves."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def promote_canary(tracking_uri: str) -> dict:  # type: ignore[type-arg]  # KFP knows no parametrised dict
    """Promotes.

    Args:
        tracking_uri: MLflow server with the aliases champion and challenger.

    Returns:
        Version by model of the new champions; empty while another model's canary is to come.
    """
    from components.kserve_api import connect
    from components.promote_canary.logic import promote
    from components.rollout import legs

    return {version.name: version.version for version in promote(connect(), legs(tracking_uri), tracking_uri)}
