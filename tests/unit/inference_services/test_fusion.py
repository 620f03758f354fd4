from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from inference_services.bundle import write_manifest
from inference_services.errors import BadSettings, BundleError
from inference_services.transformer.fusion import UNKNOWN, Fusion, decide
from inference_services.transformer.settings import TransformerSettings

CONTENT: dict[str, Any] = {
    "pairs": [
        {"lightgbm": "a" * 12, "gnn": None, "mask": "full", "weights": [1, None], "intercept": 0},
        {"lightgbm": "a" * 12, "gnn": "b" * 12, "mask": "full", "weights": [1, 1], "intercept": 0},
    ],
    "thresholds": {t: {"review": 0.2, "block": 0.7} for t in SCORED_EVENT_TYPES},
    "policy_sha256": "0" * 64,
    "lightgbm": "a" * 12,
    "gnn": "b" * 12,
}


def load(folder: Path, content: object) -> Fusion:
    (folder / "fusion.json").write_text(json.dumps(content))
    write_manifest(folder, "fraud-fusion", {})
    return Fusion.load(folder)


@pytest.mark.parametrize(
    ("probability", "decision"),
    [(0.0, "allow"), (0.1999, "allow"), (0.2, "review"), (0.6999, "review"), (0.7, "block"), (UNKNOWN, "review")],
)
def test_thresholds_are_inclusive_and_unknown_is_reviewed(probability: float, decision: str, tmp_path: Path):
    fusion = load(tmp_path, CONTENT)
    found = decide(fusion.thresholds, np.array(["refund_claimed"], object), np.array([probability]))
    assert found.tolist() == [decision]


@pytest.mark.parametrize(
    "changes",
    [
        {"policy_sha256": None},
        {"policy_sha256": "0" * 63},
        {"gnn": None},
        {"gnn": "c" * 12},
        {"lightgbm": "A" * 12},
        {"pairs": []},
        {"pairs": None},
        {"pairs": [*CONTENT["pairs"], CONTENT["pairs"][0]]},
        {"pairs": [*CONTENT["pairs"], {**CONTENT["pairs"][0], "lightgbm": None}]},
        {"pairs": [*CONTENT["pairs"], {**CONTENT["pairs"][0], "lightgbm": "../../etc/x"}]},
        {"pairs": [*CONTENT["pairs"], {**CONTENT["pairs"][0], "lightgbm": 7}]},
        {"thresholds": {**CONTENT["thresholds"], "trip_cancelled": {"review": 0.2, "block": 0.7}}},
        {"thresholds": {k: v for k, v in CONTENT["thresholds"].items() if k != "refund_claimed"}},
        {"thresholds": {t: {"review": 0.2} for t in SCORED_EVENT_TYPES}},
        {"thresholds": {t: {"review": float("nan"), "block": 0.7} for t in SCORED_EVENT_TYPES}},
        {"thresholds": None},
        {"pairs": [{**CONTENT["pairs"][0], "mask": "half"}]},
        {"pairs": [{**CONTENT["pairs"][0], "intercept": float("inf")}]},
        {"pairs": [{**CONTENT["pairs"][0], "weights": [1]}]},
        {"thresholds": {}},
        {"thresholds": {t: {"review": 0.9, "block": 0.7} for t in SCORED_EVENT_TYPES}},
        {"alarm_offsets": None},
        {"alarm_offsets": {"device_tier": {"coarse": 0.1}}},
        {"alarm_offsets": {"city": {"tehran": float("nan")}}},
        {"alarm_offsets": {"city": {"tehran": [1.0]}}},
        {"alarm_offsets": {"tenure": {"under 8 days": 0.1}}},
    ],
)
def test_unusable_table_is_refused(changes: dict[str, Any], tmp_path: Path):
    with pytest.raises(BundleError, match=r"fusion\.json"):
        load(tmp_path, {**CONTENT, **changes})


@pytest.mark.parametrize("name", CONTENT)
def test_a_table_that_lacks_a_part_is_refused(name: str, tmp_path: Path):
    with pytest.raises(BundleError, match=rf"fusion\.json of .* cannot be used: KeyError\('{name}'\)"):
        load(tmp_path, {k: v for k, v in CONTENT.items() if k != name})


@pytest.mark.parametrize("content", [None, [], "text", 7])
def test_what_is_not_a_table_is_refused(content: object, tmp_path: Path):
    with pytest.raises(BundleError, match=r"fusion\.json"):
        load(tmp_path, content)


def test_a_bundle_from_before_the_offsets_has_none(tmp_path: Path):
    fusion = load(tmp_path, CONTENT)
    assert fusion.alarm_offsets == {}
    assert fusion.offset(np.array(["tehran"], object), np.array([3.0])).tolist() == [0.0]


def test_a_table_that_is_altered_after_it_was_pinned_is_refused(tmp_path: Path):
    load(tmp_path, CONTENT)
    content = (tmp_path / "fusion.json").read_bytes()
    for altered in (content.replace(b"0.7", b"0.9", 1), content[:-40], b""):
        (tmp_path / "fusion.json").write_bytes(altered)
        with pytest.raises(BundleError, match=r"'fusion\.json' differs from its manifest"):
            Fusion.load(tmp_path)


def test_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FRAUD_TRANSFORMER_REDIS_URL", raising=False)
    with pytest.raises(BadSettings, match="FRAUD_TRANSFORMER_REDIS_URL"):
        TransformerSettings.read()


def test_fusion_address_must_be_a_folder_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name, value in {"REDIS_URL": "redis://x", "GNN_URL": "http://x", "SPOOL_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"FRAUD_TRANSFORMER_{name}", value)
    monkeypatch.setenv("FRAUD_TRANSFORMER_FUSION_URI", (tmp_path / "a b").as_uri())
    assert TransformerSettings.read().fusion_folder == tmp_path / "a b"
    monkeypatch.setenv("FRAUD_TRANSFORMER_FUSION_URI", "pvc://fraud-bundles/fraud-fusion/1-abc")
    assert TransformerSettings.read().fusion_folder == Path("/mnt/bundles/fraud-fusion/1-abc")
    monkeypatch.setenv("FRAUD_TRANSFORMER_BUNDLE_ROOT", str(tmp_path))
    assert TransformerSettings.read().fusion_folder == tmp_path / "fraud-fusion" / "1-abc"
    monkeypatch.setenv("FRAUD_TRANSFORMER_FUSION_URI", "s3://bucket/fusion")
    with pytest.raises(BadSettings, match="FRAUD_TRANSFORMER_FUSION_URI: s3://bucket/fusion must be file:///"):
        _ = TransformerSettings.read().fusion_folder
