"""What a rollout acts on: the manifests' services in the local KServe, two registered versions, and live traffic."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from components import kserve_api
from components.model_registry import ModelSet, ModelVersion
from components.register_model.logic import MODELS, publish
from inference_services.bundle import verify
from inference_services.decision_log.files import append
from inference_services.transformer.predictors import Answer
from pipelines import deploy
from pipelines.workspace import Workspace
from simulators.local_kserve import LocalKServe
from tests.conftest import ROOT
from tests.decision_samples import decisions
from tests.pipeline.model_sets import make_set

MANIFESTS = ROOT / "manifests" / "base"
_SERVICES = ("transformer", "lightgbm_predictor", "gnn_predictor")
CHALLENGERS = ("good", "failing", "broken")
_SCORES = ("raw_score", "log_odds", "probability")


def start_kserve(folder: Path) -> LocalKServe:
    """A local KServe in which a small fake stands for each of the services."""
    package = folder / "path" / "inference_services"
    package.mkdir(parents=True)
    for name in _SERVICES:
        shutil.copy(Path(__file__).with_name("service_fake.py"), package / f"{name}.py")
    # Not the working folder's package of that name.
    env = {"PYTHONPATH": str(package.parent), "PYTHONSAFEPATH": "1"}
    images = {f"fraud-{name.replace('_', '-')}": {"python": sys.executable, "env": env} for name in _SERVICES}
    return LocalKServe(MANIFESTS, folder / "state", images, {"fraud-bundles": folder}, drain_s=5)


@dataclass(frozen=True)
class Stage:
    """Champion deployed, challenger published.

    Attributes:
        kserve: the local KServe.
        home: a workspace's folder, to whose decision log `traffic` writes.
        champion: the models that serve.
        challenger: the ones that are to.
    """

    kserve: LocalKServe
    home: Path
    champion: ModelSet
    challenger: ModelSet

    @property
    def api(self) -> Any:
        return self.kserve.api()

    @property
    def log(self) -> Path:
        return Workspace(self.home).decision_log

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """Requests to both predictors while inside, one after the other, each logged as a decision."""
        done = threading.Event()
        thread = threading.Thread(target=self._send, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _send(self, done: threading.Event) -> None:
        status = {name: kserve_api.get(self.api, name)["status"] for name in (kserve_api.DETECTOR, kserve_api.GNN)}
        doors = {name: urlsplit(found["components"]["predictor"]["url"]) for name, found in status.items()}
        kept = {name: http.client.HTTPConnection(door.hostname or "", door.port) for name, door in doors.items()}
        while not done.is_set():
            records = [self._decision(kept) for _ in range(20)]
            now = time.time_ns() // 1_000_000
            append(self.log, [(f"{now}-{n}", record) for n, record in enumerate(records)])

    def _decision(self, doors: dict[str, http.client.HTTPConnection]) -> bytes:
        answers = {}
        for name, door in doors.items():
            door.request("POST", f"/v2/models/{name}/infer", b"{}")
            answer = door.getresponse()
            content = json.loads(answer.read())
            if answer.status == 200:
                answers[name] = int(content["version"])
        lightgbm = {v.version: v for v in (self.champion.lightgbm, self.challenger.lightgbm)}
        gnn = {v.version: v for v in (self.champion.gnn, self.challenger.gnn)}
        found = [
            Answer({s: np.zeros(1) for s in _SCORES}, f"{version}-{known[version].sha12}", {}) if version else None
            for version, known in ((answers.get(kserve_api.DETECTOR), lightgbm), (answers.get(kserve_api.GNN), gnn))
        ]
        batch = decisions(1, lightgbm=found[0], gnn=found[1], graph=None, decided_at=time.time_ns() // 1000)
        return next(iter(batch.encode()))


def publish_sets(folder: Path) -> dict[str, ModelSet]:
    """Publishes a champion, and challengers whose bundles hold each a word, by that word."""
    champion = make_set(folder / "champion", "champion")
    found = {}
    for version, word in enumerate(("champion", *CHALLENGERS), 1):
        folders = champion if word == "champion" else make_set(folder / word, word, champion=champion)
        found[word] = ModelSet(*(_published(folders[model], folder / "bundles", version) for model in MODELS))
    return found


def _published(folder: Path, root: Path, version: int) -> ModelVersion:
    bundle = verify(folder, folder.name)
    address = publish(bundle, root, version).as_uri()
    return ModelVersion(bundle.model, version, bundle.sha12, address, ())


def set_stage(kserve: LocalKServe, champion: ModelSet, challenger: ModelSet, home: Path) -> Stage:
    """Deploys the champion."""
    api = kserve.api()
    deploy.apply(api, deploy.with_model(deploy.manifest(MANIFESTS, kserve_api.GNN), champion.gnn.storage_uri))
    deploy.deploy_detector(api, MANIFESTS, champion.lightgbm.storage_uri, champion.fusion.storage_uri)
    for service in (kserve_api.GNN, kserve_api.DETECTOR):
        kserve.wait_ready(service)
    return Stage(kserve, home, champion, challenger)
