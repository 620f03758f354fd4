"""The direct route and KServe's own, in one server: the same answers, refusals and counts, whatever is sent.

A header whose name begins with `ce-` keeps a request off the direct route, and means nothing to KServe's.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.v2_rest import decode, encode_request
from tests.contract.conftest import DETECTOR, Service, make_rows

JSON = {"content-type": "application/json", "x-request-id": "the-same-for-both"}
KSERVE_ROUTE = {"ce-none": "1"}
ODD: tuple[Any, ...] = (
    *(None, "", "x", "\u0000", 0, -1, 1, 2, 1024, 1025, 2**53 + 1, 2**63, 2**64, 10**30, -0.0, 1e308, 0.1, True, False),
    *([], [1], [None], ["x"], [[1.5]], [True], [2**64], {}, {"name": "raw_score"}, [{"name": "raw_score"}]),
    *([{"name": "nobody"}], [{"name": "log_odds", "parameters": {"binary_data": True}}], {"binary_data_output": True}),
    *("FP64", "FP32", "fp64", "INT64", "INT32", "FP16", "BYTES", "amount", "city", "features", "input-0"),
)
COUNTED = re.compile(r"^(request_\w+_seconds_count|fraud_requests_total)(\{.*\}) (\S+)$", re.M)


def tensor(name: str, values: np.ndarray) -> dict[str, Any]:
    datatype = "BYTES" if values.dtype == object else "FP64"
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "data": values.ravel().tolist()}


@pytest.fixture(scope="module")
def requests(lightgbm_bundle: Any) -> list[dict[str, Any]]:
    """One of each form."""
    scorer, columns = LightGbmScorer.load(lightgbm_bundle.folder), make_rows(2)
    named = [tensor(name, values) for name, values in columns.items()]
    matrix = [tensor("input-0", scorer.encode(columns, 2))]
    numbers = {name: values for name, values in columns.items() if values.dtype != object}
    by_columns = tensor("features", np.column_stack(list(numbers.values())))
    by_columns["parameters"] = {"columns": ",".join(numbers)}
    texts = [tensor(name, values) for name, values in columns.items() if values.dtype == object]
    return [
        {"id": "a", "inputs": named},
        {"inputs": matrix},
        {"id": "c", "inputs": [by_columns, *texts]},
        {"inputs": matrix, "outputs": [{"name": "contributions"}, {"name": "raw_score"}, {"name": "raw_score"}]},
    ]


def hostile(requests: list[dict[str, Any]], count: int) -> Iterator[bytes]:
    """Requests with something odd in some place, and broken bodies."""
    rng = random.Random(0)  # noqa: S311 - no secret
    for _ in range(count):
        body = json.loads(json.dumps(rng.choice(requests)))
        for _ in range(rng.randint(1, 2)):
            spoil(body, rng)
        content = json.dumps(body).encode()
        if rng.random() < 0.15:
            content = content[: rng.randrange(len(content))]
        elif rng.random() < 0.1:
            content = content.replace(b"1", rng.choice([b"NaN", b"Infinity", b"\xff", b"01", b"1e999", b"\\u0000"]), 1)
        yield content


def spoil(body: dict[str, Any], rng: random.Random) -> None:
    """Changes, adds or drops one thing, at the top, in a tensor, or in its data."""
    place: Any = body
    if body.get("inputs") and isinstance(body["inputs"], list) and rng.random() < 0.8:
        place = rng.choice(body["inputs"])
        if isinstance(place, dict) and isinstance(place.get("data"), list) and place["data"] and rng.random() < 0.4:
            place["data"][rng.randrange(len(place["data"]))] = rng.choice(ODD)
            return
    if not isinstance(place, dict):
        return
    key = rng.choice([*place, "id", "parameters", "outputs", "inputs", "shape", "data", "datatype", "name"])
    if rng.random() < 0.25:
        place.pop(key, None)
    else:
        place[key] = rng.choice(ODD)


@pytest.fixture(scope="module")
def client(predictor: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=predictor.url, timeout=30) as client:
        yield client


def post(client: httpx.Client, content: bytes, headers: dict[str, str]) -> httpx.Response:
    return client.post(f"/v2/models/{DETECTOR}/infer", content=content, headers=headers)


def both(client: httpx.Client, content: bytes, headers: dict[str, str]) -> tuple[httpx.Response, httpx.Response]:
    return post(client, content, headers), post(client, content, headers | KSERVE_ROUTE)


def counts(client: httpx.Client) -> Counter[str]:
    text = client.get("/metrics").text
    return Counter({name + labels: int(float(value)) for name, labels, value in COUNTED.findall(text)})


def test_valid_requests_are_answered_with_the_same_bytes(client: httpx.Client, requests: list[dict[str, Any]]) -> None:
    for request in requests:
        content = orjson.dumps(request)
        assert decode(content, None) is not None
        direct, kserve = both(client, content, JSON)
        assert direct.status_code == 200, direct.text
        assert direct.content == kserve.content
        assert dict(direct.headers) == {**kserve.headers, "date": direct.headers["date"]}


def test_binary_requests_are_answered_with_the_same_bytes(client: httpx.Client) -> None:
    columns = make_rows(3)
    for arrays in (columns, columns | {"amount": columns["amount"].astype(np.float64)}):
        content, length = encode_request(arrays, {}, [])
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(length)}
        direct, kserve = both(client, content, {**headers, "x-request-id": "the-same-for-both"})
        assert direct.status_code == 200, direct.text
        assert direct.content == kserve.content


def test_hostile_requests_get_the_same_answers_and_are_counted_alike(
    client: httpx.Client, requests: list[dict[str, Any]]
) -> None:
    contents = list(hostile(requests, 400))
    seen: Counter[int] = Counter()
    before = counts(client)
    answers = [post(client, content, JSON) for content in contents]
    between = counts(client)
    for content, direct in zip(contents, answers, strict=True):
        kserve = post(client, content, JSON | KSERVE_ROUTE)
        assert (direct.status_code, direct.content) == (kserve.status_code, kserve.content), content
        seen[direct.status_code] += 1
    after = counts(client)
    assert between - before == after - between
    assert set(seen) == {200, 400}
    assert min(seen.values()) > 50
