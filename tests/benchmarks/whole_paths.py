"""Both whole paths, from an event to its decision, over one Redis: ours, and KServe's and Feast's own parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.online_reader import OnlineReader
from feature_repo.settings import FEAST_PROJECT
from inference_services.bundle import Bundle
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.model_names import GNN
from inference_services.transformer.decider import model_features
from pipelines.v2_events import outputs, request_body
from simulators.local_services import RedisServer
from tests.benchmarks.online_store import TOWN, Place, simulated
from tests.benchmarks.served import Server, kserve_server
from tests.contract.conftest import write_lightgbm_bundle
from tests.contract.fusion_bundle import NAME, write_fusion
from tests.load_generator import Work
from tests.parity.network import untrained_bundle

BUDGET_MS = 50.0
# As large as the champions are that the pipeline trains.
TREES, LEAVES = 200, 31
EVENTS = 256
# A machine that others use may make us miss a deadline.
_TRIES, _PAUSE_S = 40, 0.3
PATH = f"/v2/models/{NAME}/infer"


@dataclass(frozen=True)
class Paths:
    """Servers that answer, and events to ask about.

    Attributes:
        ours: the transformer, the LightGBM predictor and the graph network's.
        plain: the same transformer before our LightGBM predictor without the single-row interface.
        stock: the peer's transformer and LightGBM predictor; it asks our graph network's predictor too.
        events: scored events of the simulated town.
    """

    ours: Sequence[Server]
    plain: Sequence[Server]
    stock: Sequence[Server]
    events: EventBatch

    def work(self, server: Server, connections: int, seconds: float, rate: float = 0.0, seed: int = 0) -> Work:
        """Single events for the transformer of one side."""
        bodies = [body(self.events.take(np.array([row]))) for row in range(len(self.events))]
        return Work(server.port, PATH, bodies, '"decision"', connections, seconds, rate, seed)


def body(events: EventBatch) -> str:
    """The request that scores some events."""
    return orjson.dumps(request_body(events, "benchmark")).decode()


def start(stack: ExitStack, scratch: Path) -> Paths:
    """Simulates a town, trains a model on its events, starts all servers, and compares what both sides answer."""
    store = stack.enter_context(RedisServer(scratch / "redis"))
    graph = untrained_bundle(scratch / "gnn")
    town = simulated(TOWN, scratch, store.url, graph.sha12)
    trees, fusion = _trained(scratch, town, graph)
    model = f"--model_dir={trees.folder}"
    predictor = kserve_server(stack, "inference_services.lightgbm_predictor", NAME, scratch / "trees.log", model)
    gnn = kserve_server(
        stack, "inference_services.gnn_predictor", GNN, scratch / "gnn.log", f"--model_dir={graph.folder}"
    )
    environment = {
        "FRAUD_TRANSFORMER_REDIS_URL": store.url,
        "FRAUD_TRANSFORMER_FUSION_URI": fusion.folder.as_uri(),
        "FRAUD_TRANSFORMER_GNN_URL": f"http://127.0.0.1:{gnn.port}",
        "FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": str(BUDGET_MS),
    }
    ours = _transformer(stack, scratch, "ours", predictor, environment)
    booster = kserve_server(stack, "tests.benchmarks.booster_rows", NAME, scratch / "booster.log", model)
    plain = _transformer(stack, scratch, "plain", booster, environment)
    stock_predictor = kserve_server(stack, "tests.contract.stock_lightgbm", NAME, scratch / "stock_trees.log", model)
    flags = [
        model,
        f"--predictor_host=127.0.0.1:{stock_predictor.port}",
        "--predictor_protocol=v2",
        f"--gnn_url=http://127.0.0.1:{gnn.port}",
        f"--fusion={fusion.folder}",
        f"--redis_url={store.url}",
        f"--registry={town.settings.registry}",
        f"--offline={town.settings.offline}",
    ]
    stock = kserve_server(stack, "tests.benchmarks.stock_transformer", NAME, scratch / "stock.log", *flags)
    events = town.events.take(np.arange(min(EVENTS, len(town.events))))
    paths = Paths([ours, predictor, gnn], [plain, booster], [stock, stock_predictor], events)
    compare(paths)
    return paths


def _transformer(
    stack: ExitStack, scratch: Path, name: str, predictor: Server, environment: Mapping[str, str]
) -> Server:
    host = f"--predictor_host=127.0.0.1:{predictor.port}"
    log, own = scratch / f"{name}.log", {"FRAUD_TRANSFORMER_SPOOL_DIR": str(scratch / f"spool_{name}")}
    module = "inference_services.transformer"
    return kserve_server(stack, module, NAME, log, host, environment={**environment, **own})


def _trained(scratch: Path, town: Place, graph: Bundle) -> tuple[Bundle, Bundle]:
    """Trees on the town's own events, and a fusion that flags one in fifty of them, by the trees alone."""
    rows = asyncio.run(_features(town))
    cities = sorted(set(rows["city"].tolist()))
    # Without noise the trees would give all positives the same score.
    noise = float(np.nanstd(rows["amount"]))
    trees = write_lightgbm_bundle(
        scratch / "lightgbm", rows=rows, cities=cities, noise=noise, trees=TREES, leaves=LEAVES
    )
    scorer = LightGbmScorer.load(trees.folder)
    scores = np.sort(scorer.score(scorer.encode(rows, len(town.events))).probability)
    # Between two scores, so that rounding moves no event over it.
    review, block = (float(scores[at - 1 : at + 1].mean()) for at in (-len(scores) // 50, -len(scores) // 200))
    fusion = write_fusion(
        scratch / "fusion", trees.sha12, gnn=graph.sha12, weights=(1.0, 0.0, 0.0), limits=(review, block)
    )
    return trees, fusion


async def _features(town: Place) -> dict[str, NDArray[Any]]:
    reader = OnlineReader(town.settings.redis_url, FEAST_PROJECT, timeout_s=30)
    read = await reader.read(town.events)
    await reader.close()
    return model_features(town.events, read)


def compare(paths: Paths) -> None:
    """All say the same of every event, and ours lacks no part."""
    for row in range(len(paths.events)):
        content = body(paths.events.take(np.array([row])))
        ours, plain = (_whole(side[0], content) for side in (paths.ours, paths.plain))
        stock = _post(paths.stock[0], content)
        assert ours["decision"] == plain["decision"] == stock["decision"], (ours, plain, stock)
        for name in ("fraud_probability", "lightgbm_probability", "gnn_probability"):
            assert ours[name] == plain[name]
            np.testing.assert_allclose(ours[name], stock[name], rtol=1e-9, err_msg=name)


def _whole(server: Server, content: str) -> dict[str, list[object]]:
    """The answer, once nothing is missing."""
    for _ in range(_TRIES):
        answer = _post(server, content)
        if answer["degraded"] == [""]:
            return answer
        time.sleep(_PAUSE_S)
    raise RuntimeError(f"a part stays away: {answer['degraded']}")


def _post(server: Server, content: str) -> dict[str, list[object]]:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"http://127.0.0.1:{server.port}{PATH}", content=content, headers=headers, timeout=30)
    answer.raise_for_status()
    return outputs(answer.json())
