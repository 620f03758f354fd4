"""SIGTERM under load: not ready first, then every request that was sent is answered and its decision delivered."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import redis
from kserve import InferenceGRPCClient, InferInput, InferRequest

from inference_services.bundle import Bundle
from inference_services.transformer.decisions import STREAM
from simulators.local_services import free_port
from tests.contract.conftest import Service, StartService
from tests.contract.fusion_bundle import NAME, PAYMENT, write_fusion
from tests.contract.test_transformer_process import tensors_of
from tests.load import Client, Reply, get, post

CALLERS = 8


class Callers:
    """Callers who, like a load balancer, stop when the service is not ready; each keeps one request under way."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ids = (f"stop-{n}" for n in itertools.count())
        self._client = Client(service.http_port)
        self._ready = True
        self.told_to_close = False
        self.sent: list[str] = []
        self.rest: list[Reply] = []
        self.grpc: list[Any] = []

    async def run(self) -> None:
        grpc_client = InferenceGRPCClient(self._service.grpc, timeout=30)
        await asyncio.gather(
            self._watch(), *(self._call_rest() for _ in range(CALLERS)), *(self._call_grpc(grpc_client) for _ in "ab")
        )
        self._client.close()
        await grpc_client.close()

    async def _watch(self) -> None:
        while self._ready:
            reply = await self._client.send(get("/v2/health/ready"))
            self._ready = reply.status == 200
            self.told_to_close = reply.headers.get("connection") == "close"
            await asyncio.sleep(0.02)

    def _event(self) -> list[dict[str, Any]]:
        self.sent.append(next(self._ids))
        return tensors_of([{**PAYMENT, "event_id": self.sent[-1]}])

    async def _call_rest(self) -> None:
        while self._ready:
            request = post(f"/v2/models/{NAME}/infer", orjson.dumps({"inputs": self._event()}))
            self.rest.append(await self._client.send(request))

    async def _call_grpc(self, client: InferenceGRPCClient) -> None:
        while self._ready:
            inputs = []
            for tensor in self._event():
                item = InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
                dtype = object if tensor["datatype"] == "BYTES" else np.int64
                item.set_data_from_numpy(np.array(tensor["data"], dtype))
                inputs.append(item)
            self.grpc.append(await client.infer(InferRequest(model_name=NAME, infer_inputs=inputs)))


@pytest.fixture
def start_transformer(
    start_service: StartService, predictor: Service, lightgbm_bundle: Bundle, redis_url: str, tmp_path: Path
) -> Callable[[str], Service]:
    """Starts a transformer whose decisions go to the Redis at an address."""
    write_fusion(tmp_path / "fusion", lightgbm_bundle.sha12)

    def start(stream_url: str) -> Service:
        env = {
            "FRAUD_TRANSFORMER_REDIS_URL": redis_url,
            "FRAUD_TRANSFORMER_DECISION_REDIS_URL": stream_url,
            "FRAUD_TRANSFORMER_FUSION_URI": (tmp_path / "fusion").as_uri(),
            "FRAUD_TRANSFORMER_GNN_URL": "http://127.0.0.1:9",
            "FRAUD_TRANSFORMER_SPOOL_DIR": str(tmp_path / "spool"),
            "FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": "5000",
        }
        host = f"--predictor_host=127.0.0.1:{predictor.http_port}"
        return start_service("inference_services.transformer", NAME, host, env=env)

    return start


@pytest.mark.parametrize("stream", ["up", "away"])
async def test_no_request_and_no_decision_is_lost(
    stream: str, start_transformer: Callable[[str], Service], redis_url: str, tmp_path: Path
):
    service = start_transformer(redis_url if stream == "up" else f"redis://127.0.0.1:{free_port()}")
    callers = Callers(service)
    running = asyncio.create_task(callers.run())
    await asyncio.sleep(1)
    service.process.terminate()
    await running
    assert callers.told_to_close
    assert {reply.status for reply in callers.rest} == {200}
    assert len(callers.rest) + len(callers.grpc) == len(callers.sent)
    assert all(answer.get_output_by_name("decision") is not None for answer in callers.grpc)
    assert await asyncio.to_thread(service.process.wait, 20) == 0
    assert (await Client(service.http_port).send(get("/v2/health/live"))).status == 0
    with redis.Redis.from_url(redis_url) as client:
        delivered = [fields[b"decision"] for _, fields in client.xrange(STREAM)]
    spooled = [line for file in (tmp_path / "spool").glob("*.jsonl") for line in file.read_bytes().splitlines()]
    kept = delivered if stream == "up" else spooled
    assert {orjson.loads(record)["event_id"] for record in kept} >= set(callers.sent)
