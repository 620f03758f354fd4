"""What each model feature says in an analyst's words, made from the definitions of the features.

A windowed count needs the words of its measure and of its entity, never a line of its own; a feature for whose measure,
entity or unit there are no words is a LookupError when this module loads, so no release can have one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from feature_repo.event_schemas import CATALOGUE
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES, PROFILE_KINDS
from feature_repo.profiles import LONGEST_DAYS_SINCE_FRAUD
from feature_repo.request_features import REQUEST_DESCRIPTIONS
from feature_repo.tiles import ACTIVITY_KINDS, LONGEST_WINDOW_S, WINDOWS, ActivityKind, Window
from inference_services.transformer.quantities import (
    count,
    counted,
    duration,
    factor,
    kmh,
    metres,
    times,
    toman,
    toman_per_km,
)
from inference_services.transformer.words import (
    COUNTS,
    ENTITIES,
    EVENT_NOUNS,
    FIELDS,
    NOUNS,
    RELATIONS,
    REQUEST,
    SUMS,
    article,
)

EVENT = "event"
_DAY_S = 86_400
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class FeatureSentence:
    """How one feature is told.

    Attributes:
        group: features of a group measure the same (one measure over several windows) and give one reason together.
        subject: the entity kind that it is about, or EVENT.
        say: the value in words.
        unknown: the sentence for a value that is not known.
        amount: a value alone, for the comparison; None where a comparison says nothing (a flag, a weekday, a city).
        usual: what peers do, with a place for the amount.
        types: the event types that can have the feature; None for all.
    """

    group: str
    subject: str
    say: Callable[[float | str], str]
    unknown: str
    amount: Callable[[float], str] | None = None
    usual: str = "have {}"
    types: frozenset[str] | None = None

    def peers(self, event_type: str) -> str:
        """Who the comparison is with, by the event's type where the feature is about the event itself."""
        return f"{EVENT_NOUNS[event_type][1]} like this" if self.subject == EVENT else ENTITIES[self.subject][1]


def feature_sentences(
    names: Sequence[str] = MODEL_FEATURES, kinds: Mapping[str, ActivityKind] = ACTIVITY_KINDS
) -> dict[str, FeatureSentence]:
    """The sentence of each of `names`, by name.

    Raises:
        LookupError: a feature has none; the message names it and what to do.
    """
    made: dict[str, FeatureSentence] = {name: _categorical(name) for name in CATEGORICAL_FEATURES}
    made |= {name: _request(name) for name in REQUEST}
    for kind in PROFILE_KINDS:
        made |= _profile(kind) | _confirmed_frauds(kind)
    for activity in kinds.values():
        made |= _activity(activity)
    missing = [name for name in names if name not in made]
    if missing:
        raise LookupError(f"no sentence for the features {', '.join(missing)}: give their words in words.py")
    return {name: made[name] for name in names}


def _categorical(name: str) -> FeatureSentence:
    def event_type(value: float | str) -> str:
        noun = EVENT_NOUNS[str(value)][0]
        return f"it is {article(noun)} {noun}"

    def city(value: float | str) -> str:
        return f"the city is {str(value).replace('_', ' ').title()}"

    say = {"event_type": event_type, "city": city}[name]
    return FeatureSentence(name, EVENT, say, f"the {name.replace('_', ' ')} is unknown")


def _request(name: str) -> FeatureSentence:
    group, text, label = REQUEST[name]
    amount, comparable = _UNITS[REQUEST_DESCRIPTIONS[name].unit]
    unknown = f"{label} is unknown"
    fields = set(FIELDS.get(name, (name,)))
    # Whether an entity is named is about the entity: without it, this and its counts are one reason.
    subject = name.removeprefix("has_") if name.startswith("has_") else EVENT
    return FeatureSentence(
        group,
        subject,
        lambda value: text.format(amount(float(value))),
        unknown,
        amount if comparable else None,
        types=frozenset(event_type for event_type, allowed in CATALOGUE.allowed.items() if fields <= allowed),
    )


def _profile(kind: str) -> dict[str, FeatureSentence]:
    entity = NOUNS[kind]

    def seen(value: float) -> str:
        # 0 is an entity that no publication knows yet.
        return f"{duration(value * _DAY_S)} ago" if value > 0 else "today"

    def tenure(value: float | str) -> str:
        return f"this {entity} was first seen {seen(float(value))}"

    def lifetime(value: float | str) -> str:
        return f"{count(float(value), 'trip', 'trips')} {ENTITIES[kind][0]} before today"

    return {
        f"{kind}_tenure_days": FeatureSentence(
            f"{kind}_tenure",
            kind,
            tenure,
            f"when this {entity} was first seen is unknown",
            seen,
            "were first seen {}",
        ),
        f"{kind}_lifetime_trips": FeatureSentence(
            f"{kind}_lifetime_trips", kind, lifetime, f"the trips {ENTITIES[kind][0]} are unknown", _plain_count
        ),
    }


def _confirmed_frauds(kind: str) -> dict[str, FeatureSentence]:
    frauds, latest = f"confirmed frauds {ENTITIES[kind][0]}", f"latest confirmed fraud {ENTITIES[kind][0]}"

    def known(value: float | str) -> str:
        return f"{count(float(value), 'confirmed fraud', 'confirmed frauds')} {ENTITIES[kind][0]} before today"

    def since(value: float | str) -> str:
        if float(value) >= LONGEST_DAYS_SINCE_FRAUD:
            return f"no confirmed fraud {ENTITIES[kind][0]} in {duration(LONGEST_DAYS_SINCE_FRAUD * _DAY_S)}"
        return f"the {latest} was {duration(float(value) * _DAY_S)} ago"

    def ago(value: float) -> str:
        longer = " or longer" if value >= LONGEST_DAYS_SINCE_FRAUD else ""
        return f"{duration(min(value, LONGEST_DAYS_SINCE_FRAUD) * _DAY_S)} ago{longer}"

    return {
        f"{kind}_confirmed_frauds": FeatureSentence(
            f"{kind}_confirmed_frauds", kind, known, f"the {frauds} are unknown", _plain_count
        ),
        f"{kind}_days_since_fraud": FeatureSentence(
            f"{kind}_latest_fraud", kind, since, f"the time since the {latest} is unknown", ago, "had it {}"
        ),
    }


def _activity(kind: ActivityKind) -> dict[str, FeatureSentence]:
    measures = [m.name for m in kind.measures] + ([kind.distinct] if kind.distinct else [])
    made = {f"{kind.name}_{m}_{w.name}": _windowed(kind.name, m, w) for m in measures for w in WINDOWS}
    made[f"{kind.name}_age_s"] = _age(kind.name)
    return made


def _windowed(kind: str, measure: str, window: Window) -> FeatureSentence:
    relation = RELATIONS.get((kind, measure)) or _words(ENTITIES, kind)[0]
    past = f"{relation} in {_window(window)}"
    group = f"{kind}_{measure}"
    if measure in SUMS:
        noun = SUMS[measure]

        def say_sum(value: float | str) -> str:
            return f"{noun} of {toman(float(value))} {past}" if value else f"no {noun} {past}"

        return FeatureSentence(group, kind, say_sum, f"the {noun} {past} are unknown", toman)
    one, many = _words(COUNTS, measure)
    none = many.removeprefix("different ")

    def say_count(value: float | str) -> str:
        return f"{count(float(value), one, many, none)} {past}"

    return FeatureSentence(group, kind, say_count, f"the number of {many} {past} is unknown", _plain_count)


def _age(kind: str) -> FeatureSentence:
    latest = f"latest event {ENTITIES[kind][0]}"

    def say(value: float | str) -> str:
        if float(value) >= LONGEST_WINDOW_S:
            return f"no event {ENTITIES[kind][0]} in {duration(LONGEST_WINDOW_S)}"
        return f"the {latest} was {duration(float(value))} ago"

    def amount(value: float) -> str:
        longer = " or longer" if value >= LONGEST_WINDOW_S else ""
        return f"{duration(min(value, LONGEST_WINDOW_S))} ago{longer}"

    return FeatureSentence(f"{kind}_age", kind, say, f"the time since the {latest} is unknown", amount, "had it {}")


def _plain_count(value: float) -> str:
    return counted(value) if value else "none"


def _window(window: Window) -> str:
    days, hours = divmod(window.length_s, _DAY_S)
    return duration(window.length_s) if hours or days > 1 else "24 hours"


def _words(table: Mapping[str, tuple[str, str]], name: str) -> tuple[str, str]:
    if name not in table:
        raise LookupError(f"no words for {name!r}: give them in words.py")
    return table[name]


def _hour(value: float) -> str:
    return f"between {value % 24:02.0f}:00 and {(value + 1) % 24:02.0f}:00"


def _weekday(value: float) -> str:
    return _WEEKDAYS[int(value) % 7]


def _flag(value: float) -> str:
    return "a" if value else "no"


# Unit of a request feature -> its writer, and whether a comparison says something.
_UNITS: Mapping[str, tuple[Callable[[float], str], bool]] = {
    "hour, 0 to 23": (_hour, False),
    "day, 0 to 6": (_weekday, False),
    "toman": (toman, True),
    "m": (metres, True),
    "s": (duration, True),
    "factor": (factor, True),
    "0 or 1": (_flag, False),
    "attempts": (partial(count, one="attempt", many="attempts"), True),
    "ratio": (times, True),
    "km/h": (kmh, True),
    "toman/km": (toman_per_km, True),
}

SENTENCES: Mapping[str, FeatureSentence] = feature_sentences()
