"""Reads a bundle's `features.json`, and refuses one that this code cannot make the matrix of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES, STORE_FEATURES, features_version
from inference_services.bundle import Bundle
from inference_services.errors import BundleError

# In the manifest's metadata: `features_version` of the ordered list.
VERSION_KEY = "features_version"

Level = Annotated[str, Field(min_length=1)]


class FeatureListing(BaseModel):
    """What the trees read.

    Attributes:
        features: names in the order of the matrix, F of them.
        categorical: levels of each categorical feature; the code of a level is its position.
        request: the features that are computed from the event.
        store: the features that come from the online store.
    """

    model_config = ConfigDict(frozen=True)

    features: tuple[str, ...] = Field(min_length=1)
    categorical: dict[str, tuple[Level, ...]]
    request: tuple[str, ...] = ()
    store: tuple[str, ...]


def read_listing(bundle: Bundle) -> FeatureListing:
    """The feature listing of a LightGBM bundle.

    A list that lacks some of the features that this code makes is fine: an older version keeps serving beside a newer.

    Raises:
        BundleError: it cannot be read, its parts contradict each other, it names a feature that this code does not
            make, or it is not the list that the manifest names.
    """
    try:
        listing = FeatureListing.model_validate(bundle.read_json("features.json"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BundleError(f"features.json of {bundle.folder} cannot be used: {where}: {first['msg']}") from None
    problem = _problem(listing)
    if problem:
        raise BundleError(f"features.json of {bundle.folder} cannot be used: {problem}")
    recorded, found = bundle.metadata.get(VERSION_KEY), features_version(listing.features)
    if recorded != found:
        raise BundleError(
            f"the manifest of {bundle.folder} records the feature list {recorded!r:.40}, and features.json holds "
            f"{found!r}: train again"
        )
    return listing


def _problem(listing: FeatureListing) -> str:
    """What is wrong with a listing, empty when nothing is."""
    known = set(listing.features)
    if len(known) < len(listing.features):
        return "a feature is named twice"
    if unknown := sorted(known - set(MODEL_FEATURES)):
        return f"this code does not make the feature {unknown[0]!r:.80}: serve it with the code that trained it"
    # By these the scorer sees that the store was down.
    if set(listing.store) != known & set(STORE_FEATURES):
        return "its features of the store are not those of this code"
    return _level_problem(listing.categorical, known)


def _level_problem(categorical: Mapping[str, Sequence[str]], known: set[str]) -> str:
    # Otherwise a column of text would be read as numbers, or the other way round.
    if set(categorical) != known & set(CATEGORICAL_FEATURES):
        return f"the categorical features must be {', '.join(CATEGORICAL_FEATURES)}, as far as they are in the list"
    for name, levels in categorical.items():
        if not levels or len(set(levels)) < len(levels):
            return f"the levels of {name!r} must be there, each once"
    unknown = sorted(set(categorical.get("event_type", ())) - set(SCORED_EVENT_TYPES))
    return f"the event type {unknown[0]!r:.80} is not one that is scored" if unknown else ""
