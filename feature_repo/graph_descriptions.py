"""What the graph model reads of an event, of a past interaction and of an entity: `graph_features.py` in words."""

from __future__ import annotations

from feature_repo.description import Description
from feature_repo.graph_features import EDGE_FEATURES, EVENT_FEATURES
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.request_features import REQUEST_DESCRIPTIONS

_FLAG, _NEVER, _POSITION = "0 or 1", "never", "position"
_SPECIAL: dict[str, Description] = {
    "detour_ratio": Description("detour_ratio of the event, cut at 10", "ratio", "0, where unknown"),
    "promo_applied": Description("promo_applied of the event, or no", _FLAG, "0, where unknown"),
    "hour_sin": Description("Sine of hour_of_day as an angle, 24 hours to the circle", "-1 to 1", _NEVER),
    "hour_cos": Description("Cosine of hour_of_day as an angle, 24 hours to the circle", "-1 to 1", _NEVER),
    "has_payment_instrument": REQUEST_DESCRIPTIONS["has_payment_instrument"],
    "is_own": Description("Whether the counterpart is one of the event's own entities", _FLAG, _NEVER),
    **{
        f"log_times_with_{kind}": Description(
            f"Logarithm of 1 + how often the counterpart is among the last interactions of the event's "
            f"{kind.replace('_', ' ')}",
            "log(interactions)",
            "0, without such an entity",
        )
        for kind in ENTITY_KINDS
    },
    "log_age_hours": Description("Logarithm of 1 + hours from the interaction to the event", "log(h)", _NEVER),
}


def _of_event(name: str) -> Description:
    if name in _SPECIAL:
        return _SPECIAL[name]
    what, _, rest = name.partition("_")
    if what == "log":
        plain = REQUEST_DESCRIPTIONS[rest]
        return Description(f"Logarithm of 1 + {rest}", f"log({plain.unit})", "0, where unknown")
    verb = {"is": f"is of type {rest}", "has": f"names a {rest.replace('_', ' ')}"}[what]
    return Description(f"Whether the event {verb}", _FLAG, _NEVER)


def _of_interaction(name: str) -> Description:
    if name in _SPECIAL:
        return _SPECIAL[name]
    what, _, rest = name.partition("_")
    if what == "log":
        plain = INTERACTION_DESCRIPTIONS[rest]
        return Description(f"Logarithm of 1 + the interaction's {rest}", f"log({plain.unit})", plain.missing)
    return Description(f"Whether the interaction was of type {rest}", _FLAG, _NEVER)


# One past interaction as `<kind>_neighbours` holds it.
INTERACTION_DESCRIPTIONS: dict[str, Description] = {
    "id": Description("The 64 bits in the counterpart's pseudonym", "hash", _NEVER),
    "kind": Description(f"The counterpart's kind among {', '.join(ENTITY_KINDS)}", _POSITION, _NEVER),
    "key_id": Description("The key of the counterpart's pseudonym", "1 to 255", _NEVER),
    "event_type": Description("The event's type, in the order of the envelope's schema", _POSITION, _NEVER),
    "ts": Description("When the interaction happened", "µs since the epoch", _NEVER),
    "amount": Description("The event's amount", "toman", "0, without one"),
}
EVENT_DESCRIPTIONS: dict[str, Description] = {name: _of_event(name) for name in EVENT_FEATURES}
EDGE_DESCRIPTIONS: dict[str, Description] = {name: _of_interaction(name) for name in EDGE_FEATURES}
