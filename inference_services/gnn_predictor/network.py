"""The two-stage graph network, shared by the step that trains it and the predictor that serves it.

Stage 1 (`FraudGnn.encode`) runs once a day on the graph of who met whom and what is known of their frauds, and gives
each entity an embedding. Stage 2
(`FraudGnn.forward`) runs at request time on the event, its up to four entities ("endpoints") and their most recent
interactions. No weight belongs to an id, so an entity that appeared after training is embedded like any other, and
one that appeared after the snapshot has the embedding zero and `known` 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from feature_repo.graph_features import EDGE_FEATURES, HEAD_FEATURES, K_NEIGHBOURS
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.settings import EMBEDDING_DIM
from inference_services.errors import BundleError
from inference_services.gnn_predictor.entity_layers import EDGE_MEANS, EntityGraph, RelationalLayer

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.json"
_KINDS = len(ENTITY_KINDS)


class GnnConfig(BaseModel):
    """What shapes the network. The feature names are stored to refuse weights trained on other features.

    Attributes:
        node_features: names of the columns of stage 1's node features.
        edge_features: names of the columns of an interaction's features.
        event_features: names of the columns of an event's features.
        embedding_dim: width d of an embedding.
        hidden: width of the hidden layers.
        window_days: how many days of events the graph of stage 1 spans.
        logit_offset: added to the head's output: the log of the share of negatives that training sampled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    node_features: tuple[str, ...]
    edge_features: tuple[str, ...] = EDGE_FEATURES
    event_features: tuple[str, ...] = HEAD_FEATURES
    embedding_dim: int = EMBEDDING_DIM
    hidden: int = 32
    window_days: int = 30
    logit_offset: float = 0.0


class EventGraph(NamedTuple):
    """n events with E endpoints and M of their past interactions, as stage 2 reads them.

    Attributes:
        endpoint_kind: int64 [E], position in `ENTITY_KINDS`; an event has at most one endpoint of a kind.
        endpoint_event: int64 [E], the event's row.
        endpoint_embedding: float32 [E, d], zeros where unknown.
        endpoint_known: float32 [E], 1 where the snapshot has the entity.
        neighbour_kind: int64 [M].
        neighbour_embedding: float32 [M, d].
        neighbour_known: float32 [M].
        edge_index: int64 [2, M]: neighbour row, endpoint row.
        edge_features: float32 [M, fe], `EDGE_FEATURES`.
        event_features: float32 [n, fev], `HEAD_FEATURES`.
    """

    endpoint_kind: Tensor
    endpoint_event: Tensor
    endpoint_embedding: Tensor
    endpoint_known: Tensor
    neighbour_kind: Tensor
    neighbour_embedding: Tensor
    neighbour_known: Tensor
    edge_index: Tensor
    edge_features: Tensor
    event_features: Tensor


class RecentNeighbours(MessagePassing):
    """One message from each past interaction to the endpoint that had it; mean over the K and maximum, side by side.

    x_i' = ReLU(W [x_i, (1/K) sum_j m_ij, max_j m_ij]),  m_ij = ReLU(W_n x_j + W_e e_ij + W_q x_i)
    """

    def __init__(self, node_dim: int, edge_dim: int, hidden: int) -> None:
        super().__init__(aggr=["sum", "max"])
        self.neighbour = nn.Linear(node_dim, hidden)
        self.edge = nn.Linear(edge_dim, hidden, bias=False)
        self.query = nn.Linear(node_dim, hidden, bias=False)
        self.update_endpoint = nn.Linear(node_dim + 2 * hidden, hidden)

    def forward(self, neighbours: Tensor, endpoints: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Returns the endpoints' states, shape [E, hidden]; one without interactions receives zeros."""
        received = self.propagate(
            edge_index,
            x=(self.neighbour(neighbours), self.query(endpoints)),
            edge_attr=self.edge(edge_attr),
            size=(len(neighbours), len(endpoints)),
        )
        # A constant divisor keeps how many interactions there were, which a mean would lose.
        total, peak = received.chunk(2, dim=-1)
        return torch.relu(self.update_endpoint(torch.cat([endpoints, total / K_NEIGHBOURS, peak], -1)))

    def message(self, x_i: Tensor, x_j: Tensor, edge_attr: Tensor) -> Tensor:
        """The message along each interaction, shape [M, hidden]."""
        return torch.relu(x_i + x_j + edge_attr)


class Standardise(nn.Module):
    """(x - mean) / deviation by column, with the training period's figures stored among the weights."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("deviation", torch.ones(columns))

    def fit(self, x: Tensor) -> None:
        """Takes the figures of x, shape [m, columns]; a constant column is only centred.

        Of fewer than two rows it takes none: they have no deviation, and none at all have no mean either.
        """
        if len(x) < 2:
            return
        self.mean.copy_(x.mean(0))
        deviation = x.std(0)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Returns x standardised, clipped to 6 deviations so that no outlier dominates."""
        return ((x - self.mean) / self.deviation).clamp(-6.0, 6.0)


class FraudGnn(nn.Module):
    """Both stages under one set of weights."""

    def __init__(self, config: GnnConfig) -> None:
        super().__init__()
        self.config = config
        hidden, d = config.hidden, config.embedding_dim
        self.node_scale = Standardise(len(config.node_features))
        self.edge_scale = Standardise(EDGE_MEANS)
        self.first = RelationalLayer(len(config.node_features), hidden)
        self.second = RelationalLayer(hidden, d)
        self.recent = RecentNeighbours(d + 1 + _KINDS, len(config.edge_features), hidden)
        self.event_scale = Standardise(len(config.event_features))
        self.head = nn.Sequential(
            nn.Linear(_KINDS * hidden + len(config.event_features), 2 * hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(2 * hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def encode(self, graph: EntityGraph) -> Tensor:
        """Stage 1: embeds the m entities of a snapshot, float32 [m, d]."""
        edge_means = self.edge_scale(graph.edge_means)
        hidden = torch.relu(self.first(self.node_scale(graph.x), edge_means, graph))
        # Bounded, so that stored embeddings stay in float32's comfortable range whatever the graph.
        return torch.tanh(self.second(hidden, edge_means, graph))

    def forward(self, graph: EventGraph) -> Tensor:
        """Stage 2: the raw score (logit) of each event, shape [n]; no event's score depends on the others'."""
        n = len(graph.event_features)
        endpoints = _entity(graph.endpoint_embedding, graph.endpoint_known, graph.endpoint_kind)
        neighbours = _entity(graph.neighbour_embedding, graph.neighbour_known, graph.neighbour_kind)
        slot = graph.endpoint_event * _KINDS + graph.endpoint_kind
        states = self.recent(neighbours, endpoints, graph.edge_index, graph.edge_features)
        slots = states.new_zeros(n * _KINDS, states.shape[1]).index_copy(0, slot, states)
        inputs = torch.cat([slots.view(n, -1), self.event_scale(graph.event_features)], -1)
        logits: Tensor = self.head(inputs).squeeze(-1) + self.config.logit_offset
        return logits


def _entity(embedding: Tensor, known: Tensor, kind: Tensor) -> Tensor:
    """An entity as stage 2 sees it: embedding (zeros where unknown), known flag, kind; [m, d + 1 + kinds]."""
    one_hot = torch.nn.functional.one_hot(kind, _KINDS).to(embedding.dtype)
    return torch.cat([embedding * known[:, None], known[:, None], one_hot], -1)


def save_network(network: FraudGnn, folder: Path) -> None:
    """Writes `weights.safetensors` and `config.json` into a bundle's folder."""
    # Not `save_file`, whose file its writer alone may read: a predictor runs as another user than a training step.
    (folder / WEIGHTS_FILE).write_bytes(save({k: v.contiguous() for k, v in network.state_dict().items()}))
    (folder / CONFIG_FILE).write_text(network.config.model_dump_json(indent=2) + "\n")


def load_network(folder: Path) -> FraudGnn:
    """Reads the network of a bundle, in evaluation mode.

    Raises:
        BundleError: the configuration or the weights do not fit this code's network and features.
    """
    try:
        config = GnnConfig.model_validate_json((folder / CONFIG_FILE).read_bytes())
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError, ValidationError) as error:
        raise BundleError(f"{folder} has no readable fraud-gnn network: {error}") from error
    if config.edge_features != EDGE_FEATURES or config.event_features != HEAD_FEATURES:
        raise BundleError(f"{folder} was trained on other edge or event features than this code makes: train again")
    network = FraudGnn(config)
    shapes, expected = ({name: tuple(t.shape) for name, t in w.items()} for w in (weights, network.state_dict()))
    if shapes != expected:
        raise BundleError(f"{folder / WEIGHTS_FILE} does not fit the network of {CONFIG_FILE}: train again")
    network.load_state_dict(weights)
    return network.eval()
