"""KFP step: measures every pair on the test days and records it in MLflow."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def evaluate(
    *,
    policy: str,
    scores: dsl.Input[dsl.Dataset],
    lightgbm: dsl.Input[dsl.Model],
    gnn: dsl.Input[dsl.Model],
    fusion: dsl.Input[dsl.Model],
    tracking_uri: str,
    run_id: str,
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Evaluates the challenger, each model alone, and the champion's pairs.

    Args:
        policy: text of threshold_settings.yaml.
        scores: parquet of `fuse_and_calibrate`.
        lightgbm: the new fraud-lightgbm bundle, whose time for one event is measured.
        gnn: the new fraud-gnn bundle, likewise.
        fusion: the fraud-fusion bundle, for its thresholds and alarm offsets.
        tracking_uri: MLflow server.
        run_id: the MLflow run that takes metrics and artifacts.
        evaluation: JSON of all measures.
        report: the page.
        metrics: the challenger's measures, for the pipeline's page.
    """
    from pathlib import Path

    import pandas as pd
    import yaml

    from components.evaluate.logic import flat_metrics, to_json
    from components.evaluate.report import render
    from components.evaluate.step import judge, report_of
    from components.outbox_delivery import telling
    from inference_services.policy_settings import ThresholdSettings
    from inference_services.transformer.fusion import Fusion

    table = pd.read_parquet(scores.path)
    served = Fusion.load(Path(fusion.path))
    offsets = served.alarm_offsets
    costs = ThresholdSettings.model_validate(yaml.safe_load(policy))
    found = judge(table, served.thresholds, costs, lightgbm=Path(lightgbm.path), gnn=Path(gnn.path), offsets=offsets)
    Path(evaluation.path).write_text(to_json(found), "utf-8")
    Path(report.path).write_text(render(report_of(table, found, costs, offsets)), "utf-8")
    for name, value in flat_metrics(found["pairs"]["challenger"]).items():
        metrics.log_metric(name, value)
    with telling(tracking_uri, run_id) as outbox:
        outbox.keep("metrics", flat_metrics(found))
        files = {"evaluation.json": Path(evaluation.path), "evaluation.html": Path(report.path)}
        outbox.keep("artifacts", name="evaluation", files=files)
