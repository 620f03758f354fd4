"""From the body of a request to the events in it, and from what became of them to the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson

from feature_repo.errors import UnusableRequest
from feature_repo.streaming.publisher import Published

JSON = "application/json"
JSON_LINES = "application/x-ndjson"


async def read_body(chunks: AsyncIterator[bytes], most_bytes: int) -> bytes:
    """The whole body.

    Raises:
        UnusableRequest: it is longer than `most_bytes`.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most_bytes:
            raise UnusableRequest(413, f"the body is longer than {most_bytes:,} bytes: send fewer events at a time")
    return bytes(body)


def read_events(body: bytes, content_type: str, most_events: int) -> list[Any]:
    """The events of a body: one JSON object, an array of them, or one on each line.

    A line that is not JSON is returned as None, to be refused by itself; a body that is not JSON holds no events.

    Raises:
        UnusableRequest: its type is not known, it is not JSON, or it holds too many events.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON_LINES:
        rows = [_parsed_line(line) for line in body.splitlines() if line.strip()]
    elif kind == JSON:
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise UnusableRequest(400, f"the body is not JSON: {error}") from None
        rows = given if isinstance(given, list) else [given]
    else:
        raise UnusableRequest(415, f"send {JSON} or {JSON_LINES}")
    if len(rows) > most_events:
        raise UnusableRequest(413, f"{len(rows):,} events are more than {most_events:,}: send fewer at a time")
    return rows


def _parsed_line(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def answer(rows: Sequence[Any], published: Published) -> bytes:
    """What became of each event, in order, and how often."""
    reasons = defaultdict(list)
    for error in published.refused:
        reasons[error.row].append({"field": error.field, "reason": error.reason})
    numbers, repeated = published.stream_seq.tolist(), published.repeated.tolist()
    events = []
    for row, given in enumerate(rows):
        told: dict[str, Any] = {"event_id": _event_id(given)}
        if row in reasons:
            told |= {"outcome": "refused", "reasons": reasons[row]}
        else:
            told |= {"outcome": "duplicate" if repeated[row] else "accepted", "stream_seq": numbers[row]}
        events.append(told)
    duplicates = sum(repeated)
    counts = {"accepted": len(rows) - duplicates - len(reasons), "duplicate": duplicates, "refused": len(reasons)}
    return orjson.dumps(counts | {"events": events})


def _event_id(given: Any) -> Any:
    """The id that an event came with; None for a list or an object, which may be nested deeper than can be answered."""
    found = given.get("event_id") if isinstance(given, dict) else None
    return None if isinstance(found, dict | list) else found
