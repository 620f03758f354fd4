"""What a canary must show, and what it must not."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Field(gt=0, lt=1)


class JudgeSettings(BaseModel):
    """The bounds; shares are of decisions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: float = Field(0.01, gt=0, lt=0.5, description="Chance of a wrong answer of each measure at each share.")
    tolerated_missing: float = Field(
        0.002, gt=0, lt=1, description="Unanswered by the model in canary: share that is fine."
    )
    broken_missing: float = Field(0.02, gt=0, lt=1, description="Unanswered by the model in canary: share that is not.")
    tolerated_slow: float = Field(
        0.01, gt=0, lt=1, description="Canary's decisions over the budget: share that is fine."
    )
    broken_slow: float = Field(0.05, gt=0, lt=1, description="Canary's decisions over the budget: share that is not.")
    most_alarm_shift: float = Field(
        0.05, gt=0, lt=1, description="Share that is reviewed or blocked: most that it may move from the champion's."
    )
    least_decisions: int = Field(200, ge=2, description="Canary's decisions before anything but harm is believed.")
    least_known: int = Field(
        200, ge=2, description="Canary's decisions with a known outcome before their cost is compared."
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for name in ("missing", "slow"):
            tolerated, broken = (getattr(self, f"{kind}_{name}") for kind in ("tolerated", "broken"))
            if tolerated >= broken:
                raise ValueError(f"broken_{name} {broken:g} must be above tolerated_{name} {tolerated:g}")
        return self
