"""A canary of the LightGBM predictor from its first request to its end, through KServe's own client.

While anything changes, requests go on: each must be answered, by a revision that may answer then, from its own bundle.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kserve import (
    KServeClient,
    V1beta1InferenceService,
    V1beta1InferenceServiceSpec,
    V1beta1ModelFormat,
    V1beta1ModelSpec,
    V1beta1PredictorSpec,
)
from kubernetes.client import V1ObjectMeta
from scipy import stats

from feature_repo.feature_names import MODEL_FEATURES
from inference_services.bundle import Bundle
from simulators.local_kserve import LocalKServe
from tests.contract.conftest import DETECTOR, ROOT, write_lightgbm_bundle
from tests.processes import needs_proc, processes_with, wait_until

NAMESPACE = "fraud"
CONNECTIONS = 16
# A right split leaves this interval once in a million runs.
CONFIDENCE = 1 - 1e-6
# So that a service that is starting gets most of the processor.
PAUSE_S = 0.01
FIRST, SECOND, THIRD = (f"{DETECTOR}-predictor-{n:05d}" for n in (1, 2, 3))
ROW = {"name": "input-0", "datatype": "FP64", "shape": [1, len(MODEL_FEATURES)], "data": [1.0] * len(MODEL_FEATURES)}
BODY = json.dumps({"inputs": [ROW]})

# (revision, model version) of an answer.
Answer = tuple[str, str]


@dataclass(frozen=True)
class Served:
    """The InferenceService under test.

    Attributes:
        kserve: KServe's client.
        url: at which it is asked.
        state: folder of the local KServe.
    """

    kserve: KServeClient
    url: str
    state: Path

    async def ask(self, http: aiohttp.ClientSession) -> Answer:
        """One request over a kept connection; any answer but a good one is an error."""
        async with http.post(f"/v2/models/{DETECTOR}/infer", data=BODY) as answer:
            assert answer.status == 200, await answer.text()
            content = await answer.json()
            return content["parameters"]["revision"], content["model_version"]

    async def ask_often(self, times: int) -> Counter[Answer]:
        """Many requests over some connections at once."""
        async with self._session() as http:
            left = iter(range(times))

            async def lane() -> list[Answer]:
                return [await self.ask(http) for _ in left]

            lanes = await asyncio.gather(*(lane() for _ in range(CONNECTIONS)))
        return Counter(answer for of_lane in lanes for answer in of_lane)

    async def change(self, call: str, change: V1beta1InferenceService) -> Counter[Answer]:
        """Patches or replaces the object, and asks without a break until the change is complete, and a little more."""
        answers: Counter[Answer] = Counter()
        done = asyncio.Event()

        async def lane(http: aiohttp.ClientSession) -> None:
            while not done.is_set():
                answers[await self.ask(http)] += 1
                await asyncio.sleep(PAUSE_S)

        async def more() -> None:
            enough = answers.total() + 20
            while answers.total() < enough:
                await asyncio.sleep(PAUSE_S)

        def make() -> None:
            generation = getattr(self.kserve, call)(DETECTOR, change)["metadata"]["generation"]
            self.wait_ready(generation)

        async with self._session() as http, asyncio.TaskGroup() as traffic:
            for _ in range(2):
                traffic.create_task(lane(http))
            await more()
            await asyncio.to_thread(make)
            await more()
            done.set()
        return answers

    def wait_ready(self, generation: int) -> None:
        self.kserve.wait_isvc_ready(
            DETECTOR, NAMESPACE, timeout_seconds=120, polling_interval=0.1, expected_generation=generation
        )

    def traffic(self) -> dict[str, int]:
        """Percent by revision, as the status lists it."""
        status: dict[str, Any] = self.kserve.get(DETECTOR, NAMESPACE)["status"]
        return {t["revisionName"]: t["percent"] for t in status["components"]["predictor"]["traffic"]}

    def processes(self, revision: str) -> list[int]:
        return processes_with(str(self.state / "models" / revision))

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.url, headers={"content-type": "application/json"})


def isvc(bundle: Bundle, percent: int | None = None) -> V1beta1InferenceService:
    """The whole object: a replacement by it removes what it does not name."""
    model = V1beta1ModelSpec(
        model_format=V1beta1ModelFormat(name="fraud-lightgbm", version="1"),
        runtime="fraud-lightgbm",
        protocol_version="v2",
        storage_uri=bundle.folder.as_uri(),
    )
    return V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=V1ObjectMeta(
            name=DETECTOR, namespace=NAMESPACE, annotations={"serving.kserve.io/deploymentMode": "Knative"}
        ),
        spec=V1beta1InferenceServiceSpec(
            predictor=V1beta1PredictorSpec(min_replicas=1, model=model, canary_traffic_percent=percent)
        ),
    )


def share(percent: int) -> V1beta1InferenceService:
    """A patch of the canary's share alone."""
    return V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=V1ObjectMeta(name=DETECTOR, namespace=NAMESPACE),
        spec=V1beta1InferenceServiceSpec(predictor=V1beta1PredictorSpec(canary_traffic_percent=percent)),
    )


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Three versions of a small model."""
    folder = tmp_path_factory.mktemp("canary")
    return [write_lightgbm_bundle(folder / f"lightgbm-{seed}", seed) for seed in range(3)]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKServe]:
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    images = {"fraud-lightgbm-predictor": {"python": sys.executable, "env": env}}
    with LocalKServe(ROOT / "manifests" / "base", tmp_path_factory.mktemp("kserve"), images) as server:
        yield server


def assert_split(answers: Counter[Answer], canary: Answer, percent: int) -> None:
    """Of requests that are sent on independently, as Knative's gateway does, the canary's number is binomial."""
    low, high = stats.binom.interval(CONFIDENCE, answers.total(), percent / 100)
    assert low <= answers[canary] <= high


@needs_proc
async def test_a_canary_is_raised_and_promoted_and_another_rolled_back_without_a_lost_request(
    local: LocalKServe, bundles: list[Bundle]
) -> None:
    old, new, bad = ((name, b.label) for name, b in zip((FIRST, SECOND, THIRD), bundles, strict=True))
    kserve = KServeClient(config_file=str(local.kubeconfig))
    created = kserve.create(isvc(bundles[0]))
    served = Served(kserve, created["status"]["url"], local.state_dir)
    await asyncio.to_thread(served.wait_ready, 1)
    assert set(await served.change("patch", share(0))) == {old}, "the first revision has nothing to be split with"

    during = await served.change("patch", isvc(bundles[1], 10))
    assert set(during) <= {old, new}
    assert served.traffic() == {SECOND: 10, FIRST: 90}
    answers = await served.ask_often(5_000)
    assert set(answers) == {old, new}
    assert answers.total() == 5_000
    assert_split(answers, new, 10)

    assert set(await served.change("patch", share(50))) == {old, new}
    assert served.traffic() == {SECOND: 50, FIRST: 50}
    assert_split(await served.ask_often(2_000), new, 50)

    assert len(served.processes(FIRST)) == 1
    assert set(await served.change("replace", isvc(bundles[1]))) == {old, new}
    assert served.traffic() == {SECOND: 100}
    assert set(await served.ask_often(100)) == {new}
    wait_until(lambda: not served.processes(FIRST))

    assert set(await served.change("patch", isvc(bundles[2], 10))) <= {new, bad}
    assert served.traffic() == {THIRD: 10, SECOND: 90}
    assert set(await served.change("patch", share(50))) == {new, bad}
    assert set(await served.change("patch", share(0))) == {new, bad}
    assert served.traffic() == {THIRD: 0, SECOND: 100}
    assert set(await served.ask_often(100)) == {new}
