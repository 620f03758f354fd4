"""What is typical of honest events, from the training set to the predictor's answer."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kserve import InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput

from components.train_lightgbm.bundle import write_bundle
from components.train_lightgbm.logic import train
from components.train_lightgbm.settings import LightGbmSettings
from components.train_lightgbm.typical_values import typical_values
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES
from inference_services.bundle import Bundle, write_manifest
from inference_services.errors import BundleError
from inference_services.lightgbm_predictor.model import LightGbmPredictor
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.typical_values import FILE, PARAMETER, QUANTILES, Typical, parse_parameter

SETTINGS = LightGbmSettings(rounds=5, num_leaves=4, num_threads=1)


@pytest.fixture(scope="module")
def bundle(training_set: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("typical") / "bundle"
    return write_bundle(folder, train(training_set, SETTINGS), training_set, SETTINGS, "0" * 64)


def answer(folder: Path, frame: pd.DataFrame, *outputs: str) -> dict[str, Any]:
    model = LightGbmPredictor("fraud-detector", LightGbmScorer.load(folder))
    inputs = []
    for name in MODEL_FEATURES:
        text = name in CATEGORICAL_FEATURES
        values = frame[name].to_numpy(object if text else np.float64)
        tensor = InferInput(name, [len(values)], "BYTES" if text else "FP64")
        tensor.set_data_from_numpy(values, binary_data=True)
        inputs.append(tensor)
    request = InferRequest("fraud-detector", inputs, request_outputs=[RequestedOutput(o) for o in outputs] or None)
    return dict(asyncio.run(model.predict(request)).parameters)


def test_percentiles_are_those_of_honest_training_events_of_the_type(training_set: pd.DataFrame) -> None:
    content = json.loads(json.dumps(typical_values(training_set)))
    assert content["quantiles"] == list(QUANTILES)
    honest = training_set[(training_set["split"] == "train") & (training_set["y"] == 0)]
    for name, part in content["event_types"].items():
        rows = honest[honest["event_type"] == name]
        assert part["events"] == len(rows)
        assert part["values"].keys() == set(MODEL_FEATURES) - set(CATEGORICAL_FEATURES)
        assert part["values"]["amount"] == pytest.approx(np.quantile(rows["amount"], QUANTILES), rel=1e-5)
    assert content["all"]["events"] == len(honest)


def test_fraud_and_later_weeks_change_nothing(training_set: pd.DataFrame) -> None:
    changed = training_set.copy()
    others = (changed["y"] != 0) | (changed["split"] != "train")
    changed.loc[others, "amount"] = 1e9
    assert typical_values(changed) == typical_values(training_set)


def test_unknown_values_and_rare_types_are_left_out(training_set: pd.DataFrame) -> None:
    frame = training_set.assign(surge=np.nan, speed_kmh=training_set["speed_kmh"].where(training_set.index % 2 == 0))
    rare = frame["event_type"] == "refund_claimed"
    frame = frame[~rare | (rare.cumsum() <= 20)]
    content = typical_values(frame)
    assert "refund_claimed" not in content["event_types"]
    assert "surge" not in content["all"]["values"]
    assert np.isfinite(content["all"]["values"]["speed_kmh"]).all()


def test_no_honest_event_is_no_typical_value(training_set: pd.DataFrame) -> None:
    content = typical_values(training_set.assign(y=1.0))
    assert content == {"quantiles": QUANTILES, "all": {"events": 0, "values": {}}, "event_types": {}}


def test_contributions_come_with_what_is_typical_of_the_events_types(
    bundle: Bundle, training_set: pd.DataFrame
) -> None:
    rows = training_set[training_set["event_type"].isin(["trip_completed", "refund_claimed"])].tail(5)
    typical = parse_parameter(answer(bundle.folder, rows, "contributions")[PARAMETER])
    assert set(typical) == set(rows["event_type"])
    stored = bundle.read_json(FILE)["event_types"]["trip_completed"]["values"]
    assert typical["trip_completed"]["amount"] == Typical(*stored["amount"])
    assert PARAMETER not in answer(bundle.folder, rows)


def test_a_type_without_its_own_values_gets_those_of_all(
    bundle: Bundle, training_set: pd.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    content = json.loads((folder / FILE).read_text())
    del content["event_types"]["refund_claimed"]
    (folder / FILE).write_text(json.dumps(content))
    write_manifest(folder, "fraud-lightgbm", bundle.metadata)
    rows = training_set[training_set["event_type"] == "refund_claimed"].tail(1)
    typical = parse_parameter(answer(folder, rows, "contributions")[PARAMETER])
    assert typical["refund_claimed"]["amount"] == Typical(*content["all"]["values"]["amount"])


def test_an_old_bundle_explains_without_the_comparison(
    bundle: Bundle, training_set: pd.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    (folder / FILE).unlink()
    write_manifest(folder, "fraud-lightgbm", bundle.metadata)
    given = answer(folder, training_set.tail(1), "contributions")
    assert PARAMETER not in given
    assert given["features"].split(",") == list(MODEL_FEATURES)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"quantiles": [0.5], "all": {"values": {}}, "event_types": {}},
        {"quantiles": list(QUANTILES), "all": {"values": {"amount": [3, 2, 1]}}, "event_types": {}},
        {"quantiles": list(QUANTILES), "all": {"values": {"amount": ["a", "b", "c"]}}, "event_types": {}},
    ],
)
def test_a_file_in_another_form_is_refused_at_load(bundle: Bundle, tmp_path: Path, content: Any) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    (folder / FILE).write_text(json.dumps(content))
    write_manifest(folder, "fraud-lightgbm", bundle.metadata)
    with pytest.raises(BundleError, match=f"{FILE} of .* cannot be used"):
        LightGbmPredictor("fraud-detector", LightGbmScorer.load(folder))


@pytest.mark.parametrize(
    "text", [None, 5, "", "{", "[]", '{"a": 3}', '{"a": {"amount": [1, NaN, 2]}}', '{"a": {"amount": [1, 2]}}']
)
def test_a_parameter_in_another_form_compares_nothing(text: Any) -> None:
    assert not any(parse_parameter(text).values())
