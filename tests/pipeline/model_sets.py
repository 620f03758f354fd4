"""Three bundles that belong together, small enough to be made in a moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.register_model.logic import MODELS, Registration
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import MODEL_FEATURES
from inference_services.bundle import verify, write_manifest

POLICY = "9" * 64
EVALUATION: dict[str, Any] = {
    "events": 1000,
    "fraud": 12,
    "prevalence": 0.012,
    "days": 3,
    "pairs": {
        pair: {
            "average_precision": precision,
            "average_precision_95": {"low": precision - 0.1, "high": precision + 0.1},
            "recall_at_fpr": {"0.1%": 0.2, "1.0%": 0.5},
            "recall_at_1%_fpr_by_typology": {"collusion": 0.25, "stolen_card": 0.75},
            "calibration_error": 0.004,
        }
        for pair, precision in {"challenger": 0.41, "lightgbm_alone": 0.35, "gnn_alone": 0.22}.items()
    },
}


def make_set(
    root: Path,
    content: str,
    *,
    features: tuple[str, ...] = MODEL_FEATURES,
    rounds: int = 20,
    champion: Mapping[str, Path] | None = None,
) -> dict[str, Path]:
    """Writes bundles whose content is a word; the fusion names the other two, and those of a champion."""
    folders = {model: root / content / model for model in MODELS}
    settings = {"settings": {"rounds": rounds}, "feature_service": "fraud_lightgbm_x"}
    lightgbm = _bundle(folders["fraud-lightgbm"], {"features.json": {"features": features}}, content, settings)
    gnn = _bundle(folders["fraud-gnn"], {}, content, {})
    pairs = [(lightgbm, gnn, "full"), (lightgbm, None, "full"), (lightgbm, None, "no_store"), (None, gnn, "full")]
    if champion is not None:
        trees, network = (verify(champion[model], model).sha12 for model in MODELS[:2])
        pairs += [(trees, network, "full"), (lightgbm, network, "full"), (trees, gnn, "full")]
    fusion = {
        "pairs": [
            {"lightgbm": left, "gnn": right, "mask": mask, "weights": [1.0, 1.0], "intercept": 0.0}
            for left, right, mask in pairs
        ],
        "thresholds": {name: {"review": 0.2, "block": 0.8} for name in SCORED_EVENT_TYPES},
        "policy_sha256": POLICY,
        "lightgbm": lightgbm,
        "gnn": gnn,
    }
    _bundle(folders["fraud-fusion"], {"fusion.json": fusion}, content, {})
    return folders


def _bundle(folder: Path, files: dict[str, object], content: str, metadata: dict[str, Any]) -> str:
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "weights.txt").write_text(content)
    (folder / "model_card.md").write_text(f"# {folder.name}\n\nMade of {content}.\n")
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    return write_manifest(folder, folder.name, metadata).sha12


def request(root: Path, alias: str, dataset: str = "d", claim: str = "") -> Registration:
    return Registration(
        alias=alias,
        bundle_root=root / "bundles",
        bundle_claim=claim,
        dataset_sha256=dataset * 64,
        pipeline_run="kfp-7",
    )


def write_evaluation(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(EVALUATION))
    return path
