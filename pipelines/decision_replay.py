"""Makes a logged decision again, from its record and the bundles and rules that it names, and compares every bit."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from feature_repo.event_batch import EventBatch
from inference_services.alarm_groups import alarm_score
from inference_services.bundle import Bundle, sha12_of, verify
from inference_services.calibration import FULL, NO_GRAPH, Platt, read_calibrations
from inference_services.errors import BadSettings, BundleError
from inference_services.gnn_predictor.network import load_network
from inference_services.gnn_predictor.scorer import EventScorer
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.model_names import FUSION, GNN, LIGHTGBM
from inference_services.transformer.decision_record import DecisionRecord
from inference_services.transformer.fusion import Fusion, Score, decide
from inference_services.transformer.rules.rule_set import RuleSet

L = TypeVar("L")
_SCORES = ("raw_score", "log_odds", "probability")


@dataclass(frozen=True, slots=True)
class Compared:
    """One value of the record beside the value that was found now.

    Attributes:
        name: of the record's field.
        logged: the record's value.
        now: what the bundles give.
    """

    name: str
    logged: Any
    now: Any

    @property
    def same(self) -> bool:
        """Whether they are equal; numbers to the last bit."""
        if isinstance(self.logged, float) and isinstance(self.now, float):
            return struct.pack("<d", self.logged) == struct.pack("<d", self.now)
        return type(self.logged) is type(self.now) and bool(self.logged == self.now)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A decision made again.

    Attributes:
        compared: everything that was compared, in the order in which a decision is made.
        missing: why something could not be made again, a line each.
    """

    compared: tuple[Compared, ...]
    missing: tuple[str, ...]

    @property
    def differences(self) -> tuple[Compared, ...]:
        """What is not as it was."""
        return tuple(one for one in self.compared if not one.same)

    @property
    def same(self) -> bool:
        """Whether all of the decision was made again, with the same bits."""
        return not self.differences and not self.missing


class Versions:
    """What decisions name: published bundles and rules files, each verified by its hash and loaded once.

    Args:
        bundles: folder of `<model>/<version>-<sha12>/`.
        rules: a rules file, or a folder of such files as they were at some time.
    """

    def __init__(self, bundles: Path, rules: Path) -> None:
        self._root = bundles
        self._rules = rules
        self.lightgbm = self._loader(LIGHTGBM, LightGbmScorer.load, lambda scorer: scorer.bundle)
        self.gnn = self._loader(GNN, GraphModel.load, lambda model: model.bundle)
        self.fusion = self._loader(FUSION, Fusion.load, lambda fusion: fusion.bundle)

    def _loader(self, model: str, load: Callable[[Path], L], bundle: Callable[[L], Bundle]) -> Callable[[str], L]:
        @cache
        def named(label: str) -> L:
            """Raises BundleError when the bundle is not there, altered, or another one than its folder says."""
            loaded = load(self._root / model / label)
            found = bundle(loaded).sha12
            if found != sha12_of(label):
                raise BundleError(f"{self._root / model / label} holds {found}, another bundle than its name says")
            return loaded

        return named

    @cache  # noqa: B019 - lives as long as a command
    def rules(self, digest: str) -> RuleSet:
        """The rules file with this hash.

        Raises:
            BadSettings: it is not there, or this code cannot use it.
        """
        files = sorted(self._rules.glob("*.yaml")) if self._rules.is_dir() else [self._rules]
        contents = [(file, file.read_bytes()) for file in files if file.is_file()]
        for file, content in contents:
            if sha256(content).hexdigest() == digest:
                return RuleSet.load(content, str(file))
        raise BadSettings(f"no rules file in {self._rules} has the hash {digest[:12]}: give the one of that time")


@dataclass(frozen=True)
class GraphModel:
    """A graph model as its predictor scores with it."""

    bundle: Bundle
    score: EventScorer
    calibrations: Mapping[str, Platt]

    @classmethod
    def load(cls, folder: Path) -> GraphModel:
        """Verifies and loads a fraud-gnn bundle.

        Raises:
            BundleError: the bundle is altered, or does not fit this code.
        """
        bundle = verify(folder, GNN)
        return cls(
            bundle,
            EventScorer(load_network(folder)),
            dict(read_calibrations(bundle.read_json("calibration.json"), (FULL,), (NO_GRAPH,))),
        )


def replay(record: DecisionRecord, versions: Versions) -> Replayed:
    """Takes each step of a decision again, from what was logged of the step before.

    Raises:
        CorruptRecord: the record's features or graph cannot be read.
    """
    compared: list[Compared] = []
    missing: list[str] = []
    for step in (_lightgbm, _gnn, _fusion, _rules):
        try:
            compared += [Compared(name, getattr(record, name), now) for name, now in step(record, versions).items()]
        except (BundleError, BadSettings) as error:
            missing.append(str(error))
    return Replayed(tuple(compared), tuple(missing))


def _lightgbm(record: DecisionRecord, versions: Versions) -> dict[str, Any]:
    if record.lightgbm_version is None:
        return {}
    scorer = versions.lightgbm(record.lightgbm_version)
    columns = {name: [value] for name, value in record.features.by_name().items()}
    scores = scorer.score(scorer.encode(columns, 1))
    return {f"lightgbm_{name}": float(getattr(scores, name)[0]) for name in _SCORES}


def _gnn(record: DecisionRecord, versions: Versions) -> dict[str, Any]:
    if record.gnn_version is None:
        return {}
    if record.graph is None:
        raise BundleError(
            f"{GNN} {record.gnn_version} was not asked with its embeddings: its score cannot be made again"
        )
    model = versions.gnn(record.gnn_version)
    raw = model.score(record.graph.tensors())
    calibration = model.calibrations.get(record.availability)
    if calibration is None:
        raise BundleError(f"{model.bundle.folder} has no calibration for the mask {record.availability!r}")
    values = {"raw_score": raw, "log_odds": calibration.log_odds(raw), "probability": calibration.probability(raw)}
    return {f"gnn_{name}": float(values[name][0]) for name in _SCORES}


def _fusion(record: DecisionRecord, versions: Versions) -> dict[str, Any]:
    fusion = versions.fusion(record.fusion)
    left = _score(record.lightgbm_version, record.lightgbm_log_odds)
    right = _score(record.gnn_version, record.gnn_log_odds)
    probability = fusion.combine(left, right, record.availability, 1).probability
    tenure = float(record.features.by_name()["rider_tenure_days"])
    offset = fusion.offset(np.array([record.event["city"]], object), np.array([tenure]))
    types = np.array([record.event["event_type"]], object)
    by_models = str(decide(fusion.thresholds, types, alarm_score(probability, offset))[0])
    return {
        "policy_sha256": fusion.policy_sha256,
        "fraud_probability": float(probability[0]),
        "alarm_offset": float(offset[0]),
        "decision": (record.rules.action if record.rules else None) or by_models,
    }


def _rules(record: DecisionRecord, versions: Versions) -> dict[str, Any]:
    if record.rules is None or record.rules.sha256 == RuleSet.empty().sha256:
        return {}
    features = record.features.by_name()
    columns = {n: np.array([v], object if isinstance(v, str) else np.float64) for n, v in features.items()}
    ruled = versions.rules(record.rules.sha256).judge(EventBatch.from_rows([record.event]), columns)
    return {"rules": ruled.records()[0]}


def _score(version: str | None, log_odds: float | None) -> Score | None:
    sha12 = sha12_of(version) if version else None
    return Score(np.array([log_odds]), sha12) if sha12 and log_odds is not None else None
