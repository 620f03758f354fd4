"""The MLflow client of every step, without the plugin that Feast brings, and soon told when the server is away."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import EntryPoint

# Read when MLflow loads. A library may not report on our runs to others.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Printing is the command line's.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Left alone, a call to a server that is away is repeated for four minutes. What cannot be said now waits in the outbox.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import httpx
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils import plugins

from components.errors import MlflowUnreachable

__all__ = ["MlflowClient", "MlflowException", "is_away", "mlflow_client", "unreachable"]

_HEADER_PROVIDERS = "mlflow.request_header_provider"
_PROBE_S = 4.0
_PROBES = 2
# What MLflow's client calls a connection that fails, a timeout, and a server's own fault.
_AWAY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


def mlflow_client(tracking_uri: str) -> MlflowClient:
    """A client of the tracking server and the registry behind it, which has just answered.

    Feast registers a header provider with MLflow that sends the pod's service-account token to whatever server is
    asked, and costs an import of all of Feast, 3 to 6 s, in every process. It is left out; a server that wants
    credentials gets them through MLflow's own `MLFLOW_TRACKING_TOKEN`.

    Raises:
        MlflowUnreachable: the server did not answer within about 10 s.
    """
    _probe(tracking_uri)
    _load_header_providers()
    return MlflowClient(tracking_uri)


def is_away(error: Exception) -> bool:
    """Whether an error of a call means that the server is away or ill, and not that it refused what was asked."""
    if isinstance(error, MlflowException):
        return error.error_code in _AWAY
    # Artifacts are sent by requests without MLflow's own errors around its: an OSError with the request and the answer.
    if not (isinstance(error, OSError) and hasattr(error, "request")):
        return False
    answer = getattr(error, "response", None)
    return answer is None or answer.status_code >= 500


def unreachable(tracking_uri: str, error: Exception) -> MlflowUnreachable:
    """The error that says so in one line."""
    reason = (str(error) or repr(error)).splitlines()[0]
    return MlflowUnreachable(f"MLflow at {tracking_uri} does not answer ({reason:.200}): is it up?")


def _probe(tracking_uri: str) -> None:
    """Asks for the server's health: a short question, since the calls themselves must be allowed to take longer."""
    if not tracking_uri.startswith(("http://", "https://")):
        return
    for attempt in range(1, _PROBES + 1):
        try:
            answer = httpx.get(f"{tracking_uri.rstrip('/')}/health", timeout=_PROBE_S, follow_redirects=True)
            # Any answer will do, a 401 say; but a gateway speaks for a server that is away with a 502 or 503.
            if answer.is_server_error:
                answer.raise_for_status()
        except httpx.HTTPError as error:
            if attempt == _PROBES:
                raise unreachable(tracking_uri, error) from None
        else:
            return


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
