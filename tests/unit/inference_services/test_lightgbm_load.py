"""A LightGBM bundle that does not fit this code, or itself, is refused when it is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feature_repo.feature_names import MODEL_FEATURES, features_version
from inference_services.bundle import write_manifest
from inference_services.errors import BundleError
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from tests.contract.conftest import write_lightgbm_bundle


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lightgbm_bundle(tmp_path_factory.mktemp("bundles") / "whole").folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "bundle")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object], version: str | None = None) -> None:
    """Changes the listing and pins it anew, as somebody would who trained with other code."""
    listing = json.loads((folder / "features.json").read_text())
    change(listing)
    (folder / "features.json").write_text(json.dumps(listing))
    repin(folder, version or features_version(listing["features"]))


def repin(folder: Path, version: str | None = None) -> None:
    (folder / "bundle.json").unlink()
    write_manifest(folder, "fraud-lightgbm", {"features_version": version or features_version(MODEL_FEATURES)})


def swapped(listing: dict[str, Any]) -> None:
    names = listing["features"]
    names[-1], names[-2] = names[-2], names[-1]


LISTINGS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an order other than the trees'": (swapped, "trained on other features, or in another order"),
    "one feature fewer": (lambda m: m["features"].remove("amount"), "trained on other features"),
    "a feature of the future": (
        lambda m: m["features"].__setitem__(-1, "rider_karma"),
        "this code does not make the feature 'rider_karma'",
    ),
    "a feature twice": (lambda m: m["features"].__setitem__(-1, m["features"][0]), "named twice"),
    "no features": (lambda m: m.update(features=[]), "features: Tuple should have at least 1 item"),
    "a number for a name": (lambda m: m["features"].__setitem__(-1, 7), "features"),
    "no levels": (lambda m: m["categorical"].update(city=[]), "levels of 'city'"),
    "a level twice": (lambda m: m["categorical"].update(city=["shiraz", "shiraz"]), "levels of 'city'"),
    "an empty level": (lambda m: m["categorical"].update(city=[""]), "at least 1 character"),
    "an unknown event type": (
        lambda m: m["categorical"].update(event_type=["trip_imagined"]),
        "'trip_imagined' is not one that is scored",
    ),
    "a number as a category": (lambda m: m["categorical"].update(amount=["a"]), "categorical features must be"),
    "a category as a number": (lambda m: m["categorical"].pop("city"), "categorical features must be"),
    "another store": (lambda m: m["store"].pop(), "features of the store"),
    "not an object": (lambda m: m.clear() or m.update(features=[]), "cannot be used"),
}


@pytest.mark.parametrize("case", LISTINGS)
def test_a_feature_list_that_does_not_fit_is_refused(case: str, folder: Path) -> None:
    change, message = LISTINGS[case]
    rewrite(folder, change)
    with pytest.raises(BundleError, match=message):
        LightGbmScorer.load(folder)


def test_a_feature_list_other_than_the_recorded_one_is_refused(folder: Path) -> None:
    repin(folder, "0" * 12)
    with pytest.raises(BundleError, match="records the feature list '000000000000'"):
        LightGbmScorer.load(folder)
    (folder / "bundle.json").unlink()
    write_manifest(folder, "fraud-lightgbm", {})
    with pytest.raises(BundleError, match="records the feature list None"):
        LightGbmScorer.load(folder)


@pytest.mark.parametrize("name", ["model.bst", "features.json", "calibration.json", "bundle.json"])
def test_one_bit_or_half_a_file_is_enough_to_refuse(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    middle = len(content) // 2
    for altered in (content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], content[:middle], b""):
        (folder / name).write_bytes(altered)
        with pytest.raises(BundleError):
            LightGbmScorer.load(folder)
    (folder / name).write_bytes(content)
    LightGbmScorer.load(folder)


def test_trees_that_were_cut_before_they_were_pinned_are_refused(folder: Path) -> None:
    trees = (folder / "model.bst").read_bytes()
    for length in (0, 20, len(trees) // 3):
        (folder / "model.bst").write_bytes(trees[:length])
        repin(folder)
        with pytest.raises(BundleError, match=r"model\.bst"):
            LightGbmScorer.load(folder)
