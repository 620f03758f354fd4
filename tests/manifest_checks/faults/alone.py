"""Faults in the fields of one object."""

from __future__ import annotations

from tests.manifest_checks.mutations import Mutation, drop, put

ALONE = (
    Mutation("a typo in a field", "core kinds", "Deployment redis", put("spec replica", 1), "replica"),
    Mutation("a word for a number", "core kinds", "Service redis", put("spec ports 0 port", "many"), "many"),
    Mutation("a typo in metadata", "core kinds", "InferenceService fraud-gnn", put("metadata lables", {}), "lables"),
    Mutation("a version that is gone", "core kinds", "Deployment redis", put("apiVersion", "apps/v1beta1"), "schema"),
    Mutation(
        "a typo in a component",
        "custom kinds",
        "InferenceService fraud-gnn",
        put("spec predictor minReplicaz", 1),
        "minReplicaz",
    ),
    Mutation(
        "a typo in a runtime", "custom kinds", "ServingRuntime fraud-gnn", put("spec containers 0 comand", []), "comand"
    ),
    Mutation(
        "a typo in a pipeline",
        "custom kinds",
        "PipelineVersion fraud-training-*",
        put("spec pipelineNmae", "fraud-training"),
        "pipelineNmae",
    ),
    Mutation(
        "a typo in an autoscaler",
        "custom kinds",
        "ScaledObject fraud-streaming-worker",
        put("spec maxReplicas", 4),
        "maxReplicas",
    ),
    Mutation(
        "a wrong type, where no definition is at hand",
        "KServe's models",
        "InferenceService fraud-gnn",
        put("spec predictor minReplicas", "one"),
        "one",
    ),
    Mutation(
        "a model with a name of its own",
        "webhook",
        "InferenceService fraud-detector",
        put("spec predictor model name", "canary"),
        "name must not be set",
    ),
    Mutation(
        "a model and a container",
        "webhook",
        "InferenceService fraud-gnn",
        put("spec predictor containers", [{"name": "kserve-container", "image": "fraud-gnn-predictor:0.1.0"}]),
        "exactly one",
    ),
    Mutation(
        "a share beyond the whole",
        "webhook",
        "InferenceService fraud-detector",
        put("spec predictor canaryTrafficPercent", 101),
        "canaryTrafficPercent",
    ),
    Mutation(
        "fewer pods at most than at least",
        "webhook",
        "InferenceService fraud-gnn",
        put("spec predictor minReplicas", 9),
        "minReplicas",
    ),
    Mutation(
        "a bundle where KServe cannot fetch",
        "webhook",
        "InferenceService fraud-gnn",
        put("spec predictor model storageUri", "mlflow://fraud-gnn/1"),
        "storageUri",
    ),
    Mutation(
        "a canary in Standard mode",
        "silently ignored",
        "InferenceService fraud-detector",
        put("metadata annotations serving.kserve.io/deploymentMode", "Standard"),
        "canaryTrafficPercent is ignored",
    ),
    Mutation(
        "workers for the transformer",
        "silently ignored",
        "InferenceService fraud-detector",
        put("spec transformer containerConcurrency", 4),
        "--workers",
    ),
    Mutation(
        "a request that may wait for ever",
        "silently ignored",
        "InferenceService fraud-gnn",
        drop("spec predictor timeout"),
        "timeout",
    ),
    Mutation(
        "a share in a manifest",
        "silently ignored",
        "InferenceService fraud-detector",
        put("spec predictor canaryTrafficPercent", 10),
        "the rollout's business",
    ),
    Mutation(
        "a canary as only Standard mode has it",
        "webhook",
        "InferenceService fraud-detector",
        put("spec canary", [{"trafficPercent": 10, "predictor": {"name": "new"}}]),
        "needs deployment mode Standard",
    ),
    Mutation(
        "an autoscaler that KServe does not know",
        "webhook",
        "InferenceService fraud-gnn",
        put("metadata annotations serving.kserve.io/autoscalerClass", "kpa"),
        "autoscaler class",
    ),
    Mutation(
        "an autoscaler that Knative does not know",
        "webhook",
        "InferenceService fraud-gnn",
        put("spec predictor scaleMetric", "cpu"),
        "scaleMetric",
    ),
    Mutation(
        "code from anywhere",
        "webhook",
        "InferenceService fraud-gnn",
        put("spec predictor model env", [{"name": "PYTHONPATH", "value": "/mnt/models"}]),
        "PYTHONPATH",
    ),
)
