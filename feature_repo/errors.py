"""The errors of the feature repository.

FeatureRepoError
├── InvalidEvents      an event does not fit its schema
├── StoreUnavailable   the online store did not answer in time
├── DeadLettersFull    a refused event cannot be kept until somebody deals with those that are
├── CorruptValue       stored bytes are not what their writer writes
├── MissingData        a file, folder or registry that a step needs is not there
├── RunSuperseded      a materialisation may write no further: another began, or Redis lost its data
├── StateOvertaken     another worker has written an entity's state since it was read
├── BadSettings        a file that a setting names cannot be used
└── UnusableRequest    an HTTP request holds no events that could be judged
"""

from __future__ import annotations

from collections.abc import Callable

# Told of a stored value that cannot be read: what it was to be, and what is wrong with it.
OnCorrupt = Callable[[str, object], None]


class FeatureRepoError(Exception):
    """Base of all errors raised by this package."""


class InvalidEvents(FeatureRepoError):
    """An event does not fit its schema; the message names the row, the field and the reason."""


class StoreUnavailable(FeatureRepoError):
    """The online store did not answer in time, or not at all."""


class DeadLettersFull(FeatureRepoError):
    """As many dead letters are kept as may be; the message says what to do."""


class CorruptValue(FeatureRepoError):
    """Stored bytes cannot be decoded as the format they claim to be."""


class MissingData(FeatureRepoError):
    """Something a step reads is not there; the message says what to run first."""


class RunSuperseded(FeatureRepoError):
    """A materialisation may write no further: another one began, reached further, or Redis lost its data."""


class StateOvertaken(FeatureRepoError):
    """Another worker has written the state of an entity since it was read; read it again."""


class BadSettings(FeatureRepoError):
    """A file that a setting names cannot be used; the message names it."""


class UnusableRequest(FeatureRepoError):
    """A request from which no events can be read.

    Args:
        status: the HTTP status that answers it.
        message: what is wrong with it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
