"""The errors of the pipelines and of the command line.

PipelineError
├── StepError       a step cannot run; the message says what to run first
└── KfpError        a Kubeflow Pipelines server refuses, or is not one
    ├── KfpUnavailable  it does not answer now, and may later
    └── RunGoesOn       nobody watches a run any more that goes on; the message says how to follow it
"""

from __future__ import annotations

from components.errors import RegistryError

__all__ = ["KfpError", "KfpUnavailable", "PipelineError", "RegistryError", "RunGoesOn", "StepError"]


class PipelineError(Exception):
    """Base of all errors raised by this package; the command line prints its message as one line."""


class StepError(PipelineError):
    """A step cannot run: something it needs is not there."""


class KfpError(PipelineError):
    """A Kubeflow Pipelines server refuses a request, or what answers is not one."""


class KfpUnavailable(KfpError):
    """A Kubeflow Pipelines server does not answer now, and may later."""


class RunGoesOn(KfpError):
    """Nobody watches a run any more that goes on; the message says how to follow it."""
