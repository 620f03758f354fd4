"""The errors of the components.

ComponentError
├── InvalidDataset   a dataset's snapshot cannot be trained on; the message names the column or day and why
├── InvalidFeatures  computed features break a rule; the message names the column, the rule and a row
├── TooFewLabels     a split cannot be learnt from, calibrated on or judged by
├── GateFailed       a trained model broke a bound; the message names the bound
├── RegistryError    the model registry has no such model, version or alias
├── KServeRefused    the Kubernetes API refuses, or is away
├── NotServing       an InferenceService does not come to serve what it was asked to
├── RolledBack       a canary was sent back; the message says what it did
└── MlflowUnreachable  the tracking server is away; what a run had to say waits in its outbox
"""

from __future__ import annotations


class ComponentError(Exception):
    """Base of the errors raised by the components; a pipeline's failure shows its message."""


class InvalidDataset(ComponentError):
    """A dataset's snapshot cannot be trained on."""


class InvalidFeatures(ComponentError):
    """Computed features break a rule; the message names the column, the rule and a row."""


class TooFewLabels(ComponentError):
    """A split has no fraud or no honest events; the message names it."""


class GateFailed(ComponentError):
    """A trained model broke a bound of the gate; the message names every broken bound."""


class RegistryError(ComponentError):
    """The model registry has no such model, version or alias."""


class KServeRefused(ComponentError):
    """The Kubernetes API refuses a call or does not answer, or there is no cluster."""


class NotServing(ComponentError):
    """An InferenceService does not come to serve what it was asked to."""


class RolledBack(ComponentError):
    """A canary was sent back, and the champion serves alone; the message says why."""


class MlflowUnreachable(ComponentError, ConnectionError):
    """The tracking server does not answer; the message names it and why."""
