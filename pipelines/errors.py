"""The errors of the pipelines and of the command line.

PipelineError
├── StepError       a step cannot run; the message says what to run first
└── RegistryError   the model registry has no such model, version or alias
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base of all errors raised by this package; the command line prints its message as one line."""


class StepError(PipelineError):
    """A step cannot run: something it needs is not there."""


class RegistryError(PipelineError):
    """The model registry has no such model, version or alias."""
