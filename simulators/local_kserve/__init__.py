"""A KServe for one machine: the same InferenceServices as processes, behind the same Kubernetes API."""

from simulators.local_kserve.client import LocalKServe
from simulators.local_kserve.errors import LocalKServeError

__all__ = ["LocalKServe", "LocalKServeError"]
