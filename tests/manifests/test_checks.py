"""What the checks of the manifests are made of: selectors, queries, addresses, definitions, and what the code says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifest_checks import core_kinds, network_policies, our_code
from tests.manifest_checks.addresses import addresses
from tests.manifest_checks.built import Built
from tests.manifest_checks.custom_kinds import closed
from tests.manifest_checks.finding import Object
from tests.manifest_checks.images import tag
from tests.manifest_checks.network_policies import connections
from tests.manifest_checks.queries import asked
from tests.manifest_checks.selectors import matches

CONTAINER: Object = {"name": "main", "image": "caller:1"}


def thing(kind: str, name: str, spec: Any, version: str = "v1") -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "fraud"}, "spec": spec}


def two_pods(*policies: Object) -> Built:
    """A caller with an address in its environment, a server behind a service, and policies about them."""
    caller = {**CONTAINER, "env": [{"name": "URL", "value": "http://server:8080/path"}]}
    server = {**CONTAINER, "ports": [{"name": "http", "containerPort": 9000}]}
    pods = [
        thing(
            "Deployment",
            name,
            {"template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}},
            "apps/v1",
        )
        for name, container in (("caller", caller), ("server", server))
    ]
    service = thing(
        "Service", "server", {"selector": {"app": "server"}, "ports": [{"port": 8080, "targetPort": "http"}]}
    )
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fraud"}}
    return Built("made up", (home, *pods, service, *policies))


def policy(direction: str, app: str, rules: list[Object]) -> Object:
    way, peers = direction.lower(), {"Egress": "to", "Ingress": "from"}[direction]
    return thing(
        "NetworkPolicy",
        f"{app}-{way}",
        {
            "podSelector": {"matchLabels": {"app": app}},
            "policyTypes": [direction],
            way: [{peers: rule["peers"], "ports": rule["ports"]} for rule in rules],
        },
        "networking.k8s.io/v1",
    )


DNS = {"peers": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": "UDP"}]}


def test_a_connection_is_followed_through_the_service_to_the_pods_port() -> None:
    (found,) = connections(two_pods())
    assert (found.source.owner, found.service) == ("Deployment caller", "server.fraud")
    assert [(pod.owner, port) for pod, port in found.targets] == [("Deployment server", 9000)]


@pytest.mark.parametrize(
    ("peers", "ports", "let"),
    [
        ([{"podSelector": {"matchLabels": {"app": "server"}}}], [{"port": 9000}], True),
        (
            [{"podSelector": {"matchLabels": {"app": "server"}}}],
            [{"port": 8080}],
            False,
        ),  # the service's, not the pod's
        ([{"podSelector": {"matchLabels": {"app": "server"}}}], [{"port": 8000, "endPort": 9999}], True),
        ([{"podSelector": {"matchLabels": {"app": "other"}}}], [{"port": 9000}], False),
        ([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}], [{"port": 9000}], False),
        ([{"ipBlock": {"cidr": "0.0.0.0/0"}}], [{"port": 9000}], True),
    ],
)
def test_a_policy_lets_out_what_it_names(peers: list[Object], ports: list[Object], let: bool) -> None:
    built = two_pods(policy("Egress", "caller", [{"peers": peers, "ports": ports}, DNS]))
    said = [finding.message for finding in network_policies.check(built)]
    assert said == ([] if let else ["no network policy lets it call server.fraud on 9000"])


def test_a_policy_lets_nobody_in_whom_it_does_not_name() -> None:
    rule = {"peers": [{"podSelector": {"matchLabels": {"app": "somebody"}}}], "ports": [{"port": 9000}]}
    (finding,) = network_policies.check(two_pods(policy("Ingress", "server", [rule])))
    assert str(finding).endswith("no network policy lets Deployment caller in on 9000")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("redis://user:pa:ss@redis:6379/0", [("redis", "fraud", 6379)]),
        ("http://mlflow.fraud:5000", [("mlflow", "fraud", 5000)]),
        ("https://a.monitoring.svc.cluster.local/x", [("a", "monitoring", 443)]),
        ("redis.fraud.svc:6379", [("redis", "fraud", 6379)]),
        ("http://a.b.fraud.svc", [("a.b.fraud.svc", "fraud", 80)]),  # no service is called so
        ("https://example.com", []),
        ("pvc://fraud-bundles/a/1", []),
        ("http://127.0.0.1:8080", []),
    ],
)
def test_hosts_of_a_cluster_are_told_from_others(text: str, found: list[tuple[str, str, int]]) -> None:
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fraud"}}
    built = Built("made up", (home, {**thing("ConfigMap", "addresses", {}), "data": {"address": text}}))
    assert [(address.service, address.namespace, address.port) for address in addresses(built)] == found


def test_the_metrics_of_a_query_are_told_from_its_words() -> None:
    query = (
        'histogram_quantile(0.99, sum by (le, part) (rate(a_bucket{stage="to tal", city!~"x|y"}[5m] offset 1h)))'
        " / on (part) group_left () b_total{} > 1e3 and time() - max without (pod) (c:rate5m) unless ALERTS == inf"
    )
    expected = [("a_bucket", {"stage", "city"}), ("b_total", set()), ("c:rate5m", set()), ("ALERTS", set())]
    assert list(asked(query)) == expected


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [("In", ["a"], True), ("NotIn", ["a"], False), ("Exists", None, True), ("DoesNotExist", None, False)],
)
def test_expressions_of_a_selector(operator: str, values: list[str] | None, holds: bool) -> None:
    expression = {"key": "app", "operator": operator, **({"values": values} if values else {})}
    assert matches({"matchExpressions": [expression]}, {"app": "a"}) is holds


def test_a_definition_is_closed_but_where_it_says_that_it_is_open() -> None:
    inner = {"type": "object", "properties": {"known": {"type": "string"}}}
    schema = closed({"properties": {"shut": inner, "open": {**inner, "x-kubernetes-preserve-unknown-fields": True}}})
    assert schema["additionalProperties"] is False
    assert schema["properties"]["shut"]["additionalProperties"] is False
    assert "additionalProperties" not in schema["properties"]["open"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [("redis", ""), ("redis:7", "7"), ("registry:5000/redis", ""), ("registry:5000/a/redis:7@sha256:00", "7")],
)
def test_a_registry_s_port_is_no_tag(image: str, expected: str) -> None:
    assert tag(image) == expected


def test_an_object_of_an_unknown_core_kind_is_refused() -> None:
    (finding,) = core_kinds.check(Built("made up", (thing("Deplyment", "typo", {}, "apps/v1"),)))
    assert "Deplyment" in finding.message


def test_what_the_code_says_is_found() -> None:
    assert ("serving.kserve.io", "inferenceservices", "patch") in our_code.kubernetes_calls()
    assert ("pipelines.kubeflow.org", "runs", "create") in our_code.kubernetes_calls()
    classes, _ = our_code.settings_of("inference_services.transformer")
    (settings,) = [found for found in classes if found.prefix == "FRAUD_TRANSFORMER_"]
    assert {"REDIS_URL", "FUSION_URI"} <= settings.required
    assert "RULES_FILE" in settings.fields - settings.required
    assert {"--home", "--redis-url"} <= our_code.options(our_code.ROOT / "pipelines" / "cli.py") | our_code.options(
        our_code.ROOT / "pipelines" / "cli_features.py"
    )
