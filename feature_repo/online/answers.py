"""What the answers of the online store mean for the events that asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_repo.errors import OnCorrupt
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.feast_columns import bytes_values, decode_values, int64_values
from feature_repo.feature_names import STORE_FEATURES
from feature_repo.graph_features import INTERACTION, K_NEIGHBOURS
from feature_repo.online.connection import Reply
from feature_repo.online.plan import CITY, ReadPlan
from feature_repo.profiles import UNPUBLISHED, profile_measures
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.request_features import CityNorms
from feature_repo.tile_table import KindTiles
from feature_repo.tiles import ACTIVITY_KINDS
from feature_repo.window_merge import window_features

Vector = NDArray[np.float64]
Ints = NDArray[np.int64]
Messages = Sequence[bytes | None]
_MOST_DIGITS = 18  # of what fits 64 bits


@dataclass(frozen=True, slots=True)
class StoreRead:
    """What the online store knows about n events.

    Attributes:
        available: False when the store did not answer; then every feature is NaN and nobody has neighbours.
        features: `STORE_FEATURES` by name, each of shape [n].
        norms: the norms of each event's city.
        interactions: INTERACTION array of shape [n, 4, K], most recent first.
        interaction_counts: how many of the K exist, shape [n, 4].
        sequence: the last event applied to any of each event's entities, shape [n]; 0 where none was.
        problem: why the store is not available.
    """

    available: bool
    features: dict[str, Vector]
    norms: CityNorms
    interactions: NDArray[np.void]
    interaction_counts: Ints
    sequence: Ints
    problem: str = ""

    @classmethod
    def nothing(cls, n: int, problem: str = "it did not answer in time") -> StoreRead:
        """The read of a store that is down."""
        return cls(
            False,
            {name: np.full(n, np.nan) for name in STORE_FEATURES},
            CityNorms.unknown(n),
            np.zeros((n, len(ENTITY_KINDS), K_NEIGHBOURS), INTERACTION),
            np.zeros((n, len(ENTITY_KINDS)), np.int64),
            np.zeros(n, np.int64),
            problem,
        )


def assemble(plan: ReadPlan, batch: EventBatch, replies: Sequence[Reply], on_corrupt: OnCorrupt) -> StoreRead:
    """Turns the replies to the commands of `plan` into features as of each event of its batch."""
    as_of_us = batch["event_timestamp"]
    columns = {kind: plan.columns(kind, replies) for kind in ACTIVITY_KINDS}
    tiles = {kind: KindTiles(bytes_values(columns[kind][1], on_corrupt), plan.rows[kind]) for kind in ACTIVITY_KINDS}
    recent, *profile = (
        [message for kind in ENTITY_KINDS for message in columns[kind][field]]
        for field in range(2, 3 + len(UNPUBLISHED))
    )
    entity = _entities(plan)
    activity = window_features(tiles, as_of_us, on_corrupt)
    profiles = _profiles(profile, entity, as_of_us, on_corrupt)
    interactions, counts = _neighbourhoods(bytes_values(recent, on_corrupt), on_corrupt)
    features = dict(zip(STORE_FEATURES, [*activity, *profiles], strict=True))
    norms = _norms(plan.columns(CITY, replies), plan.rows[CITY], on_corrupt)
    sequence = _sequences({kind: columns[kind][0] for kind in ACTIVITY_KINDS}, plan.rows, on_corrupt)
    return StoreRead(True, features, norms, interactions[entity], counts[entity], sequence)


def _sequences(stored: Mapping[str, Messages], rows: Mapping[str, Sequence[int]], on_corrupt: OnCorrupt) -> Ints:
    """The highest number among each event's entities, shape [n]."""
    of_events = []
    for kind, texts in stored.items():
        sound = [text is None or (text.isdigit() and len(text) <= _MOST_DIGITS) for text in texts]
        for _ in range(sound.count(False)):
            on_corrupt("sequence", "it is no number")
        numbers = [int(text) if ok and text else 0 for text, ok in zip(texts, sound, strict=True)]
        numbers.append(0)  # of the row -1, which is nobody
        of_events.append([numbers[row] for row in rows[kind]])
    sequences: Ints = np.array(of_events, np.int64).max(axis=0)
    return sequences


def _entities(plan: ReadPlan) -> Ints:
    """Which of the entities, all kinds one after the other, each event has, shape [n, 4]; -1 for none."""
    first = plan.spans[ENTITY_KINDS[0]].start
    places = [
        [plan.spans[kind].start - first + row if row >= 0 else -1 for row in plan.rows[kind]] for kind in ENTITY_KINDS
    ]
    return np.array(places, np.int64).T


def _profiles(columns: Sequence[Messages], entity: Ints, as_of_us: Ints, on_corrupt: OnCorrupt) -> NDArray[np.float64]:
    """`PROFILE_FEATURES` as rows, [16, n], from the columns of `UNPUBLISHED`, each of m entities."""
    size = len(columns[0]) + 1  # the last row is nobody
    messages = [message for column in columns for message in (*column, None)]
    absent = [value for value in UNPUBLISHED.values() for _ in range(size)]
    values = int64_values(messages, absent, on_corrupt).reshape(len(columns), size)[:, entity]
    measures = profile_measures(dict(zip(UNPUBLISHED, values, strict=True)), as_of_us[:, None])
    rows: NDArray[np.float64] = np.stack(list(measures.values()), axis=2).reshape(len(as_of_us), -1).T
    return rows


def _norms(columns: Sequence[Messages], rows: Sequence[int], on_corrupt: OnCorrupt) -> CityNorms:
    stored = [[v if isinstance(v, float) else np.nan for v in decode_values(column, on_corrupt)] for column in columns]
    return CityNorms(*np.array(stored, np.float64)[:, rows])


def _neighbourhoods(blobs: Messages, on_corrupt: OnCorrupt) -> tuple[NDArray[np.void], Ints]:
    """The neighbours of m entities, [m + 1, K], and how many each has, [m + 1]; the last entity is nobody."""
    whole = INTERACTION.itemsize * K_NEIGHBOURS
    parts, counts = [], []
    for blob in (*blobs, None):
        recent = (blob or b"")[:whole]
        if len(recent) % INTERACTION.itemsize:
            on_corrupt("neighbourhood", f"{len(recent)} bytes are not whole interactions")
            recent = b""
        parts.append(recent.ljust(whole, b"\0"))
        counts.append(len(recent) // INTERACTION.itemsize)
    table = np.frombuffer(bytearray().join(parts), INTERACTION).reshape(-1, K_NEIGHBOURS)
    count = np.array(counts, np.int64)
    impossible = (table["kind"] >= len(ENTITY_KINDS)) | (table["event_type"] >= len(EVENT_TYPES))
    broken = np.flatnonzero((impossible | (table["amount"] < 0)).any(axis=1))
    for row in broken:
        on_corrupt("neighbourhood", "it names a kind or an amount that does not exist")
        table[row], count[row] = np.zeros((), INTERACTION), 0
    return table, count
