"""The LightGBM predictor as a process, called by every client a user may have."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import httpx
import numpy as np
import pytest

from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES, STORE_FEATURES
from inference_services.bundle import Bundle
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from tests.contract.conftest import DETECTOR as NAME
from tests.contract.conftest import ROOT, Service, make_rows


@pytest.fixture(scope="module")
def expected(lightgbm_bundle: Bundle) -> np.ndarray:
    scorer = LightGbmScorer.load(lightgbm_bundle.folder)
    columns = make_rows(3, seed=5)
    return scorer.score(scorer.encode(columns, 3)).probability


def body(columns: dict[str, np.ndarray], **extra: Any) -> dict[str, Any]:
    inputs = [
        {
            "name": name,
            "datatype": "BYTES" if values.dtype == object else "FP64",
            "shape": [len(values)],
            "data": [None if isinstance(v, float) and np.isnan(v) else v for v in values.tolist()],
        }
        for name, values in columns.items()
    ]
    return {"inputs": inputs, **extra}


def post(service: Service, content: Any) -> httpx.Response:
    return httpx.post(f"{service.url}/v2/models/{NAME}/infer", json=content, timeout=10)


def output(answer: dict[str, Any], name: str) -> list[Any]:
    return next(o["data"] for o in answer["outputs"] if o["name"] == name)


def test_rest_json_answers_what_the_bundle_scores(predictor: Service, expected: np.ndarray, lightgbm_bundle: Bundle):
    answer = post(predictor, body(make_rows(3, seed=5))).json()
    np.testing.assert_allclose(output(answer, "probability"), expected, rtol=1e-12)
    assert answer["model_version"] == f"0-{lightgbm_bundle.sha12}"
    assert answer["parameters"]["revision"] == "fraud-detector-00001"
    assert answer["id"]
    assert {o["name"] for o in answer["outputs"]} == {"raw_score", "log_odds", "probability"}


def test_matrix_form_equals_named_form(predictor: Service, expected: np.ndarray, lightgbm_bundle: Bundle):
    scorer = LightGbmScorer.load(lightgbm_bundle.folder)
    X = scorer.encode(make_rows(3, seed=5), 3)
    tensor = {"name": "input-0", "datatype": "FP64", "shape": list(X.shape), "data": X.ravel().tolist()}
    answer = post(predictor, {"id": "7", "inputs": [tensor]}).json()
    np.testing.assert_allclose(output(answer, "probability"), expected, rtol=1e-12)
    assert answer["id"] == "7"


def test_contributions_come_only_when_asked_for_and_add_up(predictor: Service):
    answer = post(predictor, body(make_rows(2), outputs=[{"name": "contributions"}, {"name": "raw_score"}])).json()
    contributions = next(o for o in answer["outputs"] if o["name"] == "contributions")
    assert contributions["shape"] == [2, len(MODEL_FEATURES) + 1]
    total = np.reshape(contributions["data"], contributions["shape"]).sum(axis=1)
    np.testing.assert_allclose(total, output(answer, "raw_score"), rtol=1e-9)
    assert answer["parameters"]["features"].split(",") == list(MODEL_FEATURES)
    typical = json.loads(answer["parameters"]["typical_values"])
    assert typical == {name: {"amount": [4.0, 17.0, 47.0]} for name in make_rows(2)["event_type"]}


def test_rows_without_the_store_use_their_own_calibration(predictor: Service):
    columns = make_rows(2)
    for name in STORE_FEATURES:
        columns[name][1] = np.nan
    answer = post(predictor, body(columns)).json()
    raw, log_odds = np.array(output(answer, "raw_score")), np.array(output(answer, "log_odds"))
    np.testing.assert_allclose(log_odds, [1.1 * raw[0] - 0.2, 0.7 * raw[1] - 0.5])


def test_unknown_level_and_extra_tensor_are_accepted(predictor: Service):
    columns = make_rows(1)
    columns["city"] = np.array(["atlantis"], object)
    columns["a_feature_of_another_version"] = np.zeros(1)
    assert post(predictor, body(columns)).status_code == 200


def _without(name: str) -> dict[str, Any]:
    columns = make_rows(2)
    del columns[name]
    return body(columns)


def _with(field: str, **changes: Any) -> dict[str, Any]:
    content = body(make_rows(2))
    next(t for t in content["inputs"] if t["name"] == field).update(changes)
    return content


BAD = {
    "missing tensor": (_without("amount"), "'amount' is missing"),
    "missing category": (_without("city"), "'city' is missing"),
    "wrong datatype": (_with("amount", datatype="INT64", data=[1, 2]), "'amount' must have datatype FP64"),
    "unknown datatype": (_with("amount", datatype="FP99"), "'amount' must have datatype FP64"),
    "unequal lengths": (_with("amount", shape=[3], data=[1, 2, 3]), "'amount' has 3 rows"),
    "two dimensions": (_with("amount", shape=[2, 1]), "'amount' must have shape [n]"),
    "negative shape": (_with("amount", shape=[-2]), "'amount' has -2 rows"),
    "fewer values than the shape": (_with("amount", data=[1.0]), "'amount' has shape [2] but 1 values"),
    "text for a number": (_with("amount", data=["a", "b"]), "'amount' holds a value at row 0"),
    "truth value for a number": (_with("amount", data=[True, False]), "'amount' holds a value at row 0"),
    "ragged": (_with("amount", data=[[1.0], [1.0, 2.0]]), "'amount'"),
    "number for text": (_with("city", data=["tehran", 5]), "'city'"),
    "empty batch": (body(make_rows(0)), "is empty"),
    "too many rows": (body(make_rows(1025)), "has 1025 rows"),
    "a name twice": ({"inputs": [*body(make_rows(1))["inputs"], *body(make_rows(1))["inputs"]]}, "given twice"),
    "a number for a shape": (_with("amount", shape=2), ".shape: Input should be a valid list"),
    "a text for a list of data": (_with("amount", data="ab"), ".data: Input should be a valid list"),
    "a number for a name": (_with("amount", name=5), ".name: Input should be a valid string"),
    "a number for parameters": (body(make_rows(1), parameters=5), "not a V2 inference request"),
    "a list for an output's name": (
        body(make_rows(1), outputs=[{"name": [1]}]),
        "outputs.0.name: Input should be a valid string",
    ),
    "no inputs": ({"inputs": []}, "no input tensors"),
    "unknown output": (body(make_rows(1), outputs=[{"name": "fame"}]), "output 'fame' does not exist"),
    "narrow matrix": (
        {"inputs": [{"name": "input-0", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]},
        "'input-0' must have shape",
    ),
    "not a V2 request": ({"instances": [[1]]}, "not a V2 inference request"),
    "inputs is not a list": ({"inputs": 3}, "not a V2 inference request"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_400_and_names_the_field(case: str, predictor: Service):
    content, message = BAD[case]
    response = post(predictor, content)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]


BINARY = {"content-type": "application/octet-stream", "inference-header-content-length": "13"}
BAD_BODIES = {
    "not JSON": (b"{", {"content-type": "application/json"}),
    "binary without tensors": (b'{"inputs": 3}', BINARY),
    "binary header not a number": (b'{"inputs":[]}', {**BINARY, "inference-header-content-length": "x"}),
    "binary without its header": (b"\x00\x01", {"content-type": "application/octet-stream"}),
    "truncated binary tensor": (
        b'{"inputs":[{"name":"amount","datatype":"FP64","shape":[2],"parameters":{"binary_data_size":16}}]}'
        + b"\0" * 9,
        {**BINARY, "inference-header-content-length": "97"},
    ),
    "binary text with a false length": (
        b'{"inputs":[{"name":"city","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}]}\xff\0\0\0ab',
        {**BINARY, "inference-header-content-length": "95"},
    ),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_malformed_body_is_400(case: str, predictor: Service):
    content, headers = BAD_BODIES[case]
    response = httpx.post(f"{predictor.url}/v2/models/{NAME}/infer", content=content, headers=headers)
    assert response.status_code == 400, response.text
    assert response.json()["error"]


def test_v1_request_is_400(predictor: Service):
    response = httpx.post(f"{predictor.url}/v1/models/{NAME}:predict", json={"instances": [[1.0]]})
    assert response.status_code == 400
    assert "V2" in response.json()["error"]


def test_server_still_answers_after_bad_requests(predictor: Service):
    for content, _ in BAD.values():
        post(predictor, content)
    assert post(predictor, body(make_rows(1))).status_code == 200
    assert "Traceback" not in predictor.log.read_text()


def test_concurrent_callers_each_get_their_own_rows(predictor: Service, lightgbm_bundle: Bundle):
    scorer = LightGbmScorer.load(lightgbm_bundle.folder)

    async def call(client: httpx.AsyncClient, seed: int) -> None:
        columns = make_rows(40, seed)
        response = await client.post(f"/v2/models/{NAME}/infer", json=body(columns))
        wanted = scorer.score(scorer.encode(columns, 40)).probability
        np.testing.assert_allclose(output(response.json(), "probability"), wanted, rtol=1e-12)

    async def calls() -> None:
        async with httpx.AsyncClient(base_url=predictor.url, timeout=30) as client:
            await asyncio.gather(*(call(client, seed) for seed in range(16)))

    asyncio.run(calls())


def test_metadata_lists_every_feature(predictor: Service):
    metadata = httpx.get(f"{predictor.url}/v2/models/{NAME}").json()
    types = {t["name"]: t["datatype"] for t in metadata["inputs"]}
    assert tuple(types) == MODEL_FEATURES
    assert {n for n, t in types.items() if t == "BYTES"} == set(CATEGORICAL_FEATURES)


def run_once(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inference_services.lightgbm_predictor", f"--model_name={NAME}", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False, env=os.environ)


def test_port_in_use_is_one_line_and_exit_code_1(predictor: Service, lightgbm_bundle: Bundle):
    ended = run_once(f"--model_dir={lightgbm_bundle.folder}", f"--http_port={predictor.http_port}")
    assert ended.returncode == 1
    assert f"port {predictor.http_port} cannot be used" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_missing_bundle_is_one_line_and_exit_code_1(tmp_path: Any):
    ended = run_once(f"--model_dir={tmp_path / 'nowhere'}", "--http_port=0", "--grpc_port=0")
    assert ended.returncode == 1
    assert "there is no bundle folder" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
