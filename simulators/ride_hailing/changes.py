"""What a schedule of change consists of: one record for each planned break with the past.

| record | kind of drift | what stays as it was |
|---|---|---|
| Jamming, Holiday | covariate: P(x) moves | who cheats, and how |
| ConceptDrift | concept: P(fraud given x) moves | every raw field's distribution, the rate of fraud |
| LabelShift | label: P(fraud) moves | how the typology cheats |
| NewTypology | a class nobody was trained on | everything before its first day |

The first three kinds follow Moreno-Torres et al., "A unifying view on dataset shift in classification", Pattern
Recognition 45(1), 2012. When and how strongly they come is assumed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class _Change(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    day: int = Field(ge=0, description="First day of the change, counted from the world's first day.")


class _Period(_Change):
    until: int = Field(ge=1, description="First day after the change.")

    @field_validator("until")
    @classmethod
    def _ends_after_it_starts(cls, until: int, info: ValidationInfo) -> int:
        if until <= info.data.get("day", -1):
            raise ValueError(f"ends on day {until}, not after its start on day {info.data['day']}")
        return until


class Jamming(_Period):
    """GPS of a city is jammed for hours on each of these days."""

    kind: Literal["jamming"] = "jamming"
    city: str = Field(description="One of the world's cities.")


class Holiday(_Period):
    """Everybody keeps the habits of the day of rest."""

    kind: Literal["holiday"] = "holiday"


class ConceptDrift(_Change):
    """The typology changes its ways, and no raw field's distribution moves; a second one changes them back.

    See tactics.py: abusers take the hours and the GPS readings of honest trips, which take theirs. It is for the
    typologies that show in these: bursts of rings, readings of spoofers, and the phones of tenants.
    """

    kind: Literal["concept_drift"] = "concept_drift"
    typology: Literal["collusion", "gps_spoofing", "account_rental"] = Field(description="Whose ways.")


class LabelShift(_Period):
    """The typology occurs `factor` times as often."""

    kind: Literal["label_shift"] = "label_shift"
    typology: str = Field(description="One of TYPOLOGIES.")
    factor: float = Field(ge=0.0, le=20.0, description="On the number of incidents.")


class NewTypology(_Change):
    """The typology does not occur before this day."""

    kind: Literal["new_typology"] = "new_typology"
    typology: str = Field(description="One of TYPOLOGIES.")


Change = Annotated[Jamming | Holiday | ConceptDrift | LabelShift | NewTypology, Field(discriminator="kind")]
