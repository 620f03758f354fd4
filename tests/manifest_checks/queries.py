"""Prometheus queries: alerts, dashboards and autoscalers ask for metrics that exist, by labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.checks.metrics_docs import Metric
from tests.manifest_checks import our_code
from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Finding, Object, once, title

# What a scrape, Kubernetes or a dashboard's variable adds to any metric.
_ADDED = {"namespace", "pod", "container", "job", "instance", "endpoint", "service", "le", "node", "__name__"}
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "counter": ("",)}
# Metrics of others, by the names that their documents give.
OTHERS = re.compile(
    r"^(up|ALERTS|kube_\w+|container_\w+|kubelet_volume_stats_\w+|process_\w+|python_gc_\w+|scrape_\w+"
    r"|request_(preprocess|predict|postprocess|explain)_seconds_(bucket|sum|count)|redis_\w+|keda_\w+"
    r"|revision_\w+|activator_\w+|autoscaler_\w+|queue_\w+|istio_\w+|DCGM_\w+)$"
)
_KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}
_KEYWORDS |= {"inf", "nan", "start", "end"}
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


@once
def check(built: Built) -> Iterator[Finding]:
    recorded = {rule["record"] for _, rule in _rules(built) if "record" in rule}
    for thing, path, query in queries(built):
        for metric, labels in asked(query):
            if metric in recorded or OTHERS.match(metric):
                continue
            ours = _of_ours(metric)
            if ours is None:
                yield Finding(title(thing), path, f"no service has a metric {metric} (docs/metrics.md)")
                continue
            for label in sorted(labels - _ADDED - set(ours.labels)):
                yield Finding(title(thing), path, f"{metric} has no label {label}")


def _of_ours(name: str) -> Metric | None:
    for metric in our_code.metrics().values():
        if name in {f"{metric.name}{part}" for part in _PARTS[metric.kind]}:
            return metric
    return None


def asked(query: str) -> Iterator[tuple[str, set[str]]]:
    """Metrics of a PromQL query, each with the labels that its selector names."""
    text = re.sub(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", '""', query)
    text = re.sub(r"\[[^\]]*\]|\$\w+|\$\{[^}]*\}", "", _GROUPING.sub(" ", text))
    for match in _SELECTOR.finditer(text):
        name, selector = match[1], match[2] or ""
        called = text[match.end() :].lstrip().startswith("(")
        number = match.start() > 0 and text[match.start() - 1].isdigit()
        if name not in _KEYWORDS and not called and not number:
            yield name, set(_MATCHER.findall(selector))


def queries(built: Built) -> Iterator[tuple[Object, str, str]]:
    """Object, path and text of every query in it."""
    for thing, rule in _rules(built):
        yield thing, f"spec.groups ({rule.get('alert') or rule.get('record')})", str(rule["expr"])
    for thing in built.of("ConfigMap"):
        for key, text in (thing.get("data") or {}).items():
            if key.endswith(".json"):
                yield from ((thing, f"data.{key} ({panel})", query) for panel, query in _of_dashboard(json.loads(text)))
    for thing in built.of("ScaledObject"):
        for index, trigger in enumerate(thing["spec"]["triggers"]):
            if trigger["type"] == "prometheus":
                yield thing, f"spec.triggers[{index}].metadata.query", trigger["metadata"]["query"]


def _rules(built: Built) -> Iterator[tuple[Object, Object]]:
    for thing in built.of("PrometheusRule"):
        for group in thing["spec"]["groups"]:
            for rule in group["rules"]:
                yield thing, rule


def _of_dashboard(dashboard: Object) -> Iterator[tuple[str, str]]:
    for panel in dashboard.get("panels") or []:
        yield from _of_dashboard(panel)
        for target in panel.get("targets") or []:
            if "expr" in target:
                yield str(panel.get("title", "")), target["expr"]
