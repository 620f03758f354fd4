"""Moves the alias `champion`, for all three models or for none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from components import model_registry
from components.errors import RegistryError
from components.mlflow_client import MlflowClient, MlflowException, mlflow_client
from components.model_registry import ModelVersion
from components.register_model.logic import MODELS
from inference_services.bundle import verify
from inference_services.errors import BundleError
from inference_services.model_names import FUSION, GNN, LIGHTGBM
from inference_services.transformer.fusion import Fusion

CHAMPION, CHALLENGER = "champion", "challenger"
_Aliases = dict[tuple[str, str], str | None]


def promote(tracking_uri: str) -> list[ModelVersion]:
    """Makes the challenger of every model the champion; there is no challenger afterwards.

    MLflow moves one alias at a time. On an error half-way, those that had moved go back; a promotion that was killed
    is finished by the next.

    Raises:
        RegistryError: a model has no challenger, its bundle is missing or altered, or the three do not belong together.
        MlflowException: the server failed half-way; the aliases are as they were, or the message says which are not.
    """
    candidates = _candidates(tracking_uri)
    for version in candidates:
        _check_bundle(version)
    _check_together(candidates)
    client = mlflow_client(tracking_uri)
    before = {(name, alias): _holder(client, name, alias) for name in MODELS for alias in (CHAMPION, CHALLENGER)}
    with _all_or_none(client, before):
        for version in candidates:
            client.set_registered_model_alias(version.name, CHAMPION, str(version.version))
        # The fusion's last: by it a promotion that was killed is known, and finished.
        for name in MODELS:
            if before[name, CHALLENGER] is not None:
                client.delete_registered_model_alias(name, CHALLENGER)
    return [model_registry.get(tracking_uri, name, CHAMPION) for name in MODELS]


def _candidates(tracking_uri: str) -> list[ModelVersion]:
    """The three challengers; where a killed promotion took the alias from one already, the champion that it became."""
    fusion = model_registry.get(tracking_uri, FUSION, CHALLENGER)
    found = []
    for name in (LIGHTGBM, GNN):
        try:
            found.append(model_registry.get(tracking_uri, name, CHALLENGER))
        except RegistryError:
            champion = model_registry.get(tracking_uri, name, CHAMPION)
            if champion.sha12 not in _named_by(fusion):
                raise RegistryError(f"{name} has no challenger: run `fraud train --alias challenger`") from None
            found.append(champion)
    return [*found, fusion]


def _named_by(fusion: ModelVersion) -> tuple[str, str]:
    try:
        loaded = Fusion.load(fusion.folder)
    except BundleError as error:
        raise _refused(fusion, error) from None
    return loaded.lightgbm, loaded.gnn


def _check_bundle(version: ModelVersion) -> None:
    try:
        found = verify(version.folder, version.name)
    except BundleError as error:
        raise _refused(version, error) from None
    if found.sha12 != version.sha12:
        raise RegistryError(
            f"{version.name} {version.version} is not promoted: the registry knows it as {version.sha12}, and "
            f"{version.folder} holds {found.sha12}: register it again"
        )


def _check_together(candidates: list[ModelVersion]) -> None:
    lightgbm, gnn, fusion = candidates
    for version, named in zip((lightgbm, gnn), _named_by(fusion), strict=True):
        if version.sha12 != named:
            raise RegistryError(
                f"not promoted: {fusion.name} {fusion.version} was made for the {version.name} {named}, and the "
                f"challenger is {version.version} ({version.sha12}): run `fraud train --alias challenger` again"
            )


def _refused(version: ModelVersion, error: BundleError) -> RegistryError:
    return RegistryError(f"{version.name} {version.version} is not promoted: {error}")


def _holder(client: MlflowClient, name: str, alias: str) -> str | None:
    found = client.get_registered_model(name).aliases.get(alias)
    return None if found is None else str(found)


@contextmanager
def _all_or_none(client: MlflowClient, before: _Aliases) -> Iterator[None]:
    """Puts the aliases back where they were when what is inside raises, an interruption included."""
    try:
        yield
    except BaseException as error:
        left = [" ".join(which) for which, version in before.items() if not _restored(client, *which, version)]
        if left:
            raise RegistryError(
                f"the promotion failed half-way ({error}), and these aliases could not be put back: {', '.join(left)}; "
                "run `fraud models promote` again once MLflow is up"
            ) from error
        raise


def _restored(client: MlflowClient, name: str, alias: str, version: str | None) -> bool:
    try:
        if _holder(client, name, alias) != version:
            if version is None:
                client.delete_registered_model_alias(name, alias)
            else:
                client.set_registered_model_alias(name, alias, version)
    except MlflowException:
        return False
    return True
