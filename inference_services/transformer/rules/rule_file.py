"""What a rules file may hold, and reading it with an error that names the file, the rule and the field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, field_validator, model_validator

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.pseudonyms import KIND_LETTERS, parse_pseudonym
from inference_services.errors import BadSettings
from inference_services.transformer.rules.language import MAX_LENGTH

Action = Literal["allow", "review", "block"]
# Also the label of metrics, so there are not many, and they are short.
MAX_RULES = 100
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S.*\S$")]
# What a ConfigMap can hold.
MAX_BYTES = 2**20


class NamedList(BaseModel):
    """Pseudonyms of one kind of entity, which rules know as `listed.<name>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: Line = Field(description="Whom it lists, and who keeps it.")
    kind: Literal["rider", "driver", "device", "payment_instrument"] = Field(description="Kind of its entities.")
    entries: frozenset[str] = Field(description="Their pseudonyms, as ingestion writes them.")

    @model_validator(mode="after")
    def _pseudonyms(self) -> Self:
        for position, entry in enumerate(sorted(self.entries), 1):
            try:
                parse_pseudonym(entry)
                known = entry.startswith(KIND_LETTERS[self.kind])
            except ValueError:
                known = False
            if not known:
                # The entry stays out of the message: it may be a raw id.
                raise ValueError(f"entry {position} of {len(self.entries)} in order is no pseudonym of a {self.kind}")
        return self


class Rule(BaseModel):
    """One reviewed rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="Names it in metrics, reasons and records; never used for another rule.")
    description: Line = Field(description="The sentence that a reviewer reads as the reason.")
    owner: Line = Field(description="Who answers for it.")
    reviewed_by: Line = Field(description="Who else looked at it and at its backtest.")
    reviewed_on: date = Field(description="When.")
    event_types: tuple[str, ...] = Field(min_length=1, description="The scored event types that it applies to.")
    when: str = Field(min_length=1, max_length=MAX_LENGTH, description="CEL expression: true where the rule matches.")
    action: Action = Field(description="The decision that a match is.")
    dry_run: StrictBool = Field(description="Whether it is only counted and recorded.")
    expires: date | None = Field(None, description="First day (UTC) whose events it no longer applies to.")

    @model_validator(mode="after")
    def _four_eyes(self) -> Self:
        if self.reviewed_by == self.owner:
            raise ValueError("reviewed_by must be somebody else than the owner")
        return self

    @field_validator("event_types")
    @classmethod
    def _scored(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in SCORED_EVENT_TYPES:
                raise ValueError(f"{name!r:.60} is not scored; there are {', '.join(SCORED_EVENT_TYPES)}")
        if len(set(value)) < len(value):
            raise ValueError("names an event type twice")
        return value


class RuleFile(BaseModel):
    """A rules file: named lists, and the rules in the order in which they decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lists: Mapping[Name, NamedList] = Field(description="Lists of entities by name.")
    rules: tuple[Rule, ...] = Field(max_length=MAX_RULES, description="The first live rule that matches decides.")

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        twice = [name for name, count in Counter(rule.name for rule in self.rules).items() if count > 1]
        if twice:
            raise ValueError(f"two rules are called {twice[0]}")
        return self


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would keep the last, and leaves dates to the model to read."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, count in Counter(keys).items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r:.60} twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(content: bytes, source: str) -> RuleFile:
    """Reads a rules file's content.

    Args:
        content: the YAML.
        source: what errors call the file.

    Raises:
        BadSettings: the content is no rules file; the message names what is wrong, each with its rule and field.
    """
    if len(content) > MAX_BYTES:
        raise BadSettings(f"{source}: has {len(content):,} bytes, {MAX_BYTES:,} are allowed")
    try:
        tree: Any = yaml.load(content, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadSettings(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return RuleFile.model_validate(tree)
    except ValidationError as error:
        problems = [(problem["loc"], problem["msg"].removeprefix("Value error, ")) for problem in error.errors()[:5]]
        found = "; ".join(f"{_where(tree, place)}{message}" for place, message in problems)
        raise BadSettings(f"{source}: {found}") from None


def _where(tree: Any, place: tuple[int | str, ...]) -> str:
    """The place of a problem, with a rule's name instead of its position."""
    if len(place) < 2 or place[0] != "rules":
        return "".join(f"{part}: " for part in place)
    position = int(place[1])
    entry = tree["rules"][position]
    name = entry.get("name") if isinstance(entry, dict) else None
    rule = f"rule {name:.60}" if isinstance(name, str) and name.isprintable() else f"rule {position + 1}"
    return "".join(f"{part}: " for part in (rule, *place[2:]))
