"""KFP step: measures every pair on the test days and records it in MLflow."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def evaluate(
    *,
    policy: str,
    scores: dsl.Input[dsl.Dataset],
    fusion: dsl.Input[dsl.Model],
    tracking_uri: str,
    run_id: str,
    evaluation: dsl.Output[dsl.Artifact],
    plot: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Evaluates the challenger, each model alone, and the champion's pairs.

    Args:
        policy: text of threshold_settings.yaml.
        scores: parquet of `fuse_and_calibrate`.
        fusion: the fraud-fusion bundle, for its thresholds.
        tracking_uri: MLflow server.
        run_id: the MLflow run that takes metrics and artifacts.
        evaluation: JSON of all measures.
        plot: PNG.
        metrics: the challenger's measures, for the pipeline's page.
    """
    import json
    import shutil
    import tempfile
    import time
    from pathlib import Path

    import pandas as pd
    import yaml
    from mlflow.entities import Metric

    from components.evaluate.logic import evaluate as measure
    from components.evaluate.logic import flat_metrics
    from components.evaluate.plot import write_plot
    from components.mlflow_client import mlflow_client
    from inference_services.policy_settings import ThresholdSettings
    from inference_services.transformer.fusion import Thresholds

    table = pd.read_parquet(scores.path)
    chosen = json.loads((Path(fusion.path) / "fusion.json").read_text())["thresholds"]
    thresholds = {name: Thresholds(**both) for name, both in chosen.items()}
    found = measure(table, thresholds, ThresholdSettings.model_validate(yaml.safe_load(policy)))
    Path(evaluation.path).write_text(json.dumps(found, indent=2) + "\n")
    write_plot(table, list(found["pairs"]), Path(plot.path))
    for name, value in flat_metrics(found["pairs"]["challenger"]).items():
        metrics.log_metric(name, value)
    client = mlflow_client(tracking_uri)
    now = int(time.time() * 1000)
    client.log_batch(run_id, [Metric(name, value, now, 0) for name, value in flat_metrics(found).items()])
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(evaluation.path, Path(folder) / "evaluation.json")
        shutil.copyfile(plot.path, Path(folder) / "evaluation.png")
        client.log_artifacts(run_id, folder, "evaluation")
