"""The errors of the inference services.

ServingError
├── InvalidRequest     a V2 request cannot be served: HTTP 400, gRPC INVALID_ARGUMENT
├── BundleError        a model bundle is missing, incomplete or altered
├── BadSettings        a settings file or environment variable cannot be used
├── PredictorGone      a predictor did not give a usable answer in time
├── PartDown           a part has failed again and again and is not asked now
└── CorruptRecord      what should be the record of a decision is none that this code can read
"""

from __future__ import annotations


class ServingError(Exception):
    """Base of all errors raised by this package."""


class InvalidRequest(ServingError):
    """A request is not what the V2 contract says; the message names the field, and the row if there is one."""


class BundleError(ServingError):
    """A bundle is not the one its manifest describes; the message says which file and what to do."""


class BadSettings(ServingError):
    """A setting is missing or out of range; the message names it."""


class PredictorGone(ServingError):
    """A predictor was unreachable, too slow, or answered with something unusable."""


class PartDown(ServingError):
    """A part's circuit breaker is open: it is not asked, so that nobody waits for it."""


class CorruptRecord(ServingError):
    """The record of a decision cannot be read; the message says what is wrong with it."""
