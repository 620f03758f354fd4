"""The record of one decision: everything that is needed to make it again, bit by bit, and to tell it to a person.

`DecisionRecord` is the only definition of its JSON. A number in it is written with the fewest digits that give the
same float64 back. What is long and that nobody reads number by number is base64 of little-endian floats: the features,
and the tensors of the graph. Ids are pseudonyms, as everywhere behind ingestion.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from inference_services.errors import CorruptRecord

SCHEMA = 1

# The float32 tensors of a graph in the order in which they are kept: name, rows (event, endpoint, or interaction with
# its neighbour), and whether a row is one number.
GRAPH_FLOATS = (
    ("endpoint_known", "endpoint"),
    ("neighbour_known", "neighbour"),
    ("endpoint_embedding", "endpoint"),
    ("neighbour_embedding", "neighbour"),
    ("edge_features", "neighbour"),
    ("event_features", "event"),
)


@dataclass(frozen=True)
class FeatureVector:
    """The features of one event, as both models got them.

    Attributes:
        names: of the numbers, F of them.
        numbers: base64 of float64 [F]; NaN where a feature is not known, or the store was away.
        texts: the categorical features by name.
    """

    names: list[str]
    numbers: str
    texts: dict[str, str]

    def by_name(self) -> dict[str, float | str]:
        """Every feature's value.

        Raises:
            CorruptRecord: there are not as many numbers as names.
        """
        numbers = _decode(self.numbers, "<f8")
        if len(numbers) != len(self.names):
            raise CorruptRecord(f"a decision has {len(self.names)} feature names and {len(numbers)} numbers")
        return {**self.texts, **dict(zip(self.names, numbers.tolist(), strict=True))}


@dataclass(frozen=True)
class GraphRequest:
    """What the graph model that answered was asked about one event of E endpoints and M interactions.

    As in `EventGraph`, but for the rows of events: an interaction has its neighbour in the same row, and names its
    endpoint. An event whose embeddings could not be read (`no_graph`) has neither.

    Attributes:
        endpoint_kind: [E].
        neighbour_kind: [M].
        edge_endpoint: row of the endpoint of each interaction, [M].
        dims: columns of each of `GRAPH_FLOATS`, 0 for a vector.
        floats: base64 of the float32 tensors of `GRAPH_FLOATS`, one after the other.
    """

    endpoint_kind: list[int]
    neighbour_kind: list[int]
    edge_endpoint: list[int]
    dims: list[int]
    floats: str

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The tensors of `EventGraph` by name, of one event.

        Raises:
            CorruptRecord: there are not as many numbers as the shapes ask for.
        """
        e, m = len(self.endpoint_kind), len(self.neighbour_kind)
        rows = {"endpoint": e, "neighbour": m, "event": 1}
        shapes = [(rows[of], d) if d else (rows[of],) for (_, of), d in zip(GRAPH_FLOATS, self.dims, strict=True)]
        sizes = [int(np.prod(shape)) for shape in shapes]
        floats = _decode(self.floats, "<f4")
        if len(floats) != sum(sizes) or len(self.edge_endpoint) != m:
            raise CorruptRecord("the graph of a decision has tensors of other lengths than its shapes")
        parts = np.split(floats, np.cumsum(sizes)[:-1])
        found = {name: p.reshape(s) for (name, _), p, s in zip(GRAPH_FLOATS, parts, shapes, strict=True)}
        return {
            **found,
            "endpoint_kind": np.array(self.endpoint_kind, np.int64),
            "endpoint_event": np.zeros(e, np.int64),
            "neighbour_kind": np.array(self.neighbour_kind, np.int64),
            "edge_index": np.stack([np.arange(m), np.array(self.edge_endpoint, np.int64)]),
        }


@dataclass(frozen=True)
class RulesRecord:
    """What the rules said of one event; names are in the file's order.

    Attributes:
        sha256: of the rules file.
        decided_by: the rule whose action is the decision; None where the models, or the default, decided.
        action: its action.
        matched: live rules that matched.
        dry_run: rules that matched and are only tried.
        failed: rules whose condition could not be evaluated.
    """

    sha256: str
    decided_by: str | None
    action: Literal["allow", "review", "block"] | None
    matched: tuple[str, ...]
    dry_run: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class DecisionRecord:
    """One decision."""

    schema: Annotated[int, Field(description="Version of this record's form.")]
    decision_id: Annotated[str, Field(description="Tells copies of one decision from two decisions about one event.")]
    event_id: Annotated[str, Field(description="The event that was decided.")]
    request_id: Annotated[str, Field(description="Id of the request, as in logs and traces; empty without one.")]
    decided_at: Annotated[int, Field(description="When the decision was made, µs since the epoch.")]
    event: Annotated[dict[str, Any], Field(description="The event's fields; one that it lacks is left out.")]
    decision: Annotated[Literal["allow", "review", "block"], Field(description="What was answered.")]
    fraud_probability: Annotated[float, Field(description="Calibrated, of both models; -1 when none could score.")]
    alarm_offset: Annotated[float, Field(description="Log-odds taken off before the thresholds were applied.")]
    degraded: Annotated[str, Field(description="What was missing, a comma list; empty when nothing was.")]
    availability: Annotated[str, Field(description="Mask of the fusion's row: `full`, `no_store` or `no_graph`.")]
    reasons: Annotated[list[Any], Field(description="Reasons of a flagged event, as they were answered.")]
    rules: Annotated[RulesRecord | None, Field(description="What the rules said; null where there were none.")]
    lightgbm_version: Annotated[str | None, Field(description="`<version>-<sha12>` that answered; null when none did.")]
    lightgbm_raw_score: Annotated[float | None, Field(description="Its raw score.")]
    lightgbm_log_odds: Annotated[float | None, Field(description="Its calibrated log-odds, which fusion takes.")]
    lightgbm_probability: Annotated[float, Field(description="Its probability; -1 when it did not answer.")]
    gnn_version: Annotated[str | None, Field(description="`<version>-<sha12>` that answered; null when none did.")]
    gnn_raw_score: Annotated[float | None, Field(description="Its raw score, a float32.")]
    gnn_log_odds: Annotated[float | None, Field(description="Its calibrated log-odds, which fusion takes.")]
    gnn_probability: Annotated[float, Field(description="Its probability; -1 when it did not answer.")]
    fusion: Annotated[str, Field(description="Version of the fusion bundle: weights, offsets, thresholds.")]
    policy_sha256: Annotated[str, Field(description="Hash of the policy that the thresholds were made for.")]
    revision: Annotated[str, Field(description="Knative revision of the transformer.")]
    seen_sequence: Annotated[int, Field(description="Last event applied to any of the event's entities.")]
    materialised: Annotated[
        dict[str, int],
        Field(description="By view, when its newest row became usable, µs since the epoch."),
    ]
    latency_ms: Annotated[float, Field(description="Time that the decision took, with the others of its chunk.")]
    features: Annotated[FeatureVector, Field(description="What both models read, by name.")]
    graph: Annotated[GraphRequest | None, Field(description="What the graph model read; null when it did not answer.")]

    def to_json(self) -> bytes:
        """The record as it travels and is kept."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, content: bytes | str) -> DecisionRecord:
        """Reads a record.

        Raises:
            CorruptRecord: it is not one, or of a schema that this code does not know.
        """
        try:
            found = orjson.loads(content)
            schema = found.get("schema") if isinstance(found, dict) else None
            if schema != SCHEMA:
                raise CorruptRecord(f"a decision of schema {schema!r:.20}: this code reads schema {SCHEMA}")
            return _ADAPTER.validate_python(found)
        except ValidationError as error:
            first = error.errors()[0]
            raise CorruptRecord(f"{'.'.join(map(str, first['loc']))} of a decision: {first['msg']}") from None
        except ValueError as error:
            raise CorruptRecord(f"a decision is not JSON: {error}") from None


_ADAPTER = TypeAdapter(DecisionRecord)


def _decode(text: str, dtype: str) -> NDArray[Any]:
    try:
        return np.frombuffer(b64decode(text, validate=True), dtype)
    except ValueError as error:
        raise CorruptRecord(f"floats of a decision are not base64 of {dtype}: {error}") from None
