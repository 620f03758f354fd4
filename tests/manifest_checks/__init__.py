"""Checks of the manifests: each takes what a kustomization builds and yields what is wrong with it.

The same checks serve the tests, `make check-manifests`, and the mutation test, which breaks a build in many ways and
asks of each check that it sees what it is there to see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tests.manifest_checks import (
    addresses,
    commands,
    core_kinds,
    custom_kinds,
    eventing,
    images,
    knative_rules,
    kserve_models,
    mesh,
    network_policies,
    permissions,
    pod_hardening,
    ports,
    queries,
    references,
    selectors,
    webhook_rules,
)
from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Finding

Check = Callable[[Built], Iterator[Finding]]

# What an object says by itself: also of one that was read and not built.
ALONE: Mapping[str, Check] = {
    "core kinds": core_kinds.check,
    "custom kinds": custom_kinds.check,
    "KServe's models": kserve_models.check,
    "webhook": webhook_rules.check,
    "silently ignored": webhook_rules.check_silent,
}
# What objects say of each other.
TOGETHER: Mapping[str, Check] = {
    "runtimes": webhook_rules.check_runtimes,
    "Knative": knative_rules.check,
    "namespaces": pod_hardening.check_namespaces,
    "rights of containers": pod_hardening.check_rights,
    "limits": pod_hardening.check_resources,
    "probes": pod_hardening.check_probes,
    "images": images.check,
    "secrets": references.check_secrets,
    "config maps": references.check_config_maps,
    "claims": references.check_claims,
    "shared claims": references.check_shared_claims,
    "accounts": references.check_accounts,
    "mounts": references.check_mounts,
    "selectors": selectors.check_pods,
    "own labels": selectors.check_own,
    "scaling": selectors.check_scaled,
    "ports of services": ports.check_services,
    "ports of monitors": ports.check_monitors,
    "addresses": addresses.check,
    "network policies": network_policies.check,
    "scrapes": network_policies.check_scrapes,
    "eventing": eventing.check,
    "mesh": mesh.check,
    "queries": queries.check,
    "permissions": permissions.check,
    "tokens": permissions.check_tokens,
    "commands": commands.check,
    "environment": commands.check_environment,
    "paths of probes": commands.check_probes,
}
CHECKS: Mapping[str, Check] = {**ALONE, **TOGETHER}


def findings(built: Built, checks: Mapping[str, Check] | None = None) -> dict[str, list[Finding]]:
    """What each check has to say, by the check's name; those with nothing to say are left out."""
    if checks is None:
        checks = CHECKS if built.whole else ALONE
    found = {name: list(check(built)) for name, check in checks.items()}
    return {name: said for name, said in found.items() if said}
