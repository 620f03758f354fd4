"""The MLflow client of every step, without the plugin that Feast brings."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import EntryPoint

# Read when MLflow loads. A library may not report on our runs to others.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Printing is the command line's.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.utils import plugins

_HEADER_PROVIDERS = "mlflow.request_header_provider"


def mlflow_client(tracking_uri: str) -> MlflowClient:
    """A client of the tracking server and the registry behind it.

    Feast registers a header provider with MLflow that sends the pod's service-account token to whatever server is
    asked, and costs an import of all of Feast, 3 to 6 s, in every process. It is left out; a server that wants
    credentials gets them through MLflow's own `MLFLOW_TRACKING_TOKEN`.
    """
    _load_header_providers()
    return MlflowClient(tracking_uri)


def _load_header_providers() -> None:
    """Has MLflow look for its plugins now (it does so once), seeing none of Feast's."""
    every = plugins.get_entry_points

    def without_feast(group: str) -> list[EntryPoint]:
        return [point for point in every(group) if not (group == _HEADER_PROVIDERS and point.name == "feast")]

    plugins.get_entry_points = without_feast
    try:
        import_module("mlflow.tracking.request_header.registry")
    finally:
        plugins.get_entry_points = every
