"""Why the graph model flagged an event: which recent interactions of its entities raised the score, and what they were.

One reason per entity of the event. Its sentence tells the pattern of the entity's recent interactions and the one that
counts most; the figures are leave-one-out (see `gnn_predictor/influence.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym
from inference_services.subgraph import Subgraph
from inference_services.transformer.quantities import count, duration, toman
from inference_services.transformer.reasons import LEAST_CONTRIBUTION
from inference_services.transformer.words import EVENT_NOUNS, NOUNS, article

MAX_GRAPH_REASONS = 2
MAX_NEIGHBOURS = 3
_BURST_S = 3600.0
_SHARED = frozenset({"device", "payment_instrument"})


@dataclass(frozen=True, slots=True)
class Interaction:
    """One recent interaction of an entity of the event.

    Attributes:
        neighbour: pseudonym of the counterpart.
        neighbour_kind: one of ENTITY_KINDS.
        event_type: what happened.
        seconds_before: how long before the event.
        amount: toman, None where there was none.
        influence: how much the graph model's logit falls without it.
    """

    neighbour: str
    neighbour_kind: str
    event_type: str
    seconds_before: float
    amount: int | None
    influence: float


@dataclass(frozen=True, slots=True)
class History:
    """The recent interactions of one entity of the event.

    Attributes:
        kind: one of ENTITY_KINDS.
        entity: its pseudonym.
        influence: how much the logit falls without all of them.
        interactions: most recent first.
    """

    kind: str
    entity: str
    influence: float
    interactions: tuple[Interaction, ...]


@dataclass(frozen=True, slots=True)
class GraphReason:
    """An entity whose recent interactions raised the graph model's score.

    Attributes:
        text: the sentence; it shortens pseudonyms.
        entity: pseudonym of the event's entity whose history it is.
        neighbour: pseudonym of the counterpart that counts most, None where no interaction raises the score alone.
        neighbours: the interactions that raised the score most, the strongest first.
        contribution: how much the graph model's raw score (log-odds) falls without this history.
    """

    text: str
    entity: str
    neighbour: str | None
    neighbours: tuple[Interaction, ...]
    contribution: float
    kind: Literal["graph"] = "graph"


def graph_reasons(histories: Sequence[History]) -> list[GraphReason]:
    """The histories of one event that raised its score, the strongest first; at most MAX_GRAPH_REASONS."""
    own = frozenset(history.entity for history in histories)
    raised = [h for h in histories if h.influence >= LEAST_CONTRIBUTION and h.interactions]
    found = []
    for history in sorted(raised, key=lambda h: -h.influence)[:MAX_GRAPH_REASONS]:
        telling = sorted((i for i in history.interactions if i.influence > 0), key=lambda i: -i.influence)
        strongest = telling[0] if telling else None
        alone = strongest is not None and strongest.influence >= LEAST_CONTRIBUTION
        detail = f"most telling: {_told(telling[0], own)}" if alone else "no single event tells much alone"
        text = f"{_pattern(history, own)}; {detail}"
        neighbour = strongest.neighbour if strongest else None
        found.append(GraphReason(text, history.entity, neighbour, tuple(telling[:MAX_NEIGHBOURS]), history.influence))
    return found


def histories(
    batch: EventBatch,
    graph: Subgraph,
    interactions: NDArray[np.void],
    of_endpoint: NDArray[np.float64],
    of_neighbour: NDArray[np.float64],
) -> list[list[History]]:
    """The histories of each of n events' entities.

    Args:
        batch: the events.
        graph: their subgraph, E endpoints and M neighbours.
        interactions: INTERACTION array [n, 4, K] that the subgraph was made of, most recent first.
        of_endpoint: influence of each endpoint's history, shape [E].
        of_neighbour: influence of each interaction, shape [M].
    """
    found: list[list[History]] = [[] for _ in range(len(batch))]
    target = graph.edge_index[1]
    starts = np.searchsorted(target, np.arange(len(graph.endpoint_event) + 1)).tolist()
    for row, event in enumerate(graph.endpoint_event.tolist()):
        slot = int(graph.kinds[row])
        first, end = starts[row], starts[row + 1]
        as_of = int(batch["event_timestamp"][event])
        past = tuple(
            _interaction(record, as_of, float(of_neighbour[first + back]))
            for back, record in enumerate(interactions[event, slot, : end - first])
        )
        kind = ENTITY_KINDS[slot]
        found[event].append(History(kind, str(batch[f"{kind}_id"][event]), float(of_endpoint[row]), past))
    return found


def _interaction(record: np.void, as_of_us: int, influence: float) -> Interaction:
    kind = ENTITY_KINDS[int(record["kind"])]
    return Interaction(
        neighbour=format_pseudonym(kind, int(record["key_id"]), int(record["id"])),
        neighbour_kind=kind,
        event_type=EVENT_TYPES[int(record["event_type"])],
        seconds_before=max(as_of_us - int(record["ts"]), 0) / 1e6,
        amount=int(record["amount"]) or None,
        influence=influence,
    )


def _pattern(history: History, own: frozenset[str]) -> str:
    """Whom the entity met lately: somebody shared, the same partner again, or several."""
    past = history.interactions
    noun = NOUNS[history.kind]
    others = [i for i in past if i.neighbour not in own]
    same = Counter(i.neighbour for i in past if i.neighbour in own)
    if history.kind in _SHARED and others:
        riders = len({i.neighbour for i in others})
        span = duration(max(i.seconds_before for i in others))
        return f"this {noun} was used by {count(riders, 'other rider', 'other riders')} in the last {span}"
    last = f"last {len(past)} events" if len(past) > 1 else "last event"
    verb = "were" if len(past) > 1 else "was"
    if len(same) == 1 and not others:
        return f"this {noun}'s {last} {verb} with {_who(past[0], own)}{_burst(past)}"
    partner, times = same.most_common(1)[0] if same else ("", 0)
    if times > 1:
        theirs = [i for i in past if i.neighbour == partner]
        return f"{times} of this {noun}'s {last} {verb} with {_who(theirs[0], own)}{_burst(theirs)}"
    return f"this {noun}'s {last} {verb} with {_company(past, own)}{_burst(past)}"


def _company(past: Sequence[Interaction], own: frozenset[str]) -> str:
    """The counterparts by kind, the two that count most by name."""
    of_kind = {kind: len({i.neighbour for i in past if i.neighbour_kind == kind}) for kind in ENTITY_KINDS}
    counted = [count(n, NOUNS[kind], f"{NOUNS[kind]}s") for kind, n in of_kind.items() if n]
    by_influence = sorted(past, key=lambda i: -i.influence)
    named = list(dict.fromkeys(short(i.neighbour) for i in by_influence if i.neighbour not in own))[:2]
    return " and ".join(counted) + (f" ({', '.join(named)})" if named else "")


def _burst(past: Sequence[Interaction]) -> str:
    lately = sum(i.seconds_before <= _BURST_S for i in past)
    if lately < 2:
        return ""
    return f", {lately if lately < len(past) else 'all'} of them within one hour"


def _told(interaction: Interaction, own: frozenset[str]) -> str:
    noun = EVENT_NOUNS[interaction.event_type][0]
    amount = f" of {toman(interaction.amount)}" if interaction.amount else ""
    return (
        f"{article(noun)} {noun}{amount} with {_who(interaction, own)}, {duration(interaction.seconds_before)} earlier"
    )


def _who(interaction: Interaction, own: frozenset[str]) -> str:
    noun = NOUNS[interaction.neighbour_kind]
    return f"this {noun}" if interaction.neighbour in own else f"{noun} {short(interaction.neighbour)}"


def short(pseudonym: str) -> str:
    """A pseudonym as a sentence carries it: its kind, key and first four digits."""
    head, _, digits = pseudonym.partition("-")
    return f"{head}-{digits[:4]}…"
