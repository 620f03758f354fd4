"""The ways to read the champion's features through Feast, all of which give what our reader gives.

As it comes, the online service returns the windows through its on-demand view. `client: glide` reads Redis outside of
the GIL. Precomputed vectors (`FeatureService(precompute_online=True)`) do not apply to that service: Feast refuses them
beside an on-demand view, whose values only a request can have, and over several entities it fills in those of the first
alone. So they are tried as one service an entity, with the tiles merged outside of Feast by our own function; they are
as old as their last computation, which a streaming worker would have to repeat for each of its writes. The same merge
outside, over the plain service, completes the list: Feast takes longer to hand the values to an on-demand view and back
than the view itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from feast import FeatureService, FeatureStore
from feast.infra.online_stores.redis import RedisClient

from feature_repo.definitions import definitions
from feature_repo.event_batch import EventBatch
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym
from feature_repo.services import ONLINE_SERVICE
from feature_repo.settings import EMBEDDING_DIM, FeatureSettings
from feature_repo.tile_table import KindTiles
from feature_repo.tiles import ACTIVITY_FEATURES, ACTIVITY_KINDS
from feature_repo.views import embedding_views, profile_views, streamed_views
from feature_repo.window_merge import window_features
from inference_services.subgraph import Subgraph
from tests.feast_answers import Answer, feast_embeddings, feast_features, online_rows

_BLOBS = "blobs"
_JOIN_KEYS = {**{kind: activity.id_fields for kind, activity in ACTIVITY_KINDS.items()}, "city": ("city",)}


@dataclass(frozen=True)
class Request:
    """What one call asks.

    Attributes:
        batch: the events.
        graph: their subgraph: whose embeddings the second hop reads.
        rows: the entity rows of the first hop.
        graph_rows: those of the second, filled up to equal lengths with repetitions, which Feast reads once.
    """

    batch: EventBatch
    graph: Subgraph
    rows: Mapping[str, list[Any]]
    graph_rows: Mapping[str, list[str]]

    @classmethod
    def of(cls, batch: EventBatch, graph: Subgraph) -> Request:
        """Prepares a request, so that none of this is timed."""
        columns: dict[str, list[str]] = {f"{kind}_id": [] for kind in ENTITY_KINDS}
        for code, key_id, hash64 in zip(graph.kinds, graph.key_ids, graph.ids, strict=True):
            kind = ENTITY_KINDS[code]
            columns[f"{kind}_id"].append(format_pseudonym(kind, int(key_id), int(hash64)))
        longest = max(map(len, columns.values()))
        filled = {name: ids + ids[:1] * (longest - len(ids)) for name, ids in columns.items()}
        return cls(batch, graph, online_rows(batch), filled)


Read = Callable[[Request], tuple[Answer, Answer]]


def feast_ways(settings: FeatureSettings, version: str, scratch: Path) -> Iterator[tuple[str, Read]]:
    """Names and functions that return features and embeddings; the first is Feast as it comes."""
    plain = [*streamed_views(settings.offline), *profile_views(settings.offline)]
    vectors = [
        FeatureService(
            name=f"vector_{kind}", features=[v for v in plain if v.name.startswith(f"{kind}_")], precompute_online=True
        )
        for kind in _JOIN_KEYS
    ] + [
        FeatureService(name=f"vector_{view.name}", features=[view], precompute_online=True)
        for view in embedding_views(settings.offline, version, EMBEDDING_DIM)
    ]
    more = settings.model_copy(update={"registry": scratch / "more_services.db"})
    services = [FeatureService(name=_BLOBS, features=plain), *vectors]
    FeatureStore(config=more.repo_config()).apply([*definitions(settings.offline), *services])
    for client in RedisClient:
        yield f"client: {client.value}", _on_demand(_store(settings, client), version)
    for client in RedisClient:
        yield f"client: {client.value}, tiles merged outside", _merged_outside(_store(more, client), version)
    for service in vectors:
        FeatureStore(config=more.repo_config()).precompute_feature_service(service.name)
    for client in RedisClient:
        name = f"client: {client.value}, precomputed vectors, tiles merged outside"
        yield name, _precomputed(_store(more, client), version)


def _store(settings: FeatureSettings, client: RedisClient) -> FeatureStore:
    config = settings.repo_config()
    config.online_store.client = client
    return FeatureStore(config=config)


def _on_demand(store: FeatureStore, version: str) -> Read:
    service = store.get_feature_service(ONLINE_SERVICE)
    return lambda request: (
        feast_features(store, service, request.rows),
        feast_embeddings(store, version, request.graph_rows),
    )


def _merged_outside(store: FeatureStore, version: str) -> Read:
    service = store.get_feature_service(_BLOBS)

    def read(request: Request) -> tuple[Answer, Answer]:
        ids = {name: values for name, values in request.rows.items() if name != "as_of_us"}
        features = feast_features(store, service, ids)
        return _with_windows(features, request), feast_embeddings(store, version, request.graph_rows)

    return read


def _precomputed(store: FeatureStore, version: str) -> Read:
    by_entity = {kind: store.get_feature_service(f"vector_{kind}") for kind in _JOIN_KEYS}
    of_graph = {kind: store.get_feature_service(f"vector_{kind}_embedding_{version}") for kind in ENTITY_KINDS}

    def vectors(service: FeatureService, rows: Mapping[str, list[Any]]) -> dict[str, Any]:
        # On 0.67 the fast path finds its own vectors by full feature names only.
        answer = store.get_online_features(service, rows, full_feature_names=True).to_dict()
        return {name.partition("__")[2] or name: values for name, values in answer.items()}

    def read(request: Request) -> tuple[Answer, Answer]:
        features: dict[str, Any] = {}
        for kind, names in _JOIN_KEYS.items():
            features |= vectors(by_entity[kind], {name: request.rows[name] for name in names})
        embeddings = {
            name: vectors(of_graph[kind], {name: request.graph_rows[name]})["embedding"]
            for kind in ENTITY_KINDS
            if (name := f"{kind}_id")
        }
        return _with_windows(features, request), embeddings

    return read


def _with_windows(features: Answer, request: Request) -> Answer:
    n = len(request.batch)
    tiles = {kind: KindTiles(features[f"{kind}_tiles_blob"], range(n)) for kind in ACTIVITY_KINDS}
    windows = window_features(tiles, request.batch["event_timestamp"], _refuse)
    return {**features, **dict(zip(ACTIVITY_FEATURES, windows, strict=True))}


def _refuse(what: str, problem: object) -> None:
    raise AssertionError(f"{what}: {problem}")


def same_embeddings(request: Request, ours: np.ndarray, theirs: Answer) -> bool:
    """Whether the embeddings [m, d] of the request's subgraph are Feast's."""
    seen = dict.fromkeys(theirs, 0)
    for code, vector in zip(request.graph.kinds, ours, strict=True):
        name = f"{ENTITY_KINDS[code]}_id"
        other = theirs[name][seen[name]]
        seen[name] += 1
        if not np.array_equal(vector, np.zeros(EMBEDDING_DIM) if other is None else np.array(other, np.float32)):
            return False
    return True
