"""What `FeatureStore.get_online_features` says of a batch, and that the reader says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from feast import FeatureService, FeatureStore

from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import ACTIVITY_FEATURES
from feature_repo.online_reader import StoreRead
from feature_repo.pseudonyms import ENTITY_KINDS

Answer = Mapping[str, Sequence[Any]]


def online_rows(batch: EventBatch) -> dict[str, list[Any]]:
    """The entity rows of a batch for the online service, by column; an entity that an event has not got is ""."""
    ids = {f"{kind}_id": batch[f"{kind}_id"].tolist() for kind in ENTITY_KINDS}
    return {**ids, "city": batch["city"].tolist(), "as_of_us": batch["event_timestamp"].tolist()}


def feast_features(store: FeatureStore, service: FeatureService, rows: Mapping[str, list[Any]]) -> Answer:
    """All features of the online service."""
    answer: Answer = store.get_online_features(service, rows).to_dict()
    return answer


def feast_embeddings(store: FeatureStore, version: str, rows: Mapping[str, list[Any]]) -> Answer:
    """The embeddings of the entities in each column, under `<kind>_id`; the columns are equally long."""
    refs = [f"{kind}_embedding_{version}:embedding" for kind in ENTITY_KINDS]
    found = store.get_online_features(refs, rows, full_feature_names=True).to_dict()
    return {f"{kind}_id": found[f"{kind}_embedding_{version}__embedding"] for kind in ENTITY_KINDS}


def assert_same_features(read: StoreRead, theirs: Answer, batch: EventBatch) -> None:
    """Every feature of every event is the same, to the last bit."""
    assert read.available, read.problem
    as_of_us = batch["event_timestamp"]
    for name in ACTIVITY_FEATURES:
        np.testing.assert_array_equal(read.features[name], theirs[name], err_msg=name)
    for slot, kind in enumerate(ENTITY_KINDS):
        seen = theirs[f"{kind}_first_seen_us"]
        first = np.array([as_of if s is None else s for s, as_of in zip(seen, as_of_us, strict=True)])
        np.testing.assert_array_equal(
            read.features[f"{kind}_tenure_days"], np.maximum(as_of_us - first, 0) / 86_400_000_000
        )
        trips = [float(t or 0) for t in theirs[f"{kind}_lifetime_trips"]]
        np.testing.assert_array_equal(read.features[f"{kind}_lifetime_trips"], trips)
        frauds = [float(n or 0) for n in theirs[f"{kind}_confirmed_frauds"]]
        np.testing.assert_array_equal(read.features[f"{kind}_confirmed_frauds"], frauds)
        last = theirs[f"{kind}_last_fraud_us"]
        since = [
            30.0 if us is None or us < 0 else min(max(int(as_of) - us, 0) / 86_400_000_000, 30.0)
            for us, as_of in zip(last, as_of_us, strict=True)
        ]
        np.testing.assert_array_equal(read.features[f"{kind}_days_since_fraud"], since)
        for row, blob in enumerate(theirs[f"{kind}_neighbours_blob"]):
            count = read.interaction_counts[row, slot]
            assert read.interactions[row, slot, :count].tobytes() == (blob or b"")
            assert not read.interactions[row, slot, count:].tobytes().strip(b"\0")
    for name in ("fare_per_km", "speed_kmh", "gps_accuracy_m"):
        norms = [np.nan if v is None else v for v in theirs[f"city_{name}"]]
        np.testing.assert_array_equal(getattr(read.norms, name), norms)
