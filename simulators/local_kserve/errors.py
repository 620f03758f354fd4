"""What can go wrong in the local KServe.

LocalKServeError
├── ManifestError    a manifest or the image table cannot be used as it is written
├── RevisionFailed   a revision's bundle or process failed before it was ready
└── ApiError         a request that Kubernetes would refuse; carries the HTTP status and its reason
"""

from __future__ import annotations

from typing import Any


class LocalKServeError(Exception):
    """Any failure of the local KServe; the message says what was wrong and what to do."""


class ManifestError(LocalKServeError):
    """A manifest or the image table cannot be used."""


class RevisionFailed(LocalKServeError):
    """A revision could not become ready."""


class ApiError(LocalKServeError):
    """A refused API request: `code` is the HTTP status, `reason` Kubernetes' word for it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    def status(self) -> dict[str, Any]:
        """The Kubernetes `Status` object that a client expects."""
        return {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }


def not_found(namespace: str, name: str) -> ApiError:
    """404 for an InferenceService."""
    return ApiError(
        404, "NotFound", f'inferenceservices.serving.kserve.io "{name}" not found in namespace "{namespace}"'
    )


def invalid(name: str, message: str) -> ApiError:
    """422 for an InferenceService that KServe's schema or webhook would refuse."""
    return ApiError(422, "Invalid", f'InferenceService.serving.kserve.io "{name}" is invalid: {message}')
