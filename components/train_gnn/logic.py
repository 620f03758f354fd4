"""Trains both stages together, day by day, on what each event could have seen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from components.errors import TooFewLabels
from components.train_gnn.entity_graph import DAY_US, NODE_FEATURES, EntityLog, Ints
from components.train_gnn.replay import Layout, one_thread, scored_rows
from components.train_gnn.settings import GnnSettings
from feature_repo.settings import EMBEDDING_DIM
from inference_services.gnn_predictor.entity_layers import EntityGraph
from inference_services.gnn_predictor.network import FraudGnn, GnnConfig

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainedGnn:
    """A trained network and how it got there.

    Attributes:
        network: the weights of the best validation pass, in evaluation mode.
        validation: average precision on the validation days after each pass.
        best_epoch: the pass whose weights were kept, from 0.
        positives: fraud events trained on.
        negatives: honest events that the samples were drawn from.
    """

    network: FraudGnn
    validation: tuple[float, ...]
    best_epoch: int
    positives: int
    negatives: int


@dataclass(frozen=True)
class _Day:
    """The events of a day, and the graph of the day before that they see."""

    nodes: Ints
    graph: EntityGraph
    positives: Ints
    negatives: Ints

    @property
    def rows(self) -> Ints:
        return np.concatenate([self.positives, self.negatives])

    @property
    def y(self) -> NDArray[np.float32]:
        return np.repeat(np.array([1, 0], np.float32), [len(self.positives), len(self.negatives)])

    def layout(self, log: EntityLog) -> Layout:
        return Layout.of(log, self.rows, self.nodes)


@one_thread()
def train(log: EntityLog, labels: pd.DataFrame, settings: GnnSettings, progress: Progress | None = None) -> TrainedGnn:
    """Trains a network.

    Args:
        log: the event log; whole, for the graph and the histories.
        labels: event_id, y (0 or 1) and split ("train" or "valid"): the events to learn from and to stop by.
        settings: choices of the training.
        progress: called with (passes done, passes at most).

    Raises:
        TooFewLabels: a split has no fraud or no honest events.
    """
    days = {split: _days(log, labels[labels["split"] == split], split, settings) for split in ("train", "valid")}
    config = GnnConfig(
        node_features=NODE_FEATURES,
        embedding_dim=EMBEDDING_DIM,
        hidden=settings.hidden,
        window_days=settings.window_days,
        logit_offset=float(np.log(settings.negatives_share)),
    )
    rng = np.random.default_rng(settings.seed)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = FraudGnn(config)
        _fit_scales(network, log, days["train"])
        validation, best = _fit(network, log, days, settings, rng=rng, progress=progress)
    network.load_state_dict(best)
    counts = [sum(len(getattr(d, side)) for d in days["train"]) for side in ("positives", "negatives")]
    return TrainedGnn(network.eval(), tuple(validation), int(np.argmax(validation)), *counts)


def _days(log: EntityLog, labels: pd.DataFrame, split: str, settings: GnnSettings) -> list[_Day]:
    y = pd.Series(log.event_id).map(labels.set_index("event_id")["y"]).to_numpy(float, na_value=np.nan)
    if not (y == 1).any() or not (y == 0).any():
        raise TooFewLabels(f"split {split!r} needs fraud and honest events: wait for labels or widen the dataset")
    days = np.unique(log.arrival_day[~np.isnan(y)])[-settings.most_days :]
    result = []
    for day, rows in scored_rows(log, days.tolist()).items():
        snapshot = log.snapshot(day * DAY_US, settings.window_days)
        result.append(_Day(snapshot.nodes, snapshot.graph(), rows[y[rows] == 1], rows[y[rows] == 0]))
    return result


def _fit_scales(network: FraudGnn, log: EntityLog, days: list[_Day]) -> None:
    network.node_scale.fit(torch.cat([d.graph.x for d in days]))
    network.edge_scale.fit(torch.cat([d.graph.edge_means for d in days]))
    network.event_scale.fit(torch.from_numpy(log.features[np.concatenate([d.rows for d in days])]))


def _fit(
    network: FraudGnn,
    log: EntityLog,
    days: dict[str, list[_Day]],
    settings: GnnSettings,
    *,
    rng: np.random.Generator,
    progress: Progress | None,
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Runs the passes; returns the validation score after each and the best pass's weights."""
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * len(days["train"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=steps)
    scores: list[float] = []
    best = copy.deepcopy(network.state_dict())
    later = [(day, day.layout(log)) for day in days["valid"]]
    for epoch in range(settings.epochs):
        network.train()
        for day in rng.permutation(len(days["train"])):
            sample = _sample(days["train"][day], settings.negatives_share, rng)
            _step(network, log, sample, rng.random(len(sample.rows)) < settings.masked_share, optimiser)
            schedule.step()
        scores.append(_average_precision(network, later))
        if scores[-1] == max(scores):
            best = copy.deepcopy(network.state_dict())
        if progress:
            progress(epoch + 1, settings.epochs)
        if epoch - int(np.argmax(scores)) >= settings.patience:
            break
    return scores, best


def _sample(day: _Day, share: float, rng: np.random.Generator) -> _Day:
    """All fraud of the day and a share of its honest events, which `logit_offset` undoes."""
    return replace(day, negatives=day.negatives[rng.random(len(day.negatives)) < share])


def _step(
    network: FraudGnn, log: EntityLog, day: _Day, again: NDArray[np.bool_], optimiser: torch.optim.Optimizer
) -> None:
    """One step on a day's events; those of `again` ([n]) are learnt a second time without their graph."""
    if len(day.rows) == 0:
        return
    place = np.concatenate([np.arange(len(again)), np.flatnonzero(again)])
    layout = Layout.of(log, day.rows[place], day.nodes, np.arange(len(place)) >= len(again))
    scores = network(layout.embedded(network.encode(day.graph)))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        scores - network.config.logit_offset, torch.from_numpy(day.y[place])
    )
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()


@torch.no_grad()
def _average_precision(network: FraudGnn, days: list[tuple[_Day, Layout]]) -> float:
    network.eval()
    scores = [network(layout.embedded(network.encode(day.graph))).double().numpy() for day, layout in days]
    return float(average_precision_score(np.concatenate([day.y for day, _ in days]), np.concatenate(scores)))
