"""A bundle of ours is also a model of KServe's stock LightGBM server, which scores it alike."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from kserve import InferenceRESTClient, RESTConfig

from inference_services.bundle import Bundle, verify
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.model_names import LIGHTGBM
from tests.contract.conftest import DETECTOR, Service, StartService, Target, make_rows
from tests.contract.v2_clients import CLIENTS, Client


@pytest.fixture(scope="module")
def stock(start_service: StartService, lightgbm_bundle: Bundle) -> Service:
    module = "tests.contract.stock_lightgbm"
    return start_service(module, DETECTOR, f"--model_dir={lightgbm_bundle.folder.as_uri()}")


@pytest.fixture(scope="module")
def matrix(lightgbm_bundle: Bundle) -> np.ndarray:
    """Rows as the trees read them, with missing values and a level that training did not see."""
    scorer = LightGbmScorer.load(lightgbm_bundle.folder)
    columns = make_rows(200, seed=7)
    columns["city"][0] = "atlantis"
    X = scorer.encode(columns, 200)
    X[1, 5:] = np.nan
    return X


@pytest.mark.parametrize("client", ["triton_http_binary", "kserve_rest_binary", "kserve_grpc_raw", "triton_grpc"])
def test_the_stock_server_gives_the_same_scores(
    client: str, stock: Service, predictor: Service, matrix: np.ndarray, request: pytest.FixtureRequest
):
    call: Client = CLIENTS.get(client) or request.getfixturevalue(client)
    theirs = call(Target(stock, DETECTOR, "", make_rows, ("output-0",)), {"input-0": matrix}).outputs["output-0"]
    ours = call(Target(predictor, DETECTOR, "", make_rows, ()), {"input-0": matrix}).outputs["raw_score"]
    np.testing.assert_allclose(theirs, 1 / (1 + np.exp(-np.array(ours))), rtol=1e-12)
    assert len(set(theirs)) > 20


def test_the_stock_server_takes_v1_rows_too(stock: Service, matrix: np.ndarray, lightgbm_bundle: Bundle):
    rows = matrix[2:10]

    async def call() -> list[float]:
        async with InferenceRESTClient(RESTConfig(protocol="v1", retries=1, timeout=10)) as client:
            answer = await client.infer(stock.url, {"instances": rows.tolist()}, model_name=DETECTOR)
            predictions: list[float] = answer["predictions"]
            return predictions

    wanted = LightGbmScorer.load(lightgbm_bundle.folder).booster.predict(rows)
    np.testing.assert_allclose(asyncio.run(call()), wanted, rtol=1e-12)


def test_the_stock_server_leaves_the_bundle_as_it_was(stock: Service, lightgbm_bundle: Bundle):
    assert verify(lightgbm_bundle.folder, LIGHTGBM).sha256 == lightgbm_bundle.sha256
