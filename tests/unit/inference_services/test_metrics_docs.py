"""docs/metrics.md agrees with the code that makes the metrics."""

from __future__ import annotations

import re

from tests.checks.docs_tables import with_tables
from tests.checks.metrics_docs import PAGE, metrics, tables


def test_the_tables_are_those_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert text == with_tables(text, tables()), "run `python -m tests.checks.metrics_docs`"
    assert (
        "| `fraud_requests_total` | counter | `service`, `model`, `model_version`, `revision`, `protocol`, `outcome` |"
        in text
    )
    assert "| `fraud_feature_freshness_seconds` | gauge | `view` |" in text


def test_no_name_is_given_twice_and_no_label_holds_an_id() -> None:
    found = metrics()
    assert len({m.name for m in found}) == len(found)
    assert not [m for m in found if any(label.endswith("_id") or label == "id" for label in m.labels)]


def test_the_queries_name_metrics_and_labels_that_exist() -> None:
    known = {m.name.removesuffix("_bucket"): m for m in metrics()}
    queries = (
        PAGE.read_text("utf-8").partition("its queries")[2] or PAGE.read_text("utf-8").partition("their queries")[2]
    )
    named = re.findall(r"(fraud_\w+)(?:\{(\w+)=)?", queries)
    assert len(named) > 10
    for name, label in named:
        metric = known[name.removesuffix("_bucket")]
        assert not label or label in metric.labels
