"""The choices of a training run of the graph network; apart from the training, so that reading them needs no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GnnSettings(BaseModel):
    """The choices of a training run; equal settings and data give equal weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(7, ge=0, description="Seeds the weights, the order of days and the sample of negatives.")
    epochs: int = Field(10, ge=1, description="Most passes over the training days.")
    patience: int = Field(4, ge=1, description="Stop after so many passes without a better validation score.")
    learning_rate: float = Field(4e-3, gt=0, description="Peak of AdamW's one-cycle schedule.")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's decoupled weight decay.")
    negatives_share: float = Field(0.1, gt=0, le=1, description="Share of each day's negatives sampled in a pass.")
    masked_share: float = Field(0.2, ge=0, le=1, description="Share of a step's events repeated without their graph.")
    hidden: int = Field(64, ge=4, le=512, description="Width of the hidden layers.")
    most_days: int = Field(60, ge=1, description="Most training days: the last.")
    window_days: int = Field(30, ge=1, le=90, description="Days of events in the graph of stage 1.")
