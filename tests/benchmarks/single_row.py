"""One row through the trees: LightGBM's single-row interface against `Booster.predict`, alone and in the whole path.

The trees are trained on a simulated company as the pipeline trains them. Alone, each call scores another row. The whole
path is one payment, one request at a time, through the transformer (store read, features, fusion, decision stream) and
a LightGBM predictor, all processes over HTTP; no graph model answers, which makes the path shorter and the share that
scoring takes in it larger. The paths differ in the predictor alone and take turns with every request, in a new order
each time. A second usual path is the control: what it differs by from the first is what processes and a busy machine
do. The short way is held to move the p50 only where it does so in every round and by more than the control; what one
call saves is told beside it.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np
import orjson
import pandas as pd
from rich.console import Console

from components.build_training_set.logic import SplitSettings, build
from components.train_lightgbm.bundle import write_bundle
from components.train_lightgbm.logic import train
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.datasets import snapshot
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import log_days
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from inference_services.bundle import Bundle
from inference_services.lightgbm_predictor.scorer import LightGbmScorer, Matrix
from inference_services.policy_settings import ThresholdSettings
from pipelines.local_stack import MANIFESTS
from pipelines.report import Row
from pipelines.v2_events import request_body
from simulators.local_services import LocalProcess, RedisServer, free_port
from simulators.ride_hailing import WorldSettings, simulate
from tests.benchmarks.fast_rows import FastRows
from tests.benchmarks.rounds import ROUNDS, Comparison, compare
from tests.contract.fusion_bundle import NAME, PAYMENT, write_fusion

DAYS, EVENTS_PER_DAY = 100, 1000
ROWS = 10_000
REQUESTS = 200
# What keeps the short way out of the serving code, and what it would have to reach to be let in.
_LEAST_MOVED = 0.03
_LEAST_RATIO = 2.5
_USUAL, _FAST = "inference_services.lightgbm_predictor", "tests.benchmarks.fast_server"

Post = Callable[[], float]


def run(days: int = DAYS, requests: int = REQUESTS) -> list[Row]:
    """Compares the scores, then times both ways."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        status = stack.enter_context(Console(stderr=True).status("training the trees"))
        bundle, frame = _trained(scratch, days)
        scorer = LightGbmScorer.load(bundle.folder)
        rows = _rows(scorer, frame)
        status.update(f"scoring {len(rows):,} rows")
        alone = _alone(scorer, rows)
        status.update("the whole path")
        posts = [_path(stack, module, bundle, scratch / str(i)) for i, module in enumerate((_USUAL, _FAST, _USUAL))]
        without, moves, control = _moves(posts, requests)
    moved = statistics.median(moves)
    kept = moved >= _LEAST_MOVED and min(moves) > 0 and moved > abs(statistics.median(control))
    name = f"one row through {scorer.booster.num_trees()} trees"
    verdict = f"{'to be' if kept else 'not'} kept: moves the whole path by {moved:.1%}"
    return [
        Row(f"{name}, LightGBM's single-row interface", alone.ours_s * 1e6, "us"),
        Row(f"{name}, Booster.predict(num_threads=1)", alone.peer_s * 1e6, "us"),
        Row(f"{name}, bit-identical of {len(rows):,}", len(rows)),
        Row(
            f"{name}, single-row interface against Booster.predict",
            alone.ratio,
            "times",
            "at least 2.5 if kept",
            alone.ratio >= _LEAST_RATIO if kept else None,
        ),
        Row("whole path without a graph model, p50", without * 1000, "ms"),
        Row("what one call of the single-row interface saves of it", (alone.peer_s - alone.ours_s) / without, "share"),
        Row("whole path, shorter with the single-row interface by", _spread(moves)),
        Row("whole path, shorter in a second usual one by", _spread(control)),
        # Serving does without: this row fails on the day that it should not.
        Row("single-row interface in serving", verdict, "", "kept from 3 %", not kept),
    ]


def _trained(scratch: Path, days: int) -> tuple[Bundle, pd.DataFrame]:
    """A bundle with the pipeline's settings, and the rows that it was trained on."""
    simulate(WorldSettings(days=days, events_per_day=EVENTS_PER_DAY), scratch / "world")
    ingest_files(scratch / "world" / "events", scratch / "log", Pseudonymiser(b"a benchmark's key"))
    cutoff = log_days(scratch / "log")[-1] + timedelta(days=1)
    dataset = snapshot(scratch / "log", scratch / "world" / "labels", scratch / "datasets", cutoff)
    policy = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
    frame = build(dataset, scratch / "features", policy.label_maturation_days, SplitSettings())
    settings = LightGbmSettings()
    return write_bundle(scratch / "lightgbm", train(frame, settings), frame, settings, dataset.sha256), frame


def _rows(scorer: LightGbmScorer, frame: pd.DataFrame) -> Matrix:
    """Rows as served, a tenth of their values missing and their categories any code, known or not."""
    rng = np.random.default_rng(0)
    sample = frame.sample(ROWS, replace=True, random_state=0)
    X = scorer.encode({name: sample[name].to_numpy() for name in scorer.features}, ROWS)
    for name, levels in scorer.categorical.items():
        X[:, scorer.features.index(name)] = rng.integers(-1, len(levels) + 2, ROWS)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


def _alone(scorer: LightGbmScorer, rows: Matrix) -> Comparison:
    fast, booster = FastRows(scorer.booster), scorer.booster
    whole = booster.predict(rows, raw_score=True)
    np.testing.assert_array_equal([fast(row) for row in rows], whole)
    for i in range(0, len(rows), 10):
        assert booster.predict(rows[i : i + 1], raw_score=True, num_threads=1)[0] == whole[i]
    ours, peer = itertools.cycle(rows), itertools.cycle(rows[:, None])
    found = compare(
        lambda: fast(next(ours)), lambda: booster.predict(next(peer), raw_score=True, num_threads=1), len(rows) // 5
    )
    fast.close()
    return found


def _path(stack: ExitStack, module: str, bundle: Bundle, scratch: Path) -> Post:
    """Starts a Redis, a predictor and a transformer; returns what posts a payment and tells the seconds."""
    folder = scratch / module
    folder.mkdir(parents=True)
    store = stack.enter_context(RedisServer(folder / "redis"))
    predictor = _served(stack, module, folder, f"--model_dir={bundle.folder}")
    write_fusion(folder / "fusion", bundle.sha12)
    environment = {
        "FRAUD_TRANSFORMER_REDIS_URL": store.url,
        "FRAUD_TRANSFORMER_FUSION_URI": (folder / "fusion").as_uri(),
        "FRAUD_TRANSFORMER_GNN_URL": "http://127.0.0.1:9",
        "FRAUD_TRANSFORMER_SPOOL_DIR": str(folder / "spool"),
        "FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": "5000",
    }
    host = f"--predictor_host={predictor.base_url.host}:{predictor.base_url.port}"
    client = _served(stack, "inference_services.transformer", folder, host, environment=environment)
    body = orjson.dumps(request_body(EventBatch.from_rows([PAYMENT]), "benchmark"))

    def post() -> float:
        started = time.perf_counter()
        answer = client.post(f"/v2/models/{NAME}/infer", content=body, headers={"content-type": "application/json"})
        taken = time.perf_counter() - started
        answer.raise_for_status()
        outputs = {o["name"]: o["data"][0] for o in orjson.loads(answer.content)["outputs"]}
        assert (outputs["degraded"], outputs["decision"]) == ("gnn", "allow"), outputs
        return taken

    return post


def _served(
    stack: ExitStack, module: str, folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> httpx.Client:
    http, grpc = free_port(), free_port()
    ports = [f"--http_port={http}", f"--grpc_port={grpc}"]
    command = [sys.executable, "-W", "ignore", "-m", module, f"--model_name={NAME}", *arguments, *ports]
    variables = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", **(environment or {})}
    process = stack.enter_context(LocalProcess(command, folder / f"{module}.log", variables))
    client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=10))

    def ready() -> bool:
        try:
            return client.get(f"/v2/models/{NAME}/ready").status_code == 200
        except httpx.TransportError:
            return False

    process.wait_until(ready, module, 120)
    return client


def _moves(posts: Sequence[Post], requests: int) -> tuple[float, list[float], list[float]]:
    """The median request of the first path, seconds, and by what share the others' are shorter, by round."""
    rounds = [_round(posts, requests) for _ in range(ROUNDS + 1)][1:]
    shorter = ([1 - medians[side] / medians[0] for medians in rounds] for side in (1, 2))
    return statistics.median(medians[0] for medians in rounds), *shorter


def _round(posts: Sequence[Post], requests: int) -> list[float]:
    """The median request of each path."""
    orders = itertools.cycle(itertools.permutations(range(len(posts))))
    taken: list[list[float]] = [[] for _ in posts]
    for order in itertools.islice(orders, requests):
        for side in order:
            taken[side].append(posts[side]())
    return [statistics.median(of_side) for of_side in taken]


def _spread(shares: Sequence[float]) -> str:
    return f"{statistics.median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%} in {len(shares)} rounds)"
