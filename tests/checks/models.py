"""What models of the real features reach: the champion's kind, rules, and the graph alone."""

from __future__ import annotations

import lightgbm
import numpy as np
import pandas as pd

from components.evaluate.rules import rule_score
from components.train_lightgbm.logic import encode, raw_scores, train
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.feature_names import MODEL_FEATURES
from pipelines.report import Row
from tests.checks import measures
from tests.checks.raw_fields import tree_precision
from tests.checks.worlds import World

SETTINGS = LightGbmSettings(rounds=300, patience=40)
# Who meets whom: repeated pairs, and how many different counterparts. Degrees and sums are not among them.
GRAPH_FEATURES = tuple(
    name
    for name in MODEL_FEATURES
    if name.startswith("pair_") or any(f"_{kind}_" in name for kind in ("drivers", "riders"))
)


def model_rows(world: World) -> list[Row]:
    """The figures of one world, all of them average precision within event type on the test days."""
    test = (world.features["split"] == "test").to_numpy()
    part = world.features[test]
    y, types = part["y"].to_numpy(), part["event_type"].to_numpy(object)
    score = champion_score(world.features)
    champion = measures.precision_within(y, score, types)
    rules = measures.precision_within(y, rule_score(part), types)
    tree = tree_precision(world.events)
    n = int(y.sum())
    return [
        Row(f"seed {world.seed}: champion (n={n})", champion, "AP", "0.10 to 0.60", 0.10 <= champion <= 0.60),
        Row(f"seed {world.seed}: rules", rules, "AP", "at most 2/3 of the champion", rules <= champion * 2 / 3),
        Row(f"seed {world.seed}: depth-2 tree", tree, "AP", "at most half the champion", tree <= champion / 2),
        *_graph_rows(world),
        *_found(world.seed, part, score),
    ]


def champion_score(features: pd.DataFrame) -> measures.Vector:
    """Raw scores of the test days by the project's own training, taught with the truth, shape [n]."""
    trained = train(features, SETTINGS)
    return raw_scores(trained.booster, encode(features[features["split"] == "test"], trained.levels))


def _found(seed: int, part: pd.DataFrame, score: measures.Vector) -> list[Row]:
    """How much of each typology the champion finds at a false positive rate of 1 %."""
    honest = np.sort(score[part["y"].to_numpy() == 0])
    alarm = honest[int(0.99 * len(honest))]
    recall = pd.Series(score > alarm).groupby(part["typology"].to_numpy()).mean()
    return [Row(f"seed {seed}: recall at 1 % FPR, {name}", float(value), "share") for name, value in recall.items()]


def _graph_rows(world: World) -> list[Row]:
    """The graph alone, before and after its edges were shuffled: what is left may be degree, not who meets whom."""
    test = (world.features["split"] == "test").to_numpy()
    prevalence = measures.precision_within(
        world.features["y"].to_numpy()[test],
        np.zeros(int(test.sum())),
        world.features["event_type"].to_numpy(object)[test],
    )
    before, after = (_graph_precision(f) - prevalence for f in (world.features, world.shuffled))
    return [
        Row(f"seed {world.seed}: graph alone, above chance", before, "AP", "above 0", before > 0),
        Row(f"seed {world.seed}: edges shuffled, above chance", after, "AP", "at most 1/3", after <= before / 3),
    ]


def _graph_precision(features: pd.DataFrame) -> float:
    """Average precision of LightGBM on GRAPH_FEATURES, on the days that it has not seen.

    The number of trees is fixed: stopping early on a rare class would compare two accidents.
    """
    names = [*GRAPH_FEATURES, "event_type"]
    X = features[names].assign(event_type=pd.factorize(features["event_type"], sort=True)[0]).to_numpy(float)
    seen, test = features["split"].isin(["train", "valid"]).to_numpy(), (features["split"] == "test").to_numpy()
    y = features["y"].to_numpy()
    options = {"objective": "binary", "num_leaves": 15, "min_data_in_leaf": 40, "learning_rate": 0.05, "verbose": -1}
    options |= {"feature_fraction": 0.7, "lambda_l2": 10.0, "num_threads": 2, "seed": 1, "deterministic": True}
    booster = lightgbm.train(options, lightgbm.Dataset(X[seen], y[seen], categorical_feature=[len(names) - 1]), 120)
    types = features["event_type"].to_numpy(object)[test]
    return measures.precision_within(y[test], np.asarray(booster.predict(X[test])), types)
