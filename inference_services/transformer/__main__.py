"""`python -m inference_services.transformer --model_name=fraud-detector --predictor_host=host:port`."""

from __future__ import annotations

import argparse

import httpx

from feature_repo.online_reader import OnlineReader
from inference_services.errors import BadSettings
from inference_services.model_names import GNN
from inference_services.server import revision, serve
from inference_services.transformer.decider import STORE_SHARE, Decider
from inference_services.transformer.decisions import DecisionLog
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.model import FraudTransformer
from inference_services.transformer.predictors import V2Client
from inference_services.transformer.rules.reloading import RuleBook
from inference_services.transformer.settings import TransformerSettings

# Callers queue for a connection beyond this many to one predictor.
_CONNECTIONS = 256


def build(args: argparse.Namespace) -> FraudTransformer:
    """Wires the transformer from the flags and the environment."""
    settings = TransformerSettings.read()
    if not args.predictor_host:
        raise BadSettings("--predictor_host is missing; KServe gives it, on a laptop write --predictor_host=host:port")
    fusion = Fusion.load(settings.fusion_folder)
    budget_s = settings.latency_budget_ms / 1000
    rules = RuleBook(settings.rules_file) if settings.rules_file else None
    limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    # Every call has a deadline of its own, so the client needs no timeout.
    http = httpx.AsyncClient(limits=limits, timeout=None)  # noqa: S113
    scheme = "https" if args.predictor_use_ssl else "http"
    store = OnlineReader(settings.redis_url, settings.feast_project, budget_s * STORE_SHARE, settings.redis_type)
    decider = Decider(
        store,
        V2Client(f"{scheme}://{args.predictor_host}", args.model_name, http),
        V2Client(settings.gnn_url, GNN, http),
        fusion,
        budget_s=budget_s,
        revision=revision(),
        rules=rules,
    )
    if rules is not None:
        rules.watch(settings.rules_poll_s)
    decisions = DecisionLog(
        settings.redis_url, settings.spool_dir, settings.spool_max_bytes, revision(), settings.redis_type
    )

    async def close() -> None:
        await store.close()
        if rules is not None:
            rules.close()
        await http.aclose()

    return FraudTransformer(
        args.model_name, decider, decisions, version=fusion.bundle.label, revision=revision(), close=close
    )


if __name__ == "__main__":
    serve("Decides ride-hailing events over the V2 protocol.", build, model_dir=False)
