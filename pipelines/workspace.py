"""Where a local run keeps its things, and how its steps find what is running."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from feature_repo.event_log import log_days
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.settings import FeatureSettings
from pipelines.errors import StepError

_MARKER = ".fraud-home"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder with everything that one local company has: events, datasets, models, services.

    Attributes:
        root: the folder.
    """

    root: Path

    def reset(self) -> None:
        """Makes the folder new and empty, and marks it as ours.

        Raises:
            StepError: it holds something else; nothing is removed.
        """
        marker = self.root / _MARKER
        if self.root.exists() and any(self.root.iterdir()) and not marker.exists():
            raise StepError(f"{self.root} is not empty and was not made by `fraud`: choose another --home")
        shutil.rmtree(self.root, ignore_errors=True)
        self.claim()

    def claim(self) -> None:
        """Marks the folder as ours where it is new or empty."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not any(self.root.iterdir()):
            (self.root / _MARKER).write_text("Made by `fraud`; `fraud demo` empties this folder.\n")

    @property
    def world(self) -> Path:
        """What the outside world supplies: event files, label files, and the simulator's truth."""
        return self.root / "world"

    @property
    def event_log(self) -> Path:
        """The ingested events."""
        return self.root / "event_log"

    @property
    def decision_log(self) -> Path:
        """The decisions that the running services gave."""
        return self.root / "decision_log"

    @property
    def label_log(self) -> Path:
        """The labels, by the day on which they were observed."""
        return self.world / "labels"

    @property
    def datasets(self) -> Path:
        """Immutable snapshots."""
        return self.root / "datasets"

    @property
    def kubeconfig(self) -> Path:
        """For kubectl while the services run: `.local/kubeconfig` for a home in `.local`, else in the home itself."""
        return (self.root.parent if self.root.parent.name == ".local" else self.root) / "kubeconfig"

    @property
    def bundles(self) -> Path:
        """Registered model bundles."""
        return self.root / "bundles"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def logs(self) -> Path:
        """Output of the processes."""
        return self.root / "logs"

    def features(self, redis_url: str) -> FeatureSettings:
        """The feature store's settings."""
        return FeatureSettings(
            redis_url=redis_url,
            registry=(self.root / "registry.db").absolute(),
            offline=(self.root / "offline").absolute(),
        )

    def embedded_bundles(self) -> list[Path]:
        """The graph model bundles whose embeddings are in the feature store, of those that are still here."""
        versions = sorted(p.name for p in (self.root / "offline" / "embeddings").glob("*") if p.is_dir())
        return [folder for version in versions for folder in self.bundles.glob(f"*/*-{version}")]

    def pseudonymiser(self) -> Pseudonymiser:
        """The key of pseudonyms: FRAUD_PSEUDONYM_KEY, else one that is the same for every simulated world.

        The latter protects nobody, since nobody is real; a real deployment takes its key from a secret.
        """
        given = os.environ.get("FRAUD_PSEUDONYM_KEY", "a simulated world has no secrets")
        return Pseudonymiser.of_secret(given)

    def live_day(self) -> date:
        """The last day of the world: what is replayed as traffic.

        Raises:
            StepError: there is no world.
        """
        days = log_days(self.world / "events")
        if not days:
            raise StepError(f"no events in {self.world}: run `fraud simulate` first")
        return days[-1]

    def addresses(self) -> dict[str, Any]:
        """Where the running services are.

        Raises:
            StepError: nothing is running here.
        """
        try:
            found: dict[str, Any] = json.loads((self.root / "addresses.json").read_text())
        except FileNotFoundError:
            raise StepError(f"no services run from {self.root}: start them with `fraud serve`") from None
        return found

    def write_addresses(self, addresses: dict[str, Any] | None) -> None:
        """Records where the services are; None when they have stopped."""
        path = self.root / "addresses.json"
        if addresses is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(json.dumps(addresses, indent=2) + "\n")
