"""Every feature that a model reads is described, once, in Feast and in docs/features.md."""

from __future__ import annotations

import re
from pathlib import Path

from feast import FeatureView

from feature_repo.activity_descriptions import activity_descriptions
from feature_repo.definitions import definitions
from feature_repo.description import Description
from feature_repo.event_schemas import CATALOGUE
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES, PROFILE_KINDS
from feature_repo.graph_descriptions import EDGE_DESCRIPTIONS, EVENT_DESCRIPTIONS, INTERACTION_DESCRIPTIONS
from feature_repo.graph_features import EDGE_FEATURES, EVENT_FEATURES, INTERACTION
from feature_repo.profiles import profile_descriptions, stored_descriptions
from feature_repo.request_features import REQUEST_DESCRIPTIONS
from feature_repo.services import feature_services
from feature_repo.settings import EMBEDDING_DIM
from feature_repo.tiles import ACTIVITY_KINDS, WINDOWS
from feature_repo.views import CITY_NORMS, embedding_views
from tests.checks.docs_tables import with_tables
from tests.checks.features_docs import PAGE, tables

OFFLINE = Path("offline")
VERSION = "0123456789ab"
OF_LIGHTGBM: dict[str, Description] = {
    **REQUEST_DESCRIPTIONS,
    **activity_descriptions(),
    **{name: text for kind in PROFILE_KINDS for name, text in profile_descriptions(kind).items()},
}
STORED = [CITY_NORMS, *(stored_descriptions(kind) for kind in PROFILE_KINDS)]


def views() -> list[FeatureView]:
    embeddings = embedding_views(OFFLINE, VERSION, EMBEDDING_DIM)
    return [*(d for d in definitions(OFFLINE) if isinstance(d, FeatureView)), *embeddings]


def test_every_feature_that_a_model_reads_is_described() -> None:
    assert [*CATEGORICAL_FEATURES, *OF_LIGHTGBM] == list(MODEL_FEATURES)
    assert all(CATALOGUE.fields[name].description for name in CATEGORICAL_FEATURES)
    assert tuple(EVENT_DESCRIPTIONS) == EVENT_FEATURES
    assert tuple(EDGE_DESCRIPTIONS) == EDGE_FEATURES
    assert tuple(INTERACTION_DESCRIPTIONS) == INTERACTION.names


def test_a_description_is_one_line_with_its_unit_and_its_missing_value() -> None:
    for described in (OF_LIGHTGBM, EVENT_DESCRIPTIONS, EDGE_DESCRIPTIONS, INTERACTION_DESCRIPTIONS, *STORED):
        for name, description in described.items():
            parts = (description.text, description.unit, description.missing)
            assert all(part.strip() == part != "" and "\n" not in part for part in parts), name
            assert not description.text.endswith("."), name
            assert "|" not in str(description), name


def test_no_two_measures_have_the_same_description() -> None:
    seen: dict[str, str] = {}
    for described in (OF_LIGHTGBM, EVENT_DESCRIPTIONS, EDGE_DESCRIPTIONS, INTERACTION_DESCRIPTIONS, *STORED):
        for name, description in described.items():
            assert seen.setdefault(description.text, name) == name


def test_feast_has_a_description_of_its_own_for_every_field_view_and_service() -> None:
    fields = [field.description for view in views() for field in view.schema if field.name not in view.entities]
    objects = [*definitions(OFFLINE), *feature_services(OFFLINE, [VERSION])[2:]]
    texts = [d.description for d in objects]
    assert all(fields)
    assert all(texts)
    assert len(set(fields)) == len(fields)
    assert len(set(texts)) == len(texts)


def test_feast_describes_what_the_models_read_in_the_same_words() -> None:
    in_feast = {field.name: field.description for view in views() for field in view.schema}
    for described in (activity_descriptions(), *STORED):
        for name, description in described.items():
            assert in_feast[name] == str(description)


def test_the_page_is_that_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert text == with_tables(text, tables()), "run `python -m tests.checks.features_docs`"
    for name, table in tables().items():
        assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in text


def test_the_page_names_every_feature_and_every_view() -> None:
    text = PAGE.read_text("utf-8")
    for feature in (*MODEL_FEATURES, *EVENT_FEATURES, *EDGE_FEATURES):
        name = re.sub(f"_({'|'.join(w.name for w in WINDOWS)})$", "_<window>", feature)
        assert f"`{name}`" in text, name
    for view in views():
        name = re.sub(f"^({'|'.join(ACTIVITY_KINDS)})_", "<kind>_", view.name).replace(VERSION, "<version>")
        assert f"`{name}`" in text, name
