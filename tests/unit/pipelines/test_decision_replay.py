"""Decisions of real models are made again to the last bit, and what was altered or is missing is named."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from feature_repo.errors import StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import STORE_FEATURES
from feature_repo.graph_features import INTERACTION
from feature_repo.online_reader import StoreRead
from feature_repo.request_features import CityNorms
from inference_services.bundle import Bundle, write_manifest
from inference_services.decision_log.files import append
from inference_services.gnn_predictor.model import GnnPredictor
from inference_services.gnn_predictor.network import FraudGnn, GnnConfig, save_network
from inference_services.lightgbm_predictor.model import LightGbmPredictor
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.model_names import FUSION, GNN, LIGHTGBM
from inference_services.transformer.decider import Decider
from inference_services.transformer.decision_record import DecisionRecord, RulesRecord
from inference_services.transformer.feature_tensors import FEATURE_PARAMETERS
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.http_pool import HttpAnswer
from inference_services.transformer.predictors import V2Client
from inference_services.transformer.rules.rule_set import RuleSet
from inference_services.v2 import Tensors
from inference_services.v2_rest import decode, encode
from pipelines.cli_decisions import decisions_app
from pipelines.cli_errors import exit_code
from pipelines.decision_replay import Versions, replay
from pipelines.terminal import console
from tests.contract.conftest import write_lightgbm_bundle
from tests.contract.fusion_bundle import PAYMENT, write_fusion
from tests.unit.inference_services.rule_files import content, rule

RULES = "rules.yaml"


@dataclass(frozen=True)
class Published:
    """Bundles as the registry publishes them, and a rules file."""

    root: Path
    lightgbm: Bundle
    gnn: Bundle
    fusion: Bundle

    def versions(self) -> Versions:
        return Versions(self.root, self.root / RULES)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("bundles")
    made = write_lightgbm_bundle(root / "made-lightgbm"), _write_gnn(root / "made-gnn")
    offsets = {"city": {"tehran": 0.3}, "tenure": {"90 days or more": -0.1}}
    fusion = write_fusion(root / "made-fusion", made[0].sha12, offsets, made[1].sha12)
    for name, bundle in zip((LIGHTGBM, GNN, FUSION), (*made, fusion), strict=True):
        shutil.move(bundle.folder, root / name / bundle.label)
    (root / RULES).write_bytes(content(rule("dear", "amount > 8e6", action="block"), rule("tried", dry_run=True)))
    return Published(root, *made, fusion)


def _write_gnn(folder: Path) -> Bundle:
    folder.mkdir()
    torch.manual_seed(5)
    network = FraudGnn(GnnConfig(node_features=("one", "two")))
    save_network(network, folder)
    calibration = {"full": {"slope": 1.3, "intercept": -0.7}, "no_graph": {"slope": 0.8, "intercept": -0.2}}
    (folder / "calibration.json").write_text(json.dumps(calibration))
    return write_manifest(folder, GNN, {})


class Server:
    """A predictor behind the bytes of its protocol, or none at all."""

    def __init__(self, model: Any, alive: bool) -> None:
        self._model, self._alive = model, alive

    async def post(self, path: str, headers: bytes, body: bytes) -> HttpAnswer:
        if not self._alive:
            raise OSError("connection refused")
        length = re.search(rb"inference-header-content-length: (\d+)\r\n", headers)
        assert length is not None
        request = decode(body, int(length[1]))
        assert request is not None
        outputs = await self._model.answer(Tensors(request.tensors), request.wanted)
        return HttpAnswer(200, encode("id", "model", outputs, outputs.selected(request.wanted)))


class Store:
    """Random features and histories, of a store that may be down, or not give embeddings."""

    def __init__(self, alive: bool, graph: bool) -> None:
        self._alive, self._graph, self._rng = alive, graph, np.random.default_rng(9)

    async def read(self, batch: EventBatch) -> StoreRead:
        n, rng = len(batch), self._rng
        if not self._alive:
            return StoreRead.nothing(n)
        interactions = np.zeros((n, 4, 8), INTERACTION)
        interactions["id"] = rng.integers(0, 2**60, (n, 4, 8))
        interactions["kind"], interactions["key_id"] = rng.integers(0, 4, (n, 4, 8)), 1
        interactions["ts"] = batch["event_timestamp"][:, None, None] - rng.integers(1, 10**12, (n, 4, 8))
        features = {name: rng.gamma(2.0, 10.0, n) for name in STORE_FEATURES}
        norms = CityNorms.unknown(n)
        return StoreRead(True, features, norms, interactions, rng.integers(0, 9, (n, 4)), rng.integers(0, 2**60, n))

    async def embeddings(self, version: str, kinds: Any, ids: Any, key_ids: Any, dim: int) -> Any:
        if not self._graph:
            raise StoreUnavailable("down")
        return self._rng.normal(0, 0.5, (len(ids), dim)).astype(np.float32), np.ones(len(ids), np.float32)

    async def close(self) -> None:
        pass


def _events(n: int, start: int = 0) -> EventBatch:
    rng = np.random.default_rng(start)
    rows = [{**PAYMENT, "event_id": f"e{start + i}", "amount": int(rng.integers(1, 10**7))} for i in range(n)]
    return EventBatch.from_rows(rows)


def decided(
    published: Published,
    batches: Sequence[EventBatch],
    *,
    store: bool = True,
    graphs: bool = True,
    lightgbm: bool = True,
    gnn: bool = True,
) -> list[DecisionRecord]:
    """The records of decisions about some batches, as they come out of the log."""
    root = published.root
    tabular = LightGbmPredictor("fraud-detector", LightGbmScorer.load(root / LIGHTGBM / published.lightgbm.label))
    graph = GnnPredictor(GNN, root / GNN / published.gnn.label)
    decider = Decider(
        Store(store, graphs),
        V2Client(Server(tabular, lightgbm), "fraud-detector", parameters=FEATURE_PARAMETERS),
        V2Client(Server(graph, gnn), GNN),
        Fusion.load(root / FUSION / published.fusion.label),
        budget_s=30.0,
        rules=RuleSet.read(root / RULES),
    )

    async def every() -> list[bytes]:
        return [line for batch in batches for line in (await decider.decide(batch)).records.encode()]

    return [DecisionRecord.from_json(line) for line in asyncio.run(every())]


CASES: dict[str, dict[str, bool]] = {
    "everything answers": {},
    "no store": {"store": False},
    "no embeddings": {"graphs": False},
    "no embeddings and no LightGBM": {"graphs": False, "lightgbm": False},
    "no graph model": {"gnn": False},
    "no LightGBM": {"lightgbm": False},
    "no model": {"lightgbm": False, "gnn": False},
    "nothing": {"store": False, "lightgbm": False, "gnn": False},
}


@pytest.mark.parametrize("case", CASES)
def test_decisions_of_single_events_and_of_batches_are_made_again_to_the_last_bit(
    case: str, published: Published
) -> None:
    batches = [*(_events(1, i) for i in range(20)), _events(16, 100), _events(40, 200), _events(3, 300)]
    records, versions = decided(published, batches, **CASES[case]), published.versions()
    assert len(records) == 79
    replays = [replay(record, versions) for record in records]
    assert [r for r in replays if not r.same] == []
    names = {one.name for r in replays for one in r.compared}
    assert {"fraud_probability", "alarm_offset", "decision", "policy_sha256", "rules"} <= names
    assert ("lightgbm_log_odds" in names, "gnn_raw_score" in names) == (
        CASES[case].get("lightgbm", True),
        CASES[case].get("gnn", True) and CASES[case].get("store", True),
    )
    mask = "full" if CASES[case].get("graphs", True) else "no_graph"
    assert {record.availability for record in records} == {mask if CASES[case].get("store", True) else "no_store"}
    if case == "everything answers":
        assert len({record.decision for record in records}) > 1
        assert any(record.rules and record.rules.decided_by for record in records)


def tampered(record: DecisionRecord, **changes: Any) -> DecisionRecord:
    return DecisionRecord.from_json(replace(record, **changes).to_json())


def test_a_tampered_record_names_what_differs(published: Published) -> None:
    (record,), versions = decided(published, [_events(1)]), published.versions()
    assert record.lightgbm_log_odds is not None
    assert record.graph is not None
    next_up = float(np.nextafter(record.fraud_probability, 1.0))
    other = {"allow": "block", "review": "allow", "block": "allow"}[record.decision]
    zeros = replace(record.features, numbers=b64encode(np.zeros(len(record.features.names)).tobytes()).decode())
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({"fraud_probability": next_up}, {"fraud_probability"}),
        ({"decision": other}, {"decision"}),
        ({"alarm_offset": record.alarm_offset + 1e-9}, {"alarm_offset"}),
        ({"policy_sha256": "1" * 64}, {"policy_sha256"}),
        ({"lightgbm_log_odds": record.lightgbm_log_odds + 1.0}, {"lightgbm_log_odds", "fraud_probability"}),
        ({"features": zeros}, {"lightgbm_raw_score", "lightgbm_log_odds"}),
        ({"graph": replace(record.graph, endpoint_kind=record.graph.endpoint_kind[::-1])}, {"gnn_raw_score"}),
        ({"rules": RulesRecord(str(record.rules and record.rules.sha256), None, None, ("x",), (), ())}, {"rules"}),
    ]
    for changes, named in cases:
        found = replay(tampered(record, **changes), versions)
        assert not found.same
        assert named <= {one.name for one in found.differences}, changes


def test_bundles_that_are_missing_altered_or_others_are_named(published: Published, tmp_path: Path) -> None:
    records = decided(published, [_events(1)])
    root = tmp_path / "bundles"
    shutil.copytree(published.root, root)
    gnn = root / GNN / published.gnn.label
    with (gnn / "calibration.json").open("a") as file:
        file.write(" ")
    shutil.rmtree(root / FUSION)
    shutil.rmtree(root / LIGHTGBM)
    other = write_lightgbm_bundle(tmp_path / "other", seed=1)
    shutil.copytree(other.folder, root / LIGHTGBM / published.lightgbm.label)
    (root / RULES).write_text((published.root / RULES).read_text() + "\n")
    found = replay(records[0], Versions(root, root / RULES))
    assert not found.same
    assert found.compared == ()
    lightgbm, graph, fusion, rules = found.missing
    assert "another bundle than its name says" in lightgbm
    assert "'calibration.json' differs from its manifest" in graph
    assert "there is no bundle folder" in fusion
    assert "has the hash" in rules


def test_a_rules_file_is_found_by_its_hash_among_others(published: Published, tmp_path: Path) -> None:
    (record,) = decided(published, [_events(1)])
    (tmp_path / "2026-01.yaml").write_text("rules: []\n")
    shutil.copy(published.root / RULES, tmp_path / "2026-02.yaml")
    assert replay(record, Versions(published.root, tmp_path)).same


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What the command has printed since the last call."""
    file = io.StringIO()
    monkeypatch.setattr(console, "file", file)

    def text() -> str:
        found = file.getvalue()
        file.seek(0)
        file.truncate()
        return found

    return text


def show(published: Published, log: Path, event: str, *more: str) -> int:
    arguments = ["show", event, "--home", str(log), "--log", str(log), "--bundles", str(published.root)]
    arguments += ["--rules", str(published.root / RULES), *more]
    return exit_code(lambda: decisions_app(arguments), lambda: ())


def logged(records: Sequence[DecisionRecord], log: Path) -> Path:
    append(log, [(f"{1_770_000_000_000 + i}-0", record.to_json()) for i, record in enumerate(records)])
    return log


def test_show_prints_the_decision_and_that_it_was_made_again(
    published: Published, tmp_path: Path, printed: Callable[[], str]
) -> None:
    records = decided(published, [_events(5)])
    log = logged(records, tmp_path)
    assert show(published, log, "e3") == 0
    page = printed()
    for said in (records[3].decision, "e3", "payment_authorized", str(records[3].lightgbm_version), "to the last bit"):
        assert said in page
    for reason in records[3].reasons:
        assert reason["text"] in page
    assert show(published, log, "e3", "--json") == 0
    (told,) = json.loads(printed())
    assert told["replay"]["same"]
    assert told["record"] == orjson.loads(records[3].to_json())
    assert len(told["replay"]["compared"]) > 8


def test_show_ends_with_1_and_a_line_where_a_bit_differs_or_nothing_is_found(
    published: Published, tmp_path: Path, printed: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    (record,) = decided(published, [_events(1)])
    log = logged([record, tampered(record, decision_id="other", gnn_raw_score=0.5)], tmp_path)
    assert show(published, log, "e0") == 1
    page = printed()
    assert "to the last bit" in page
    assert "gnn_raw_score was 0.5 and is" in page
    assert "1 of 2 decisions about e0 could not be made again alike" in capsys.readouterr().err
    assert show(published, log, "e7") == 1
    assert "no decision about event e7" in capsys.readouterr().err


def test_list_shows_the_newest_decisions(published: Published, tmp_path: Path, printed: Callable[[], str]) -> None:
    records = decided(published, [_events(5)])
    log = logged(records, tmp_path)
    arguments = ["list", "--log", str(log), "--limit", "2"]
    assert exit_code(lambda: decisions_app(arguments), lambda: ()) == 0
    table = printed()
    assert ("e4" in table, "e3" in table, "e2" in table) == (True, True, False)
    assert exit_code(lambda: decisions_app([*arguments, "--json", "--decision", records[0].decision]), lambda: ()) == 0
    assert {row["decision"] for row in json.loads(printed())} == {records[0].decision}
    assert exit_code(lambda: decisions_app([*arguments, "--decision", "maybe"]), lambda: ()) == 1
