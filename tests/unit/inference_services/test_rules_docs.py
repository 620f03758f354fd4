"""docs/rules.md agrees with the code and with the rules that are shipped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from inference_services.errors import BadSettings
from inference_services.transformer.rules.rule_set import RuleSet
from tests.checks.docs_tables import with_tables
from tests.checks.rules_docs import PAGE, tables
from tests.unit.inference_services.rule_files import rule, rule_set

TEXT = PAGE.read_text("utf-8")
SHIPPED = RuleSet.read(Path(__file__).parents[3] / "manifests/base/policy/rules.yaml")


def test_the_tables_are_those_of_the_code():
    assert with_tables(TEXT, tables()) == TEXT, "run `python -m tests.checks.rules_docs`"
    assert "`reviewed_by`" in TEXT
    assert "`payment_method`" in TEXT


def test_the_measured_rules_are_those_that_are_shipped():
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in TEXT.splitlines() if line.startswith("| `")]
    shipped = [[f"`{r.name}`", "dry run" if r.dry_run else "live", r.action] for r in SHIPPED.rules]
    assert [row for row in rows if row[1] in {"live", "dry run"}] == shipped


def test_the_example_is_a_rules_file():
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (found,) = RuleSet.load(example.encode(), "docs/rules.md").rules
    assert found.dry_run


def conditions() -> list[str]:
    table = TEXT.partition("| wanted | condition |")[2].partition("\n\n")[0]
    return re.findall(r"\| `(.+)` \|", table)


def usable(when: str, event_type: str) -> bool:
    try:
        rule_set(rule(when=when, event_types=[event_type]))
    except BadSettings as error:
        # An example may read what only some events have.
        if f"which no {event_type} has" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("when", conditions())
def test_each_condition_of_the_page_can_be_used(when: str):
    assert any(usable(when, kind) for kind in SCORED_EVENT_TYPES)


def test_there_are_conditions():
    assert len(conditions()) > 4


def test_live_rules_come_with_their_order_of_authority():
    """Sanctions beat limits, and both beat trust."""
    live: list[Any] = [r.name for r in SHIPPED.rules if not r.dry_run]
    assert live[0] == "sanctioned_party"
    assert live[-1] == "trusted_rider"
    assert not any(named.entries for named in SHIPPED.lists.values())
