"""Writes trained trees as a fraud-lightgbm bundle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from components.train_lightgbm.logic import TrainedLightGbm, encode
from components.train_lightgbm.monotone import monotone_directions
from components.train_lightgbm.settings import LightGbmSettings
from components.train_lightgbm.trials import Search
from components.train_lightgbm.typical_values import write_typical_values
from feature_repo.feature_names import MODEL_FEATURES, STORE_FEATURES, features_version, lightgbm_service
from feature_repo.request_features import REQUEST_FEATURES
from inference_services.bundle import Bundle, write_manifest
from inference_services.lightgbm_predictor.feature_listing import VERSION_KEY
from inference_services.model_names import LIGHTGBM

_REFERENCE_ROWS = 2000
_REFERENCE_DAYS = 7


def write_bundle(
    folder: Path,
    trained: TrainedLightGbm,
    frame: pd.DataFrame,
    settings: LightGbmSettings,
    dataset_sha256: str,
    *,
    found: Search | None = None,
) -> Bundle:
    """Writes the bundle into `folder`, which is created, and returns it; `found` where the settings were searched."""
    folder.mkdir(parents=True, exist_ok=True)
    trained.booster.save_model(folder / "model.bst")
    listing = {
        "features": MODEL_FEATURES,
        "categorical": trained.levels,
        "request": REQUEST_FEATURES,
        "store": STORE_FEATURES,
    }
    (folder / "features.json").write_text(json.dumps(listing, indent=2) + "\n")
    calibrations = {mask: asdict(platt) for mask, platt in trained.calibrations.items()}
    (folder / "calibration.json").write_text(json.dumps(calibrations, indent=2) + "\n")
    recent = encode(reference_rows(frame, settings.seed), trained.levels)
    np.savez(folder / "reference_sample.npz", X=recent, features=np.array(MODEL_FEATURES))
    write_typical_values(folder, frame)
    if found:
        (folder / "search.json").write_text(json.dumps(found.as_dict(), indent=2) + "\n")
    (folder / "model_card.md").write_text(_model_card(trained, settings, dataset_sha256, found))
    facts = {
        "dataset": dataset_sha256,
        "settings": settings.model_dump(),
        "unused_features": trained.unused,
        "trees": trained.booster.num_trees(),
        "validation_average_precision": trained.validation_average_precision,
        "feature_service": lightgbm_service(MODEL_FEATURES),
        VERSION_KEY: features_version(MODEL_FEATURES),
    }
    return write_manifest(folder, LIGHTGBM, facts)


def reference_rows(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What live traffic is compared with: a sample of the last days, at most 2,000 rows in stream order.

    The last days of all, for drift needs no labels and older traffic is further from tomorrow's.
    """
    days = frame["event_timestamp"].dt.floor("D")
    recent = frame[days > days.max() - pd.Timedelta(days=_REFERENCE_DAYS)]
    sample: pd.DataFrame = recent.sample(min(_REFERENCE_ROWS, len(recent)), random_state=seed).sort_index()
    return sample


def _model_card(trained: TrainedLightGbm, settings: LightGbmSettings, dataset_sha256: str, found: Search | None) -> str:
    gains = trained.booster.feature_importance("gain")
    top = ", ".join(MODEL_FEATURES[i] for i in np.argsort(-gains, kind="stable")[:10])
    return f"""# fraud-lightgbm

Gradient-boosted trees over the event, its request-time features and the windowed activity of its entities.

- Data: dataset {dataset_sha256[:12]}; {trained.fraud} fraud events, {trained.honest} honest ones.
- {trained.booster.num_trees()} trees; validation average precision {trained.validation_average_precision:.3f} (at the
  labels' prevalence; comparable between runs on one dataset only). Seed {settings.seed}.
- Settings: {_origin(found)}
- Calibrated apart for requests answered while the feature store is down; {settings.masked_share:.0%} of the training
  rows were repeated in that state.
- Cities: {", ".join(trained.levels["city"])}. An event of another city is scored with an unknown city.
- Largest gain: {top}.
- Directions: {_directions(settings)}
- Left out: {_left_out(trained)}
- Weak where fraud shows only in who meets whom: the graph model covers that.
"""


def _origin(found: Search | None) -> str:
    if found is None:
        return "as given; none were searched."
    first, best = found.trials[0], found.trials[found.best]
    return (
        f"the best of {len(found.trials)} trials ({found.ended}), trial {best.number}: validation average precision "
        f"{best.average_precision:.3f}, as given {first.average_precision:.3f}. See `search.json`."
    )


def _directions(settings: LightGbmSettings) -> str:
    if settings.monotone == "off":
        return "every feature may move the risk either way."
    directions = monotone_directions(MODEL_FEATURES)
    return (
        f"{directions.count(1)} features cannot lower the risk as they rise, {directions.count(-1)} cannot raise it "
        f"(method {settings.monotone})."
    )


def _left_out(trained: TrainedLightGbm) -> str:
    if not trained.unused:
        return "no feature; each varies in the training rows."
    listed = ", ".join(f"{name} ({why})" for name, why in trained.unused.items())
    return f"WARNING, {len(trained.unused)} features said nothing in the training rows: {listed}."
