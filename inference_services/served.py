"""What a process serves, as its metrics, spans and logs name it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

LABELS = ("service", "model", "model_version", "revision")


@dataclass(frozen=True)
class Served:
    """One model in one process.

    Attributes:
        service: which of the services it is, as its folder is called.
        model: name of the model in the path.
        model_version: label of the bundle.
        revision: the revision that the process is, empty outside of Knative.
    """

    service: str
    model: str
    model_version: str
    revision: str

    @classmethod
    def of(cls, model: Any, revision: str) -> Served:
        """What a process serves with this V2Model; the service is the package that its class is from."""
        package = type(model).__module__.rpartition(".")[0].rpartition(".")[2]
        return cls(package, model.name, model.version, revision)

    def labels(self) -> dict[str, str]:
        """The fields by name, `LABELS`."""
        return asdict(self)
