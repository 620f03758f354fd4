"""KFP step: registers the three bundles and moves an alias."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def register_model(
    *,
    lightgbm: dsl.Input[dsl.Model],
    gnn: dsl.Input[dsl.Model],
    fusion: dsl.Input[dsl.Model],
    bundle_root: str,
    tracking_uri: str,
    run_id: str,
    dataset_sha256: str,
    alias: str,
) -> dict:  # type: ignore[type-arg]  # KFP knows no parametrised dict
    """Registers the bundles.

    Args:
        lightgbm: the fraud-lightgbm bundle.
        gnn: the fraud-gnn bundle.
        fusion: the fraud-fusion bundle.
        bundle_root: where serving fetches bundles from.
        tracking_uri: MLflow server.
        run_id: the MLflow run that the versions belong to.
        dataset_sha256: what they were trained on.
        alias: "champion" or "challenger".

    Returns:
        Version by registered model name.
    """
    from pathlib import Path

    from components.mlflow_client import mlflow_client
    from components.register_model.logic import MODELS, register_all

    folders = {name: Path(given.path) for name, given in zip(MODELS, (lightgbm, gnn, fusion), strict=True)}
    client = mlflow_client(tracking_uri)
    return register_all(
        client, run_id, folders, bundle_root=Path(bundle_root), dataset_version=dataset_sha256[:12], alias=alias
    )
