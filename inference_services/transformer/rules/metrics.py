"""Metrics of rules. Labels are the names in one rules file; a rule that is gone takes its own along."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from inference_services.transformer.rules.outcome import NOTHING, RuleOutcome
from inference_services.transformer.rules.rule_file import Rule
from inference_services.transformer.rules.rule_set import RuleSet

MATCHES = Counter("fraud_rule_matches", "Events that a rule matched.", ["rule", "mode"])
DECISIONS = Counter("fraud_rule_decisions", "Decisions that a rule made: the first live one that matched.", ["rule"])
ERRORS = Counter("fraud_rule_errors", "Events that a rule was left out for, because its condition failed.", ["rule"])
INFO = Gauge("fraud_rules_info", "1 for the rules file in force.", ["sha256"])
REFUSED = Gauge("fraud_rules_file_refused", "1 while the rules file cannot be used and the rules before it decide.")
FAILURES = Counter("fraud_rules_reload_failures", "Changed rules files that could not be used.")


def count(outcome: RuleOutcome) -> None:
    """Counts what the rules said of some events."""
    for verdict in outcome.verdicts:
        if verdict is NOTHING:
            continue
        for names, mode in ((verdict.matched, "live"), (verdict.dry_run, "dry_run")):
            for name in names:
                MATCHES.labels(name, mode).inc()
        for name in verdict.failed:
            ERRORS.labels(name).inc()
        if verdict.decided_by is not None:
            DECISIONS.labels(verdict.decided_by.name).inc()


def in_force(new: RuleSet, old: RuleSet | None = None) -> None:
    """Shows which rules are in force: every series of theirs from zero on, none of rules that are gone."""
    wanted = {(rule.name, _mode(rule)) for rule in new.rules}
    for rule in old.rules if old else ():
        if (rule.name, _mode(rule)) not in wanted:
            MATCHES.remove(rule.name, _mode(rule))
        if rule.name not in {name for name, _ in wanted}:
            DECISIONS.remove(rule.name)
            ERRORS.remove(rule.name)
    for name, mode in wanted:
        MATCHES.labels(name, mode)
        DECISIONS.labels(name)
        ERRORS.labels(name)
    INFO.clear()
    INFO.labels(new.sha256).set(1)
    REFUSED.set(0)


def refused() -> None:
    """Counts a changed file that cannot be used."""
    FAILURES.inc()
    REFUSED.set(1)


def _mode(rule: Rule) -> str:
    return "dry_run" if rule.dry_run else "live"
