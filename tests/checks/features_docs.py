"""`python -m tests.checks.features_docs`: writes the tables of docs/features.md that follow from the code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from feature_repo.activity_descriptions import TILES, age, measures
from feature_repo.description import Description
from feature_repo.event_schemas import CATALOGUE
from feature_repo.feature_names import CATEGORICAL_FEATURES
from feature_repo.graph_descriptions import EDGE_DESCRIPTIONS, EVENT_DESCRIPTIONS, INTERACTION_DESCRIPTIONS
from feature_repo.graph_features import INTERACTION
from feature_repo.profiles import profile_descriptions
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.request_features import REQUEST_DESCRIPTIONS
from feature_repo.services import feature_services
from feature_repo.settings import EMBEDDING_DIM
from feature_repo.tiles import ACTIVITY_KINDS, WINDOWS, ActivityKind, Window
from feature_repo.views import CITY_NORMS, embedding_description
from tests.checks.docs_tables import with_tables

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
_VERSION = "<version>"  # of a graph model
_HEAD = ("feature", "type", "unit", "meaning", "window", "source", "missing")
Line = tuple[str, ...]


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    embedding = embedding_description("entity", f"`{_VERSION}`", EMBEDDING_DIM)
    return {
        "windows": _table(("window", "tiles", "spans"), map(_window, WINDOWS)),
        "services": _table(("service", "what it gives"), _services()),
        "event": _table(_HEAD, _event()),
        **{kind.name: _table(_HEAD, _entity(kind)) for kind in ACTIVITY_KINDS.values()},
        "city": _table(_HEAD, _rows(CITY_NORMS, "float64", "norms", "1 day")),
        "graph-event": _table(_HEAD, _rows(EVENT_DESCRIPTIONS, "float32", "event")),
        "graph-edge": _table(_HEAD, _rows(EDGE_DESCRIPTIONS, "float32", "neighbours")),
        "graph-interaction": _table(_HEAD, map(_stored, INTERACTION_DESCRIPTIONS)),
        "graph-embedding": _table(
            _HEAD, _rows({"embedding": embedding}, f"float32[{EMBEDDING_DIM}]", "embeddings", "30d")
        ),
    }


def _window(window: Window) -> Line:
    made_of = f"{window.tiles} of {TILES[window.tile_s]}"
    return f"`{window.name}`", made_of, f"{_long(window.length_s - window.tile_s)} to {_long(window.length_s)}"


def _long(seconds: int) -> str:
    unit, size = next((u, s) for u, s in (("days", 86_400), ("hours", 3600), ("minutes", 60)) if seconds >= 2 * s)
    return f"{seconds // size} {unit}"


def _services() -> Iterable[Line]:
    services = feature_services(Path(), [_VERSION])
    return ((f"`{s.name}`", s.description.replace(_VERSION, f"`{_VERSION}`")) for s in services)


def _event() -> Iterable[Line]:
    for name in CATEGORICAL_FEATURES:
        text = CATALOGUE.fields[name].description.rstrip(".")
        yield _row(name, Description(text, "name", "never"), "string", "event")
    for name, described in REQUEST_DESCRIPTIONS.items():
        yield _row(name, described, "float64", "event, norms" if name.endswith("_vs_city") else "event")


def _entity(kind: ActivityKind) -> Iterable[Line]:
    for name, described in measures(kind).items():
        yield _row(f"{name}_<window>", described, "float64", "tiles", ", ".join(w.name for w in WINDOWS))
    yield _row(f"{kind.name}_age_s", age(kind), "float64", "tiles", WINDOWS[-1].name)
    if kind.name in ENTITY_KINDS:
        yield from _rows(profile_descriptions(kind.name), "float64", "profile", "lifetime")


def _stored(name: str) -> Line:
    return _row(name, INTERACTION_DESCRIPTIONS[name], INTERACTION[name].name, "neighbours")


def _rows(described: Mapping[str, Description], dtype: str, source: str, window: str = "") -> Iterable[Line]:
    return (_row(name, text, dtype, source, window) for name, text in described.items())


def _row(name: str, described: Description, dtype: str, source: str, window: str = "") -> Line:
    return f"`{name}`", dtype, described.unit, described.text, window, source, described.missing


def _table(head: Line, rows: Iterable[Line]) -> str:
    """A Markdown table without the columns that are empty in every row."""
    body = list(rows)
    kept = [i for i in range(len(head)) if any(line[i] for line in body)]
    lines = ([line[i] for i in kept] for line in (head, ("---",) * len(head), *body))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables()), "utf-8")
