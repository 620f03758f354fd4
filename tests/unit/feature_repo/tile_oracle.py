"""The tiles of one entity in plain Python, an event at a time: what the array fold must come to, to the byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import pack

from feature_repo.tiles import MICROSECONDS, RETENTION_S, SKETCH_K, ActivityKind


@dataclass
class PlainTiles:
    """Tiles by (length, index): the latest event, the measures, the counterparts."""

    kind: ActivityKind
    latest: dict[tuple[int, int], int] = field(default_factory=dict)
    measures: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    others: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    def add(self, event_type: str, timestamp_us: int, amount: int, other: int | None) -> None:
        for length in RETENTION_S:
            tile = length, timestamp_us // MICROSECONDS // length
            self.latest[tile] = max(self.latest.get(tile, 0), timestamp_us)
            sums = self.measures.setdefault(tile, [0] * len(self.kind.measures))
            for i, measure in enumerate(self.kind.measures):
                if event_type in measure.event_types:
                    sums[i] += amount if measure.op == "sum" else 1
            self.others.setdefault(tile, set())
            if other is not None:
                self.others[tile].add(other)

    def blob(self) -> bytes:
        now = max(self.latest.values()) // MICROSECONDS
        alive = sorted(t for t in self.latest if t[1] >= (now - RETENTION_S[t[0]]) // t[0])
        rows = [pack("<q", t[0] << 32 | t[1]) + pack("<q", self.latest[t]) for t in alive]
        rows = [row + pack(f"<{len(self.measures[t])}q", *self.measures[t]) for row, t in zip(rows, alive, strict=True)]
        sketches = [sorted(self.others[t])[:SKETCH_K] for t in alive]
        sizes = b"".join(pack("<H", len(s)) for s in sketches)
        hashes = b"".join(pack("<Q", h) for s in sketches for h in s)
        return pack("<HI", len(self.kind.measures), len(alive)) + b"".join(rows) + sizes + hashes
