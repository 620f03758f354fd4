"""The choices of an evaluation over time."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from components.train_gnn.settings import GnnSettings
from components.train_lightgbm.settings import LightGbmSettings


class PrequentialSettings(BaseModel):
    """Equal settings, data and code give equal scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weeks: int = Field(6, ge=1, description="Weeks that are judged: the last whole ones that can be.")
    refit_every: int = Field(2, ge=1, description="Weeks from one refit to the next.")
    history_days: int = Field(74, ge=8, description="Most days of settled labels that a refit learns from.")
    valid_days: int = Field(7, ge=1, description="Days of them to stop the training by.")
    calibrate_days: int = Field(7, ge=1, description="The last of them, to calibrate and to set thresholds on.")
    warm_up_days: int = Field(3, ge=0, description="First days of the dataset left out: windows have not filled yet.")
    prefix_days: int = Field(25, ge=2, description="Days from which features are computed again to find leaks.")
    control_refits: int = Field(1, ge=1, description="Refits, the first, on which controls are trained too.")
    upper_bound: bool = Field(True, description="Train on clean labels without delay too, where the truth is known.")
    lightgbm: LightGbmSettings = Field(LightGbmSettings(), description="Of both kinds of trees; the seed is the run's.")
    gnn: GnnSettings = Field(GnnSettings(), description="Of the graph network; the seed is the run's.")
    bootstrap_rounds: int = Field(200, ge=20, description="Resamples of each interval.")
    workers: int = Field(2, ge=1, description="Processes that train at the same time; 1 is this one.")

    @property
    def held_out_days(self) -> int:
        """Days before the end of the settled ones that are not trained on."""
        return self.valid_days + self.calibrate_days


def quick() -> PrequentialSettings:
    """One refit on three weeks of history, six days of them held out, and small budgets: to see that all of it runs.

    It fits the demo's 45 days; its figures compare no models.
    """
    return PrequentialSettings(
        weeks=1,
        history_days=21,
        valid_days=3,
        calibrate_days=3,
        prefix_days=8,
        upper_bound=False,
        lightgbm=LightGbmSettings(rounds=120, patience=30),
        gnn=GnnSettings(epochs=3),
        bootstrap_rounds=100,
    )
