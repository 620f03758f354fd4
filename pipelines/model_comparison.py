"""What is different between two registered versions, or between the sets that two fusion versions stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.errors import ComponentError
from inference_services.bundle import Bundle, verify
from inference_services.errors import BundleError
from inference_services.model_names import FUSION, GNN, LIGHTGBM
from pipelines.errors import RegistryError
from pipelines.registry import bundle_folder
from pipelines.registry_export import Registry, Version
from pipelines.tracking import flat_params

__all__ = ["Comparison", "Difference", "Measure", "compare"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of both; None where a run has not got it."""

    name: str
    a: float | None
    b: float | None

    @property
    def difference(self) -> float | None:
        """B less A."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the bundles do not have in common."""

    model: str
    what: str
    a: str
    b: str


@dataclass(frozen=True)
class Comparison:
    """Two versions side by side.

    Attributes:
        a: the first.
        b: the second.
        measures: of both runs, each on its own test days.
        differences: between the bundles, those of LightGBM and the graph model too where fusion is compared.
        warnings: what a reader must know before reading the figures.
    """

    a: Version
    b: Version
    measures: list[Measure]
    differences: list[Difference]
    warnings: list[str]


def compare(registry: Registry, a: str, b: str, model: str = FUSION) -> Comparison:
    """Compares two versions of a model.

    Args:
        registry: all that is registered.
        a: alias or number.
        b: alias or number.
        model: whose versions.

    Raises:
        RegistryError: there is no such version.
    """
    first, second = _find(registry, model, a), _find(registry, model, b)
    names = sorted(first.metrics.keys() | second.metrics.keys())
    measures = [Measure(name, first.metrics.get(name), second.metrics.get(name)) for name in names]
    differences: list[Difference] = []
    warnings: list[str] = []
    if first.lineage.dataset_sha256 != second.lineage.dataset_sha256:
        warnings.append(
            f"the datasets differ ({_dataset(first)} and {_dataset(second)}): the test days are others, so the figures "
            "are NOT comparable; the gate's own comparison, on the same days, is among the metrics of the later run"
        )
    for left, right in zip(_set(registry, first), _set(registry, second), strict=True):
        try:
            differences += _differences(left, right)
        except (BundleError, RegistryError, ComponentError) as error:
            warnings.append(f"the bundles are not compared: {error}")
    return Comparison(first, second, measures, differences, warnings)


def _find(registry: Registry, model: str, name: str) -> Version:
    registered = registry.model(model)
    if registered is None:
        raise RegistryError(f"no model {model!r} is registered: list them with `fraud models list`")
    number = int(name) if name.isdecimal() else registered.aliases.get(name)
    for version in registered.versions:
        if version.version == number:
            return version
    aliases = ", ".join(registered.aliases) or "none"
    raise RegistryError(
        f"{model} has no version or alias {name!r}: there are versions 1 to {len(registered.versions)} and the "
        f"aliases {aliases}"
    )


def _set(registry: Registry, version: Version) -> list[Version | None]:
    """The version, and where it is a fusion the two that it was made for."""
    if version.model != FUSION:
        return [version]
    by_content = {(v.model, v.sha12): v for v in registry.versions()}
    named = ((LIGHTGBM, version.lineage.lightgbm), (GNN, version.lineage.gnn))
    return [*(by_content.get(key) for key in named), version]


def _differences(a: Version | None, b: Version | None) -> Iterator[Difference]:
    if a is None or b is None:
        raise RegistryError("a version that the fusion bundle names is not registered")
    yield Difference(a.model, "version", f"{a.version} ({a.sha12})", f"{b.version} ({b.sha12})")
    if a.sha256 == b.sha256:
        return
    facts = [_facts(v, _bundle(v)) for v in (a, b)]
    for name in sorted(facts[0].keys() | facts[1].keys()):
        left, right = (found.get(name, "") for found in facts)
        if left != right:
            yield Difference(a.model, name, left, right)
    features = [_features(_bundle(v)) for v in (a, b)]
    if added := [name for name in features[1] if name not in features[0]]:
        yield Difference(a.model, "features added", "", ", ".join(added))
    if removed := [name for name in features[0] if name not in features[1]]:
        yield Difference(a.model, "features removed", ", ".join(removed), "")


def _bundle(version: Version) -> Bundle:
    return verify(bundle_folder(f"{version.model} {version.version}", version.storage_uri), version.model)


def _facts(version: Version, bundle: Bundle) -> dict[str, str]:
    """What the bundle's manifest and the registry say of it, but for what it measured and its own identity."""
    lineage = version.lineage.model_dump(exclude={"mlflow_run", "pipeline_run", "dataset_version", "lightgbm", "gnn"})
    settings: dict[str, Any] = {"settings": bundle.metadata.get("settings", {})}
    return {**{name: str(value) for name, value in lineage.items()}, **flat_params(settings)}


def _features(bundle: Bundle) -> list[str]:
    if bundle.model != LIGHTGBM:
        return []
    return [str(name) for name in bundle.read_json("features.json")["features"]]


def _dataset(version: Version) -> str:
    return version.lineage.dataset_version or "not known"
