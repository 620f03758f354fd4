"""KFP step: registers the three bundles and moves an alias."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def register_model(
    *,
    lightgbm: dsl.Input[dsl.Model],
    gnn: dsl.Input[dsl.Model],
    fusion: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact] = None,
    bundle_root: str,
    tracking_uri: str,
    run_id: str,
    dataset_sha256: str,
    alias: str,
    bundle_claim: str = "",
    pipeline_run: str = "",
) -> dict:  # type: ignore[type-arg]  # KFP knows no parametrised dict
    """Registers the bundles, or keeps them in the outbox while MLflow is away.

    Args:
        lightgbm: the fraud-lightgbm bundle.
        gnn: the fraud-gnn bundle.
        fusion: the fraud-fusion bundle.
        evaluation: JSON of `evaluate`, for the model cards.
        bundle_root: where bundles are published for serving.
        tracking_uri: MLflow server.
        run_id: the MLflow run that the versions belong to.
        dataset_sha256: what they were trained on.
        alias: "champion" or "challenger".
        bundle_claim: PersistentVolumeClaim whose root is `bundle_root`; empty: a folder of this machine.
        pipeline_run: Kubeflow's id of this run.

    Returns:
        Content id by registered model name.
    """
    from pathlib import Path

    from components.outbox_delivery import telling
    from components.register_model.logic import MODELS, Registration
    from inference_services.bundle import verify

    folders = {name: Path(given.path) for name, given in zip(MODELS, (lightgbm, gnn, fusion), strict=True)}
    bundles = {name: verify(folder, name) for name, folder in folders.items()}
    request = Registration(
        alias=alias,
        bundle_root=Path(bundle_root),
        bundle_claim=bundle_claim,
        dataset_sha256=dataset_sha256,
        pipeline_run=pipeline_run,
    )
    judged = {"evaluation.json": Path(evaluation.path)} if evaluation else {}
    with telling(tracking_uri, run_id) as outbox:
        outbox.keep("register", request.values(), files={**folders, **judged})
    return {name: bundle.sha256 for name, bundle in bundles.items()}
