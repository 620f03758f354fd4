"""The business policy: what a wrong block and a missed fraud cost, and what the reviewers can take."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from inference_services.alarm_groups import OnlineDivision
from inference_services.errors import BadSettings

# Key of the window that typologies without one of their own have.
DEFAULT_MATURATION = "default"

Days = Annotated[int, Field(ge=0, le=365)]
Cost = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ThresholdSettings(BaseModel):
    """`threshold_settings.yaml`: thresholds minimise expected cost under these, never accuracy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency_budget_ms: float = Field(gt=0, description="Within which a decision is answered, milliseconds.")
    auto_recalibration_frequency_days: int = Field(ge=1, description="How often calibration is fitted anew, days.")
    review_capacity_per_day: int = Field(ge=0, description="Cases that the reviewers take in a day.")
    review_cost: Cost = Field(description="Cost of one review, toman.")
    label_maturation_days: Mapping[str, Days] = Field(
        description='Age at which silence counts as honest, days, by typology that an event may be, and "default".'
    )
    false_block_cost: Mapping[str, Cost] = Field(description="Cost of blocking an honest event, toman, by event type.")
    missed_fraud_cost: Mapping[str, Cost] = Field(description="Cost of letting a fraud pass, toman, by event type.")

    equal_alarm_rates: tuple[OnlineDivision, ...] = Field(
        (), description="Divisions whose groups' honest events are alarmed equally often; none: one threshold for all."
    )

    @field_validator("false_block_cost", "missed_fraud_cost")
    @classmethod
    def _every_scored_type(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        if set(value) != set(SCORED_EVENT_TYPES):
            raise ValueError(f"must have exactly the keys {', '.join(SCORED_EVENT_TYPES)}")
        return value

    @field_validator("equal_alarm_rates")
    @classmethod
    def _each_once(cls, value: tuple[OnlineDivision, ...]) -> tuple[OnlineDivision, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a division twice")
        return value

    @field_validator("label_maturation_days")
    @classmethod
    def _has_default(cls, value: Mapping[str, int]) -> Mapping[str, int]:
        if DEFAULT_MATURATION not in value:
            raise ValueError(f"needs the key {DEFAULT_MATURATION!r}, for typologies that it does not name")
        return value

    @classmethod
    def read(cls, path: Path) -> ThresholdSettings:
        """Reads the YAML file.

        Raises:
            BadSettings: there is no such file, or a value is missing, unknown or out of range.
        """
        try:
            content: Any = yaml.safe_load(path.read_text("utf-8"))
            return cls.model_validate(content)
        except FileNotFoundError:
            raise BadSettings(f"there is no policy file {path}") from None
        except yaml.YAMLError as error:
            raise BadSettings(f"{path} is not YAML: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadSettings(f"{path}: {where or 'the file'}: {first['msg']}") from None

    def sha256(self) -> str:
        """The hash of the policy's values, independent of the file's layout."""
        return sha256(self.model_dump_json().encode()).hexdigest()
