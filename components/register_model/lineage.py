"""Where a registered version comes from, as tags that the registry can be searched by."""

from __future__ import annotations

from typing import Any

from feature_repo.feature_names import features_version
from inference_services.bundle import Bundle
from inference_services.model_names import FUSION, LIGHTGBM

# MLflow's own name for it.
COMMIT_TAG = "mlflow.source.git.commit"


def lineage_tags(
    bundle: Bundle, dataset_sha256: str, *, commit: str = "", run_id: str = "", pipeline_run: str = ""
) -> dict[str, str]:
    """The tags of a version; those that nothing is known for are left out.

    Args:
        bundle: what is registered.
        dataset_sha256: what it was trained on.
        commit: of the code that trained it.
        run_id: MLflow's run.
        pipeline_run: Kubeflow's run.

    Returns:
        sha256 and sha12 (content id), dataset_sha256 and dataset_version (its first 12 digits), git_commit,
        mlflow_run, pipeline_run, feature_service, features_version (of the ordered feature list, LightGBM only),
        policy_sha256, lightgbm and gnn (the policy and the content ids that a fusion bundle was made for).
    """
    tags: dict[str, Any] = {
        "sha256": bundle.sha256,
        "sha12": bundle.sha12,
        "dataset_sha256": dataset_sha256,
        "dataset_version": dataset_sha256[:12],
        "git_commit": commit,
        "mlflow_run": run_id,
        "pipeline_run": pipeline_run,
        "feature_service": bundle.metadata.get("feature_service"),
    }
    if bundle.model == LIGHTGBM:
        tags["features_version"] = features_version(bundle.read_json("features.json")["features"])
    if bundle.model == FUSION:
        content = bundle.read_json("fusion.json")
        tags |= {name: content.get(name) for name in ("policy_sha256", "lightgbm", "gnn")}
    return {name: str(value) for name, value in tags.items() if value}
