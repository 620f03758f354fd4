"""A Kubeflow Pipelines server: submit a run, ask how far it is.

It talks through KFP's generated API client, `kfp_server_api`, as `kfp.Client` does: that one sets no timeout on any
request, so that a host which swallows packets would hang the command, and prints and keeps state in the home folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import kfp_server_api
import urllib3
import yaml
from kfp_server_api.exceptions import ApiException

from pipelines.errors import KfpError, KfpUnavailable
from pipelines.kfp_run import RunView, view
from pipelines.settings import KfpSettings

_LONGEST_REASON = 300


class KfpServer:
    """A server, with a bound on every request.

    Args:
        host: its API's address, http or https, for example https://kubeflow.example/pipeline.
        settings: namespace, credentials, timeouts.

    Raises:
        KfpError: the address is not one.
    """

    def __init__(self, host: str, settings: KfpSettings) -> None:
        self.host, self._settings = host.rstrip("/"), settings
        if not self.host.startswith(("http://", "https://")):
            raise KfpError(f"--host {host!r} is not an address: write it as https://kubeflow.example/pipeline")
        client = kfp_server_api.ApiClient(_configuration(self.host, settings))
        self._experiments = kfp_server_api.ExperimentServiceApi(client)
        self._runs = kfp_server_api.RunServiceApi(client)

    def submit(
        self, package: Path, arguments: Mapping[str, Any], *, experiment: str, name: str, cache: bool = True
    ) -> str:
        """Starts a run of a compiled pipeline.

        Args:
            package: compiled pipeline, YAML.
            arguments: its parameters.
            experiment: name of the experiment, created when there is none.
            name: the run's name.
            cache: whether the steps that may reuse an earlier answer do.

        Returns:
            The run's id.

        Raises:
            KfpUnavailable: the server does not answer.
            KfpError: the server refuses.
        """
        run = kfp_server_api.V2beta1Run(
            experiment_id=self._experiment(experiment),
            display_name=name,
            pipeline_spec=_pipeline_spec(package, cache=cache),
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=dict(arguments)),
            service_account=self._settings.service_account or None,
        )
        return self._id(self._call(self._runs.run_service_create_run, run), "run_id")

    def run(self, run_id: str) -> RunView:
        """How far a run is.

        Raises:
            KfpUnavailable: the server does not answer.
            KfpError: the server refuses, or has no such run.
        """
        run = self._call(self._runs.run_service_get_run, run_id)
        self._id(run, "run_id")
        return view(run)

    def link(self, run_id: str) -> str:
        """The run's page."""
        return f"{(self._settings.ui_host or self.host).rstrip('/')}/#/runs/details/{run_id}"

    def _experiment(self, name: str) -> str:
        wanted = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
        namespace = self._settings.namespace
        options = {"filter": json.dumps(wanted), **({"namespace": namespace} if namespace else {})}
        found = self._call(self._experiments.experiment_service_list_experiments, **options).experiments or []
        if not found:
            new = kfp_server_api.V2beta1Experiment(display_name=name, namespace=namespace or None)
            found = [self._call(self._experiments.experiment_service_create_experiment, new)]
        return self._id(found[0], "experiment_id")

    def _id(self, answer: Any, field: str) -> str:
        """An answer's id: a login page, say, is an answer too, which the client takes for an empty one."""
        value = getattr(answer, field, None)
        if not value:
            raise KfpError(f"{self.host} answers, but not as Kubeflow Pipelines does: is it a login page? {_TOKEN}")
        return str(value)

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        timeouts = (self._settings.connect_timeout_s, self._settings.read_timeout_s)
        try:
            return method(*arguments, **options, _request_timeout=timeouts)
        except urllib3.exceptions.HTTPError as error:
            raise KfpUnavailable(f"Kubeflow Pipelines at {self.host} does not answer: {_cause(error)}") from None
        except ApiException as error:
            raise self._refusal(error) from None

    def _refusal(self, error: ApiException) -> KfpError:
        status, where = error.status, f"Kubeflow Pipelines at {self.host}"
        if not status:
            return KfpUnavailable(f"{where} does not answer: {_one_line(error.reason)}")  # TLS
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} or 300 <= status < 400:
            return KfpError(f"{where} wants a login ({status}): {_TOKEN}")
        if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
            return KfpUnavailable(f"{where} fails ({status}): {_reason(error)}")
        return KfpError(f"{where} refuses ({status}): {_reason(error)}")


_TOKEN = "give a valid token in FRAUD_KFP_TOKEN, or name its file in FRAUD_KFP_TOKEN_FILE"  # noqa: S105 - a sentence


def _configuration(host: str, settings: KfpSettings) -> Any:
    configuration = kfp_server_api.Configuration(host=host)
    # A redirect leads to a login, and asking again is for who polls: a POST sent twice would start two runs.
    configuration.retries = urllib3.Retry(0, redirect=0, raise_on_redirect=False)
    configuration.ssl_ca_cert = str(settings.ca_file) if settings.ca_file else None
    if settings.token or settings.token_file:
        configuration.api_key_prefix["authorization"] = "Bearer"
        configuration.api_key["authorization"] = _token(settings)

        def renew(configured: Any) -> None:
            configured.api_key["authorization"] = _token(settings)

        configuration.refresh_api_key_hook = renew
    return configuration


def _token(settings: KfpSettings) -> str:
    """The token; from a file again for each request, since Kubernetes renews those while a run goes on."""
    if settings.token_file is None:
        return settings.token.get_secret_value().strip() if settings.token else ""
    try:
        return settings.token_file.read_text("utf-8").strip()
    except OSError as error:
        raise KfpError(f"FRAUD_KFP_TOKEN_FILE {settings.token_file} cannot be read: {error.strerror}") from None


def _pipeline_spec(package: Path, *, cache: bool) -> dict[str, Any]:
    """A compiled pipeline as the API takes it."""
    graph, *platform = yaml.safe_load_all(package.read_text("utf-8"))
    if not cache:
        for task in graph["root"]["dag"]["tasks"].values():
            task["cachingOptions"] = {}
    return {"pipeline_spec": graph, "platform_spec": platform[0]} if platform else dict(graph)


def _reason(error: ApiException) -> str:
    """KFP's own message where it sent one."""
    try:
        body = json.loads(error.body)
        return _one_line(body.get("message") or body.get("error") or error.reason)
    except (TypeError, ValueError, AttributeError):
        return _one_line(error.reason)


def _cause(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return _one_line(reason if isinstance(reason, BaseException) else error)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:_LONGEST_REASON]
