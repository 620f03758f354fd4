"""The tiles of one entity in plain Python, an event at a time: what the array fold must come to, to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import pack

from feature_repo.tiles import MICROSECONDS, RETENTION_S, SKETCH_K, ActivityKind


def added(kind: ActivityKind, event_type: str, amount: int) -> list[int]:
    """What one event adds to each measure."""
    counts = [(amount if measure.op == "sum" else 1, measure.event_types) for measure in kind.measures]
    return [value if event_type in types else 0 for value, types in counts]


@dataclass
class PlainTiles:
    """Tiles by (length, index): the latest event, the measures, the counterparts."""

    n_measures: int
    latest: dict[tuple[int, int], int] = field(default_factory=dict)
    measures: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    others: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    def add(self, timestamp_us: int, added: Sequence[int], other: int | None) -> None:
        for length in RETENTION_S:
            tile = length, timestamp_us // MICROSECONDS // length
            self.latest[tile] = max(self.latest.get(tile, 0), timestamp_us)
            before = self.measures.get(tile, [0] * self.n_measures)
            self.measures[tile] = [a + b for a, b in zip(before, added, strict=True)]
            self.others.setdefault(tile, set()).update(() if other is None else (other,))

    def blob(self, *, trimmed: bool = True) -> bytes:
        """The packed tiles; those that the latest event has outlived only if not trimmed."""
        now = max(self.latest.values(), default=0) // MICROSECONDS if trimmed else 0
        alive = sorted(t for t in self.latest if t[1] >= (now - RETENTION_S[t[0]]) // t[0])
        numbers = [[t[0] << 32 | t[1], self.latest[t], *self.measures[t]] for t in alive]
        sketches = [sorted(self.others[t])[:SKETCH_K] for t in alive]
        rows = b"".join(pack(f"<{len(row)}q", *row) for row in numbers)
        sizes = b"".join(pack("<H", len(s)) for s in sketches)
        hashes = b"".join(pack("<Q", h) for s in sketches for h in s)
        return pack("<HI", self.n_measures, len(alive)) + rows + sizes + hashes
