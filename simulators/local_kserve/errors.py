"""What can go wrong in the local KServe.

LocalKServeError
├── ManifestError    a manifest or the image table cannot be used as it is written
├── RevisionFailed   a revision's bundle or process failed before it was ready
└── ApiError         a request that Kubernetes would refuse; carries the HTTP status and its reason
"""

from __future__ import annotations

from collections.abc import Iterable
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


def not_found(name: str) -> ApiError:
    """404 for an InferenceService."""
    return ApiError(404, "NotFound", f'inferenceservices.serving.kserve.io "{name}" not found')


def conflict(name: str) -> ApiError:
    """409 for a change that was made from an older version than the one stored."""
    return _conflict(
        name, "the object has been modified; please apply your changes to the latest version and try again"
    )


def precondition_failed(name: str, field: str, wanted: str, found: str) -> ApiError:
    """409 for the end of an object that is another one than the client means."""
    return _conflict(name, f"Precondition failed: {field} in precondition: {wanted}, in object meta: {found}")


def _conflict(name: str, why: str) -> ApiError:
    return ApiError(
        409, "Conflict", f'Operation cannot be fulfilled on inferenceservices.serving.kserve.io "{name}": {why}'
    )


def invalid(name: str, message: str) -> ApiError:
    """422 for an InferenceService of a wrong form, or one that cannot run here."""
    return ApiError(422, "Invalid", f'InferenceService.serving.kserve.io "{name}" is invalid: {message}')


def unknown_fields(paths: Iterable[str]) -> ApiError:
    """400 for fields that the definition does not have, as in the API server's strict mode."""
    listed = ", ".join(f'unknown field "{path}"' for path in paths)
    return ApiError(400, "BadRequest", f"strict decoding error: {listed}")


def denied(webhook: str, refusals: Iterable[str]) -> ApiError:
    """403 for an object that a validating webhook refuses."""
    message = f'admission webhook "{webhook}" denied the request: {"; ".join(refusals)}'
    return ApiError(403, "Forbidden", message)
