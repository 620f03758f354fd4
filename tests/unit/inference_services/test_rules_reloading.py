"""Rules that change while they decide: a good file takes over, a bad one does not, and the metrics tell which."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from feature_repo.event_batch import EventBatch
from inference_services.errors import BadSettings
from inference_services.transformer.rules.reloading import RuleBook
from tests.unit.inference_services.rule_files import PAYMENT, content, features, rule


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_bytes(content(rule()))
    return tmp_path / "rules.yaml"


@pytest.fixture
def book(path: Path) -> Iterator[RuleBook]:
    made = RuleBook(path)
    yield made
    # The metrics are of the process: leave none for the next test.
    path.write_bytes(content())
    made.look()


def matched(book: RuleBook) -> tuple[str, ...]:
    batch = EventBatch.from_rows([PAYMENT])
    return book.judge(batch, features(batch)).verdicts[0].matched


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_a_bad_file_at_the_start_is_an_error(tmp_path: Path):
    (tmp_path / "rules.yaml").write_bytes(content(rule(when="x")))
    with pytest.raises(BadSettings, match="rule dear: when: "):
        RuleBook(tmp_path / "rules.yaml")


def test_a_changed_file_takes_over(book: RuleBook, path: Path):
    assert matched(book) == ("dear",)
    path.write_bytes(content(rule("other")))
    assert matched(book) == ("dear",)
    book.look()
    assert matched(book) == ("other",)


def test_a_bad_file_leaves_the_rules_and_is_told_once(
    book: RuleBook, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging.getLogger("fraud"), "propagate", True)
    before = metric("fraud_rules_reload_failures_total") or 0.0
    path.write_bytes(content(rule(when="x")))
    for _ in range(3):
        book.look()
    assert matched(book) == ("dear",)
    assert metric("fraud_rules_reload_failures_total") == before + 1
    assert metric("fraud_rules_file_refused") == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert "stay in force" in line
    assert "rule dear: when: " in line
    path.write_bytes(content(rule()))
    book.look()
    assert metric("fraud_rules_file_refused") == 0


def test_a_file_that_goes_leaves_the_rules(book: RuleBook, path: Path):
    before = metric("fraud_rules_reload_failures_total") or 0.0
    path.unlink()
    book.look()
    book.look()
    assert matched(book) == ("dear",)
    assert metric("fraud_rules_reload_failures_total") == before + 1
    path.write_bytes(content(rule("back")))
    book.look()
    assert matched(book) == ("back",)


def test_a_config_map_s_swap_of_links_is_seen(tmp_path: Path):
    for name, rules in (("1", [rule("old")]), ("2", [rule("new")]), ("3", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rules.yaml").write_bytes(content(*rules))
        # Kubernetes may give both files one time.
        os.utime(tmp_path / name / "rules.yaml", (0, 0))
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "rules.yaml").symlink_to("..data/rules.yaml")
    book = RuleBook(tmp_path / "rules.yaml")
    for target, expected in (("2", ("new",)), ("3", ())):
        (tmp_path / "..tmp").symlink_to(target)
        (tmp_path / "..tmp").replace(tmp_path / "..data")
        book.look()
        assert matched(book) == expected


def test_metrics_count_by_rule_and_mode_and_forget_rules_that_are_gone(book: RuleBook, path: Path):
    path.write_bytes(content(rule("a"), rule("b", dry_run=True), rule("c", "amount > 9e9")))
    book.look()
    for _ in range(2):
        matched(book)
    assert metric("fraud_rule_matches_total", rule="a", mode="live") == 2
    assert metric("fraud_rule_matches_total", rule="b", mode="dry_run") == 2
    assert metric("fraud_rule_matches_total", rule="b", mode="live") is None
    assert metric("fraud_rule_matches_total", rule="c", mode="live") == 0
    assert (metric("fraud_rule_decisions_total", rule="a"), metric("fraud_rule_errors_total", rule="a")) == (2, 0)
    path.write_bytes(content(rule("b"), rule("odd", "attempt > 0.0 && 10 / (int(attempt) - 7) > 0")))
    book.look()
    assert metric("fraud_rule_matches_total", rule="a", mode="live") is None
    assert metric("fraud_rule_decisions_total", rule="a") is None
    assert metric("fraud_rule_matches_total", rule="b", mode="dry_run") is None
    assert metric("fraud_rule_matches_total", rule="b", mode="live") == 0
    batch = EventBatch.from_rows([PAYMENT])
    book.judge(batch, features(batch, attempt=7.0))
    assert metric("fraud_rule_errors_total", rule="odd") == 1


def test_the_rules_in_force_are_shown_by_hash(book: RuleBook, path: Path):
    batch = EventBatch.from_rows([PAYMENT])
    first = book.judge(batch, features(batch)).sha256
    assert metric("fraud_rules_info", sha256=first) == 1
    path.write_bytes(content(rule("other")))
    book.look()
    second = book.judge(batch, features(batch)).sha256
    assert second != first
    assert (metric("fraud_rules_info", sha256=first), metric("fraud_rules_info", sha256=second)) == (None, 1)
