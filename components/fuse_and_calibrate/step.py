"""The whole step: gather both versions' log-odds, fit, derive thresholds, write the bundle and the fused scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.fuse_and_calibrate.alarm_offsets import fit_alarm_offsets
from components.fuse_and_calibrate.logic import FusionRow, find_row, fusion_rows
from components.fuse_and_calibrate.thresholds import cheapest_thresholds
from feature_repo.datasets import Dataset
from inference_services.alarm_groups import Offsets, alarm_groups, alarm_offset, alarm_score
from inference_services.bundle import Bundle, verify, write_manifest
from inference_services.calibration import FULL, NO_GRAPH, read_calibrations, sigmoid
from inference_services.model_names import FUSION, GNN, LIGHTGBM
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.fusion import Thresholds

# Fitted on the first, judged on the second; what the models themselves learned from says nothing here.
_SPLITS_USED = ("calibrate", "test")
_CONTEXT = ["event_id", "event_type", "event_timestamp", "rider_id", "y", "typology", "split"]
# By these `evaluate` divides and resamples the events, where the frame has them.
_GROUPS = ["city", "rider_tenure_days", "device_gps_accuracy_m", "cluster"]


@dataclass(frozen=True)
class Candidate:
    """One version of one model and what it says about the labelled events.

    Attributes:
        sha12: content id.
        log_odds: calibrated, by event_id.
        no_graph: likewise, as when its embeddings cannot be read; None for what cannot answer so.
    """

    sha12: str
    log_odds: pd.Series
    no_graph: pd.Series | None = None


@dataclass(frozen=True)
class Fused:
    """What the step found.

    Attributes:
        rows: the pair table.
        thresholds: by event type.
        scores: the events to calibrate on and to test on with one fused probability per pair, named as in evaluation.
        alarm_offsets: log-odds to take off before a decision, by division and group; `alarm_offsets` says why.
    """

    rows: list[FusionRow]
    thresholds: dict[str, Thresholds]
    scores: pd.DataFrame
    alarm_offsets: Offsets


def fuse(frame: pd.DataFrame, lightgbm: list[Candidate], gnn: list[Candidate], policy: ThresholdSettings) -> Fused:
    """Fits every pair on the split "calibrate".

    Args:
        frame: training set rows; at least the columns event_id, event_type, event_timestamp, rider_id, y, typology,
            split; city, rider_tenure_days, device_gps_accuracy_m and cluster are passed on where there are. A policy
            that equalises alarm rates needs city and rider_tenure_days.
        lightgbm: the new version, then the champion if there is one.
        gnn: likewise.
        policy: costs and capacity.
    """
    columns = [*_CONTEXT, *(name for name in _GROUPS if name in frame)]
    rows_used = frame.loc[_is_used(frame) & frame["y"].notna(), columns].reset_index(drop=True)
    calibrate = (rows_used["split"] == "calibrate").to_numpy()
    ids = rows_used["event_id"]
    odds = {c.sha12: _aligned(c.sha12, c.log_odds, ids) for c in (*lightgbm, *gnn)}
    fitted = {sha12: values[calibrate] for sha12, values in odds.items()}
    table = fusion_rows(
        {c.sha12: fitted[c.sha12] for c in lightgbm},
        {c.sha12: fitted[c.sha12] for c in gnn},
        {c.sha12: _aligned(c.sha12, c.no_graph, ids[calibrate]) for c in gnn if c.no_graph is not None},
        rows_used.loc[calibrate, "y"].to_numpy(float),
    )
    scores = rows_used.assign(
        **{
            name: sigmoid(find_row(table, of_lightgbm, of_gnn).log_odds(*_pair(odds, of_lightgbm, of_gnn)))
            for name, (of_lightgbm, of_gnn) in named_pairs(lightgbm, gnn).items()
        }
    )
    chosen = scores[calibrate]
    days = chosen["event_timestamp"].dt.date.nunique()
    probability = chosen["challenger"].to_numpy(float)
    offsets, offset = alarm_offsets_of(chosen, probability, policy)
    thresholds = cheapest_thresholds(
        policy, chosen["event_type"].to_numpy(object), alarm_score(probability, offset), days
    )
    return Fused(table, thresholds, scores, offsets)


def named_pairs(lightgbm: list[Candidate], gnn: list[Candidate]) -> dict[str, tuple[str | None, str | None]]:
    """The pairs that evaluation compares: name -> (LightGBM content id, GNN content id)."""
    pairs: dict[str, tuple[str | None, str | None]] = {
        "challenger": (lightgbm[0].sha12, gnn[0].sha12),
        "lightgbm_alone": (lightgbm[0].sha12, None),
        "gnn_alone": (None, gnn[0].sha12),
    }
    if len(lightgbm) > 1 or len(gnn) > 1:
        pairs["champion"] = (lightgbm[-1].sha12, gnn[-1].sha12)
        # One predictor canaries at a time: these two answer while one of them does.
        pairs["lightgbm_canary"] = (lightgbm[0].sha12, gnn[-1].sha12)
        pairs["gnn_canary"] = (lightgbm[-1].sha12, gnn[0].sha12)
    return pairs


def write_bundle(
    folder: Path, fused: Fused, *, lightgbm: str, gnn: str, policy: ThresholdSettings, facts: Mapping[str, Any]
) -> Bundle:
    """Writes `fusion.json` and the manifest into `folder`, which is created, and returns the bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "pairs": [asdict(row) for row in fused.rows],
        "thresholds": {name: asdict(both) for name, both in fused.thresholds.items()},
        "alarm_offsets": fused.alarm_offsets,
        "policy_sha256": policy.sha256(),
        "lightgbm": lightgbm,
        "gnn": gnn,
    }
    (folder / "fusion.json").write_text(json.dumps(content, indent=2) + "\n")
    return write_manifest(folder, FUSION, facts)


def new_candidates(
    lightgbm: Path, lightgbm_scores: pd.DataFrame, gnn: Path, gnn_scores: pd.DataFrame
) -> tuple[Candidate, Candidate]:
    """The two versions that this pipeline trained, from their bundles and their steps' scores."""
    of_lightgbm = lightgbm_scores.set_index("event_id")["lgb_log_odds"]
    of_gnn = gnn_scores.set_index("event_id")
    graph = Candidate(verify(gnn, GNN).sha12, of_gnn["gnn_log_odds"], of_gnn["gnn_log_odds_no_graph"])
    return Candidate(verify(lightgbm, LIGHTGBM).sha12, of_lightgbm), graph


def score_lightgbm(folder: Path, frame: pd.DataFrame) -> Candidate:
    """Scores a training set with a LightGBM bundle that another run trained.

    Raises:
        BundleError: the bundle cannot be used.
    """
    from inference_services.lightgbm_predictor.scorer import LightGbmScorer  # noqa: PLC0415 - only with a champion

    scorer = LightGbmScorer.load(folder)
    known = frame[_is_used(frame)]
    X = scorer.encode({name: known[name].to_numpy() for name in scorer.features}, len(known))
    odds = pd.Series(scorer.score(X).log_odds, index=known["event_id"].to_numpy())
    return Candidate(scorer.bundle.sha12, odds)


def score_gnn(folder: Path, dataset: Dataset, frame: pd.DataFrame) -> Candidate:
    """Replays the days to calibrate on and to test on with a GNN bundle that another run trained.

    Raises:
        BundleError: the bundle cannot be used.
    """
    from components.train_gnn.entity_graph import EntityLog  # noqa: PLC0415
    from components.train_gnn.replay import score_log  # noqa: PLC0415 - torch, only with a champion
    from inference_services.gnn_predictor.network import load_network  # noqa: PLC0415

    bundle = verify(folder, GNN)
    calibrations = read_calibrations(bundle.read_json("calibration.json"), (FULL,), (NO_GRAPH,))
    events = dataset.event_table()
    arrived = pd.Series(events.column("ingested_at").to_pandas().array, index=events.column("event_id").to_pylist())
    needed = arrived.reindex(frame.loc[_is_used(frame), "event_id"])
    days = np.unique(needed.dt.floor("D").astype("datetime64[us, UTC]").astype(np.int64) // 86_400_000_000)
    log = EntityLog.read(events, dataset.label_table(), frame)
    network = load_network(folder)
    odds = {}
    for mask, platt in calibrations.items():
        raw = score_log(network, log, days.tolist(), graph=mask == FULL)
        odds[mask] = pd.Series(platt.log_odds(raw.to_numpy()), index=raw.index)
    return Candidate(bundle.sha12, odds[FULL], odds.get(NO_GRAPH))


def _is_used(frame: pd.DataFrame) -> pd.Series:
    used: pd.Series = frame["split"].isin(_SPLITS_USED)
    return used


def alarm_offsets_of(
    chosen: pd.DataFrame, probability: NDArray[np.float64], policy: ThresholdSettings
) -> tuple[Offsets, NDArray[np.float64]]:
    """The offsets that the policy asks for, and that of each event, [n].

    Args:
        chosen: events to calibrate on: y, city and rider_tenure_days.
        probability: calibrated, [n].
        policy: whose alarm rates are to be equal.
    """
    if not policy.equal_alarm_rates:
        return {}, np.zeros(len(chosen))
    groups = alarm_groups(chosen["city"].to_numpy(object), chosen["rider_tenure_days"].to_numpy(float))
    y = chosen["y"].to_numpy(float)
    offsets = fit_alarm_offsets(probability, y, groups, policy.equal_alarm_rates)
    return offsets, alarm_offset(offsets, groups, len(chosen))


def _pair(
    odds: Mapping[str, NDArray[np.float64]], lightgbm: str | None, gnn: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both log-odds, zeros for a model that did not answer (its weight is zero)."""
    zeros = np.zeros(len(next(iter(odds.values()))))
    return odds[lightgbm] if lightgbm else zeros, odds[gnn] if gnn else zeros


def _aligned(sha12: str, log_odds: pd.Series, event_id: pd.Series) -> NDArray[np.float64]:
    values: NDArray[np.float64] = event_id.map(log_odds).to_numpy(float)
    missing = int(np.isnan(values).sum())
    if missing:
        raise ValueError(f"version {sha12} has no score for {missing} labelled events")
    return values
