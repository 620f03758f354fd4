"""Feast with the production settings and Spark in its local mode, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pipelines.local_stack import PROJECT_ROOT

SETTINGS = PROJECT_ROOT / "feature_repo" / "feature_store.production.yaml"
_ENVIRONMENT = PROJECT_ROOT / ".venv-scale"
_TIMEOUT_S = 900


class NotInstalled(Exception):
    """Spark cannot run here; the message says what to install."""


class SparkFeast:
    """Runs Feast under feature_store.production.yaml; only addresses are those of this machine.

    Args:
        folder: for Spark's scratch files, the SQL registry and the logs.
        offline: folder of the parquet files, which Spark reads as it would read object storage.
        redis: host:port of nodes of a Redis Cluster, comma-separated.

    Raises:
        NotInstalled: there is no Java, or the environment is not there.
    """

    def __init__(self, folder: Path, offline: Path, redis: str) -> None:
        home = os.environ.get("JAVA_HOME")
        if not (shutil.which("java") or (home and Path(home, "bin", "java").exists())):
            raise NotInstalled("Spark needs Java 17 or newer: install it, or set JAVA_HOME")
        self._python = _ENVIRONMENT / "bin" / "python"
        if not self._python.exists():
            raise NotInstalled(f"{_ENVIRONMENT.name} is not there: `make check-scale` creates it")
        self.log = folder / "spark.log"
        self._env: Mapping[str, str] = {
            **os.environ,
            "PYTHONPATH": str(PROJECT_ROOT),
            "FRAUD_FEATURES_FEAST_SETTINGS": str(SETTINGS),
            "FRAUD_REGISTRY_URL": f"sqlite:///{folder}/registry.sqlite",
            "FRAUD_REDIS_CLUSTER": redis,
            "FRAUD_FEATURES_REDIS_URL": f"redis://{redis.split(',', maxsplit=1)[0]}",
            "FRAUD_FEATURES_REDIS_TYPE": "redis_cluster",
            "FRAUD_FEATURES_REGISTRY": str(folder / "unused" / "registry.db"),
            "FRAUD_FEATURES_OFFLINE": str(offline),
            "FRAUD_FEATURES_OBJECT_STORAGE": offline.absolute().as_uri(),
            "SPARK_CONF_DIR": str(PROJECT_ROOT / "feature_repo" / "spark"),
            "SPARK_LOCAL_DIRS": str(folder),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": str(self._python),  # otherwise Spark's workers take whatever python3 is
            "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false pyspark-shell",
            # Far from UTC, so that a session that takes the machine's time zone is found out.
            "TZ": "Asia/Tehran",
        }

    def feast(self, *arguments: str) -> bool:
        """Runs the `feast` command; returns whether it succeeded."""
        return self._run(["-m", "feast.cli.cli", "-c", str(SETTINGS.parent), "-f", str(SETTINGS), *arguments])

    def materialize(self, until: datetime) -> bool:
        """Runs the platform's own materialisation through Spark; returns whether it succeeded."""
        return self._run(["-m", "tests.checks.scale_spark", "materialize", until.isoformat()])

    def join(self, rows: Path, out: Path) -> bool:
        """Joins the training features for the entity rows of one file into another; returns whether it succeeded."""
        return self._run(["-m", "tests.checks.scale_spark", "join", str(rows), str(out)])

    def log_tail(self, lines: int = 15) -> str:
        """The end of what the last commands printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _run(self, arguments: list[str]) -> bool:
        with self.log.open("ab") as log:
            done = subprocess.run(
                [str(self._python), *arguments],
                env=self._env,
                cwd=PROJECT_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT_S,
                check=False,
            )
        return done.returncode == 0
