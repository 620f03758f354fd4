"""`python -m inference_services.transformer --model_name=fraud-detector --predictor_host=host:port`."""

from __future__ import annotations

import argparse

from feature_repo.online_reader import OnlineReader
from inference_services.errors import BadSettings
from inference_services.model_names import GNN
from inference_services.outgoing import OutgoingHeaders
from inference_services.server import revision, serve
from inference_services.tokens import TokenFile
from inference_services.transformer.decider import STORE_SHARE, Decider
from inference_services.transformer.decisions import DecisionLog
from inference_services.transformer.feature_tensors import FEATURE_PARAMETERS
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.http_pool import HttpPool
from inference_services.transformer.materialised_views import MaterialisedViews
from inference_services.transformer.model import FraudTransformer
from inference_services.transformer.predictors import V2Client
from inference_services.transformer.rules.reloading import RuleBook
from inference_services.transformer.settings import TransformerSettings


def build(args: argparse.Namespace) -> FraudTransformer:
    """Wires the transformer from the flags and the environment."""
    settings = TransformerSettings.read()
    if not args.predictor_host:
        raise BadSettings("--predictor_host is missing; KServe gives it, on a laptop write --predictor_host=host:port")
    fusion = Fusion.load(settings.fusion_folder)
    budget_s = settings.latency_budget_ms / 1000
    rules = RuleBook.watching(settings.rules_file, settings.rules_poll_s) if settings.rules_file else None
    headers = OutgoingHeaders(TokenFile(settings.predictor_token_file) if settings.predictor_token_file else None)
    scheme = "https" if args.predictor_use_ssl else "http"
    lightgbm, gnn = HttpPool(f"{scheme}://{args.predictor_host}"), HttpPool(settings.gnn_url)
    store = OnlineReader(settings.redis_url, settings.feast_project, budget_s * STORE_SHARE, settings.redis_type)
    views = MaterialisedViews.watching(settings.redis_url, settings.redis_type)
    decider = Decider(
        store,
        V2Client(lightgbm, args.model_name, headers, FEATURE_PARAMETERS),
        V2Client(gnn, GNN, headers),
        fusion,
        budget_s=budget_s,
        revision=revision(),
        breaker_failures=settings.breaker_failures,
        breaker_retry_s=settings.breaker_retry_s,
        rules=rules,
        materialised=views.newest,
    )
    decisions = DecisionLog(
        settings.decision_redis_url or settings.redis_url,
        settings.spool_dir,
        settings.spool_max_bytes,
        revision(),
        settings.redis_type,
    )

    async def close() -> None:
        await store.close()
        lightgbm.close()
        gnn.close()
        views.close()
        if rules is not None:
            rules.close()

    return FraudTransformer(
        args.model_name, decider, decisions, version=fusion.bundle.label, revision=revision(), close=close
    )


if __name__ == "__main__":
    serve("Decides ride-hailing events over the V2 protocol.", build, model_dir=False)
