"""The event subgraph that the graph model reads, as the V2 tensors of its predictor.

An event has up to four endpoints (its rider, driver, device and payment instrument); each endpoint has up to K recent
interactions, whose counterparts are the neighbours. Embeddings are looked up apart, because each graph model version
has its own, and one request carries those of every version that may answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.graph_features import K_NEIGHBOURS, co_occurrence, edge_features, head_features, parsed_ids
from feature_repo.pseudonyms import ENTITY_KINDS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Embeddings = tuple[Floats, Floats]


def entity_keys(ids: NDArray[np.uint64], key_ids: NDArray[np.uint8], kinds: NDArray[Any]) -> NDArray[np.uint64]:
    """64 bits for each entity: its hash, moved by kind and key id; as uniform as the hash. Shapes broadcast."""
    salt = (kinds.astype(np.uint64) << np.uint64(8)) + key_ids
    keys: NDArray[np.uint64] = ids ^ (salt * np.uint64(0x9E3779B97F4A7C15))
    return keys


@dataclass(frozen=True)
class Subgraph:
    """n events with E endpoints and M neighbours, without embeddings.

    Attributes:
        kinds: position in ENTITY_KINDS of each entity, uint8 [E + M], the endpoints first.
        ids: 64-bit hash of each entity, uint64 [E + M].
        key_ids: pseudonym key id of each entity, uint8 [E + M].
        endpoint_event: row of the event of each endpoint, int64 [E].
        edge_index: neighbour row and endpoint row of each interaction, int64 [2, M].
        edge_features: float32 [M, fe].
        event_features: float32 [n, fev], `HEAD_FEATURES`.
    """

    kinds: NDArray[np.uint8]
    ids: NDArray[np.uint64]
    key_ids: NDArray[np.uint8]
    endpoint_event: Ints
    edge_index: Ints
    edge_features: Floats
    event_features: Floats

    @classmethod
    def build(
        cls, batch: EventBatch, features: Mapping[str, NDArray[Any]], interactions: NDArray[np.void], counts: Ints
    ) -> Subgraph:
        """Lays out the subgraph of n events.

        Args:
            batch: the events, with pseudonyms.
            features: `CONTEXT_FEATURES` by name, [n] each.
            interactions: INTERACTION array [n, 4, K], most recent first.
            counts: how many of the K exist, [n, 4].
        """
        exists = np.column_stack([batch.present[f"{kind}_id"] for kind in ENTITY_KINDS])
        event, kind = np.nonzero(exists)
        seen = np.arange(K_NEIGHBOURS) < (counts * exists)[:, :, None]
        parsed = parsed_ids(batch)
        own = entity_keys(parsed["id"], parsed["key_id"], np.arange(len(ENTITY_KINDS)))
        met = entity_keys(interactions["id"], interactions["key_id"], interactions["kind"])
        # In the order of the endpoints, and of each one's interactions.
        of_event, of_kind, _ = np.nonzero(seen)
        endpoint = np.zeros(exists.shape, np.int64)
        endpoint[event, kind] = np.arange(len(event))
        target = endpoint[of_event, of_kind]
        neighbours = interactions[seen]
        return cls(
            kinds=np.concatenate([kind.astype(np.uint8), neighbours["kind"]]),
            ids=np.concatenate([parsed["id"][exists], neighbours["id"]]),
            key_ids=np.concatenate([parsed["key_id"][exists], neighbours["key_id"]]),
            endpoint_event=event.astype(np.int64),
            edge_index=np.stack([np.arange(len(target)), target]).astype(np.int64),
            edge_features=edge_features(
                neighbours, batch["event_timestamp"][of_event], co_occurrence(met, seen, own, exists)[seen]
            ),
            event_features=head_features(batch, features),
        )

    def unread(self, dim: int) -> Embeddings:
        """The embeddings [E + M, dim] and known flags of a store that cannot give them: NaN and 0."""
        m = len(self.kinds)
        return np.full((m, dim), np.nan, np.float32), np.zeros(m, np.float32)

    def tensors(self, embeddings: Mapping[str, Embeddings]) -> dict[str, NDArray[Any]]:
        """Returns the predictor's input tensors.

        Args:
            embeddings: by graph model version, embeddings float32 [E + M, d] and known float32 [E + M].
        """
        e = len(self.endpoint_event)
        kinds = self.kinds.astype(np.int64)
        result: dict[str, NDArray[Any]] = {
            "endpoint_kind": kinds[:e],
            "endpoint_event": self.endpoint_event,
            "neighbour_kind": kinds[e:],
            "edge_index": self.edge_index,
            "edge_features": self.edge_features,
            "event_features": self.event_features,
        }
        for version, (vectors, known) in embeddings.items():
            result[f"endpoint_embedding_{version}"], result[f"endpoint_known_{version}"] = vectors[:e], known[:e]
            result[f"neighbour_embedding_{version}"], result[f"neighbour_known_{version}"] = vectors[e:], known[e:]
        return result
