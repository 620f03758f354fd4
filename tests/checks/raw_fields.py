"""What shortcuts on raw fields reach: one field, two fields, a tree of depth 2, the ids alone."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from feature_repo.event_schemas import CATALOGUE, SCORED_EVENT_TYPES
from feature_repo.pseudonyms import ENTITY_KINDS
from pipelines.report import Row
from tests.checks import measures
from tests.checks.measures import LEAST_FRAUD, Codes, Mask, Vector

_IDS = [f"{kind}_id" for kind in ENTITY_KINDS]
_NO_FIELDS = {"event_id", "event_type", "event_timestamp", "trip_id", *_IDS}
FIELDS = (*(name for name in CATALOGUE.fields if name not in _NO_FIELDS), "hour", "weekday")
# The area does not depend on prevalence, so a sample of the honest events gives the same figure.
_HONEST = 30_000
ID_SPLITS = 8


def groups(events: pd.DataFrame) -> Codes:
    """The ring behind each event, else its rider, as codes of shape [n]."""
    return pd.factorize(events["ring_id"].fillna(events["rider_id"]))[0].astype(np.int64)


def field(events: pd.DataFrame, name: str) -> NDArray[Any]:
    """A raw field: numbers as float64 (NaN where absent), words as objects, shape [n]."""
    spec = CATALOGUE.fields.get(name)
    if spec is not None and spec.json_type == "string":
        return events[name].to_numpy(object)
    return events[name].astype(float).to_numpy()


def field_rows(events: pd.DataFrame, rng: np.random.Generator) -> list[Row]:
    """The best single field and the best pair of each event type, over all seeds together.

    Args:
        events: events of all worlds, with the truth and `world`.
        rng: draws the folds and the sample of honest events.
    """
    rows = []
    for event_type in SCORED_EVENT_TYPES:
        of_type = events[events["event_type"] == event_type]
        honest = of_type[~of_type["is_fraud"]]
        fraud = of_type[of_type["is_fraud"]]
        if len(fraud) < LEAST_FRAUD:
            rows.append(Row(f"{event_type}: fraud events", len(fraud), bound=f"at least {LEAST_FRAUD}", met=False))
            continue
        part = pd.concat([honest.sample(min(_HONEST, len(honest)), random_state=rng), fraud])
        rows += _best(event_type, part, rng)
    return rows


def _best(event_type: str, part: pd.DataFrame, rng: np.random.Generator) -> list[Row]:
    fraud = part["is_fraud"].to_numpy(bool)
    fold = measures.fold_of(groups(part), rng)
    values = {name: field(part, name) for name in FIELDS}
    codes = {name: measures.bins(v) for name, v in values.items()}
    codes = {name: code for name, code in codes.items() if code.min() < code.max()}
    nothing = np.zeros(len(part), np.int64)
    single = {name: _single(values[name], code, nothing, fraud, fold) for name, code in codes.items()}
    pairs = {
        f"{a} with {b}": measures.auc(measures.cross_fitted_score(codes[a], codes[b], fraud, fold), fraud)
        for a, b in combinations(codes, 2)
    }
    rows = []
    for what, areas in (("field", single), ("pair", pairs)):
        name = max(areas, key=lambda k: areas[k])
        title = f"{event_type}: best {what}, {name} (n={fraud.sum()})"
        rows.append(Row(title, areas[name], "AUC", "below 0.80", areas[name] < 0.80))
    return rows


def _single(values: NDArray[Any], code: Codes, nothing: Codes, fraud: Mask, fold: Codes) -> float:
    area = measures.auc(measures.cross_fitted_score(code, nothing, fraud, fold), fraud)
    if values.dtype == object or not np.isfinite(values).all():
        return area
    direct = measures.auc(values, fraud)
    return max(area, direct, 1 - direct)


def tree_precision(events: pd.DataFrame) -> float:
    """Average precision (within event type, test days) of a tree of depth 2 on the raw fields of each event type."""
    y, score, types = [], [], []
    for event_type in SCORED_EVENT_TYPES:
        of_type = events[events["event_type"] == event_type]
        X = _matrix(of_type)
        train, test = ((of_type["split"] == s).to_numpy() for s in ("train", "test"))
        fraud = of_type["is_fraud"].to_numpy(bool)
        if not fraud[train].any():
            continue
        tree = DecisionTreeClassifier(max_depth=2, min_samples_leaf=20, random_state=0).fit(X[train], fraud[train])
        y.append(fraud[test].astype(float))
        score.append(tree.predict_proba(X[test])[:, 1])
        types.append(np.full(int(test.sum()), event_type, object))
    return measures.precision_within(np.concatenate(y), np.concatenate(score), np.concatenate(types))


def _matrix(of_type: pd.DataFrame) -> NDArray[np.float32]:
    """Raw fields [n, F]: numbers as they are, one column for each level of a word; -1 where absent."""
    columns = []
    for name in FIELDS:
        values = field(of_type, name)
        if values.dtype == object:
            columns += [values == level for level in pd.unique(values) if isinstance(level, str)]
        else:
            columns.append(np.nan_to_num(values, nan=-1.0))
    return np.column_stack(columns).astype(np.float32)


def id_row(events: pd.DataFrame, rng: np.random.Generator) -> Row:
    """LightGBM on nothing but ids, asked about riders, drivers, phones and cards that it has not met.

    Target encoding has nothing to say about an unseen id, so what could leak is the id's own number and its hash: both
    are given. A missing id is drawn at random, since that it is missing is a raw field and not an identity. Ids of two
    worlds have nothing in common: one model for each world and split of its entities.

    An event is in the test of one split in sixteen, so that the areas of the splits are almost independent, and their
    spread gives the error of their mean.
    """
    scored = events[events["event_type"].isin(SCORED_EVENT_TYPES)]
    areas = [_id_area(world, rng) for _, world in scored.groupby("world") for _ in range(ID_SPLITS)]
    value, error = float(np.mean(areas)), float(np.std(areas, ddof=1) / np.sqrt(len(areas)))
    bound = f"0.45 to 0.55, give or take two standard errors of {error:.3f}"
    name = f"ids alone, entities not seen ({len(areas)} splits)"
    return Row(name, value, "AUC", bound, abs(value - 0.5) <= 0.05 + 2 * error)


def _id_area(world: pd.DataFrame, rng: np.random.Generator) -> float:
    """The area of one split: averaged over event types by their fraud among the unknown entities."""
    X, known, unknown = _id_split(world, rng)
    fraud = world["is_fraud"].to_numpy(bool)
    score, types = _fit(X[known], fraud[known]).predict(X[unknown]), world["event_type"].to_numpy(object)[unknown]
    found = fraud[unknown]
    masks = [types == name for name in SCORED_EVENT_TYPES if 0 < found[types == name].sum() < (types == name).sum()]
    areas = [measures.auc(np.asarray(score)[rows], found[rows]) for rows in masks]
    return float(np.average(areas, weights=[found[rows].sum() for rows in masks]))


def _id_split(world: pd.DataFrame, rng: np.random.Generator) -> tuple[NDArray[np.float64], Mask, Mask]:
    """Ids as numbers [n, 8], rows of known entities only, rows of unknown entities only."""
    columns: list[Vector] = []
    known, unknown = np.ones(len(world), np.bool_), np.ones(len(world), np.bool_)
    for name in _IDS:
        code, levels = pd.factorize(world[name])
        number = np.array([_number(str(level)) for level in levels])
        side = rng.random(len(levels)) < 0.5
        missing = code < 0
        known &= missing | side[code]
        unknown &= missing | ~side[code]
        drawn = np.where(missing, rng.choice(number, len(code)), number[code])
        columns += [drawn, pd.util.hash_array(drawn) % 64 + 0.0]
    return np.column_stack(columns), known, unknown


def _number(name: str) -> float:
    """The number in an id: what its owner could have leaked by numbering in the order of the story."""
    return float("".join(filter(str.isdigit, name)) or 0)


def _fit(X: NDArray[np.float64], fraud: Mask) -> lightgbm.Booster:
    options = {"objective": "binary", "num_leaves": 15, "min_data_in_leaf": 20, "verbose": -1, "num_threads": 2}
    return lightgbm.train({**options, "seed": 1, "deterministic": True}, lightgbm.Dataset(X, fraud), 80)
