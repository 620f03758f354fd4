"""The language of rules: CEL (https://cel.dev) over one event, compiled and type-checked by Google's own library.

What a rule may do is bounded: CEL has no loops but its macros, and those are off, so a rule costs a time that is linear
in its length. It sees the values below and nothing of Python.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from cel_expr_python import cel

from feature_repo.event_schemas import CATALOGUE
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES

MAX_LENGTH = 1000
# Lists of a rules file are read as `listed.<name>`: whether the event's entity of the list's kind is on it.
LISTED = "listed."

TEXTS: tuple[str, ...] = tuple(name for name, spec in CATALOGUE.fields.items() if spec.json_type == "string")
# A feature that is a field keeps the feature's meaning: promo_applied is 0 or 1, as for the models.
_NUMBERS = dict.fromkeys((*MODEL_FEATURES, *CATALOGUE.fields))
NUMBERS: tuple[str, ...] = tuple(
    name
    for name in _NUMBERS
    if name not in CATEGORICAL_FEATURES
    and (name in MODEL_FEATURES or CATALOGUE.fields[name].json_type in {"integer", "number"})
)
BOOLEANS: tuple[str, ...] = tuple(
    name for name, spec in CATALOGUE.fields.items() if spec.json_type == "boolean" and name not in NUMBERS
)

# What a number may be, for the check: an error that shows at none of these is left to run time.
_EXAMPLES = (0.0, 1.0, 1e12, -1e12)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_TEXT = re.compile(r"""\"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|//.*""")
_UNKNOWN_IS_MEANT = "math.isNaN"


class BadExpression(ValueError):
    """An expression cannot be used; the message says why."""


@dataclass(frozen=True)
class Condition:
    """A checked expression.

    Attributes:
        names: the values that it reads.
        expression: the compiled form.
    """

    names: frozenset[str]
    expression: cel.Expression

    def evaluate(self, values: cel.Activation) -> bool | str:
        """Whether it is true of an event, or the error that evaluating it is."""
        try:
            found = self.expression.eval(values).value()
        except RuntimeError as error:
            return str(error)
        return found if isinstance(found, bool) else str(found)


class Language:
    """Compiles and checks expressions.

    Args:
        lists: the names of the rules file's lists.
    """

    def __init__(self, lists: Collection[str] = ()) -> None:
        self._types = {
            **dict.fromkeys(TEXTS, cel.Type.STRING),
            **dict.fromkeys(NUMBERS, cel.Type.DOUBLE),
            **dict.fromkeys(BOOLEANS, cel.Type.BOOL),
            **{LISTED + name: cel.Type.BOOL for name in lists},
        }
        config = cel.NewEnvConfigFromYaml("stdlib: {disable_macros: true}\nextensions: [{name: math}]")
        self._environment = cel.NewEnv(config=config, variables=self._types)

    def values(self, given: Mapping[str, Any]) -> cel.Activation:
        """The values of one event, for `Condition.evaluate`."""
        return self._environment.Activation(given)

    def compile(self, source: str, event_types: Sequence[str]) -> Condition:
        """Compiles an expression and tries it on examples of the event types that it is for.

        Raises:
            BadExpression: it names something unknown, has a type error, is no yes or no, reads a field that its events
                never have, fails on an example, or holds where nothing is known.
        """
        if len(source) > MAX_LENGTH:
            raise BadExpression(f"has {len(source):,} characters, {MAX_LENGTH:,} are allowed")
        try:
            expression = self._environment.compile(source)
        except RuntimeError as error:
            raise BadExpression(self._explain(str(error))) from None
        result = expression.return_type().name()
        if result != "BOOL":
            raise BadExpression(f"must be true or false, and is {result.lower()}")
        names = _names(source) & self._types.keys()
        _check_fields(names, event_types)
        condition = Condition(names, expression)
        self._check_examples(source, condition, event_types)
        return condition

    def _check_examples(self, source: str, condition: Condition, event_types: Sequence[str]) -> None:
        for event_type in event_types:
            nothing = self._example(condition.names, event_type, nan, "", False)
            examples = [self._example(condition.names, event_type, number, "x", True) for number in _EXAMPLES]
            unknown, *known = [condition.evaluate(self.values(example)) for example in (nothing, *examples)]
            for found in (unknown, *known):
                if isinstance(found, str):
                    raise BadExpression(f"fails on an example of {event_type}: {found}")
            if unknown and _UNKNOWN_IS_MEANT not in source:
                raise BadExpression(
                    f"holds for a {event_type} of which nothing is known, so it would while the store is down: compare "
                    f"without a negation, or ask {_UNKNOWN_IS_MEANT}(...) where that is meant"
                )

    def _example(self, names: Collection[str], event_type: str, number: float, text: str, yes: bool) -> dict[str, Any]:
        by_type = {cel.Type.DOUBLE.name(): number, cel.Type.STRING.name(): text, cel.Type.BOOL.name(): yes}
        example = {name: by_type[self._types[name].name()] for name in names}
        return {**example, "event_type": event_type} if "event_type" in names else example

    def _explain(self, complaint: str) -> str:
        """The checker's first complaint in one line, with a hint."""
        first = complaint.removeprefix("INVALID_ARGUMENT: ").partition("\n")[0]
        first = re.sub(r"^ERROR: <input>:(\d+):(\d+): ", r"line \1, column \2: ", first)
        unknown = re.search(r"undeclared reference to '([^']+)'", first)
        if unknown:
            near = difflib.get_close_matches(unknown[1], self._types, 3)
            hint = f"; did you mean {', '.join(near)}?" if near else "; docs/rules.md lists what a rule can read"
            return first.replace(" (in container '')", "") + hint
        if re.search(r"\(.*\bdouble\b.*\bint\b|\(.*\bint\b.*\bdouble\b", first):
            return f"{first}; numbers are written with a decimal point: 5.0"
        return first


def _names(source: str) -> frozenset[str]:
    """Every name in an expression; of `city.matches` and `listed.riders` also what stands before a point."""
    chains = [word.split(".") for word in _WORD.findall(_TEXT.sub("", source))]
    return frozenset(".".join(chain[:end]) for chain in chains for end in range(1, len(chain) + 1))


def _check_fields(names: Collection[str], event_types: Sequence[str]) -> None:
    for name in sorted(CATALOGUE.fields.keys() & names):
        for event_type in event_types:
            if name not in CATALOGUE.allowed[event_type]:
                raise BadExpression(f"reads {name}, which no {event_type} has")
