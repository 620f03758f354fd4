"""What a process serves, as its metrics, spans and logs name it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

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

    def labels(self) -> dict[str, str]:
        """The fields by name, `LABELS`."""
        return asdict(self)
