"""The choices of a LightGBM training run; apart from the training, so that reading them needs no LightGBM."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LightGbmSettings(BaseModel):
    """Equal settings and data give equal trees, unless a search ran into `search_seconds`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(7, ge=0, description="Seeds feature sampling, the choice of masked rows, and the search.")
    rounds: int = Field(500, ge=1, description="Most trees.")
    patience: int = Field(60, ge=1, description="Stop after so many trees without a better validation score.")
    learning_rate: float = Field(0.05, gt=0, le=1, description="Shrinkage of each tree.")
    num_leaves: int = Field(31, ge=2, description="Most leaves of a tree.")
    min_data_in_leaf: int = Field(40, ge=1, description="Fewest rows of a leaf.")
    feature_fraction: float = Field(0.5, gt=0, le=1, description="Share of the features that a tree may use.")
    lambda_l2: float = Field(10.0, ge=0, description="L2 penalty on leaf values.")
    masked_share: float = Field(0.1, ge=0, le=1, description="Share of rows repeated as if the store were down.")
    num_threads: int = Field(2, ge=1, description="Threads while training.")
    monotone: Literal["off", "basic", "intermediate", "advanced"] = Field(
        "basic", description="How LightGBM keeps the directions of `monotone.py`."
    )
    trials: int = Field(0, ge=0, description="Settings to try in a search before the training; 0 searches none.")
    search_seconds: float = Field(1800.0, gt=0, description="A search starts no further trial after so long.")
