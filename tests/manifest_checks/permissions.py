"""Roles: what our code asks of the Kubernetes API, and nothing beyond."""

from __future__ import annotations

from collections.abc import Iterator

from tests.manifest_checks import our_code
from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Finding, Object, namespace, once, title

Right = tuple[str, str, str]  # API group, resource, verb
# What KFP's launcher and Argo's executor do in the pods of our steps: code of theirs, in roles that end in -steps.
_EXECUTORS = {
    ("argoproj.io", "workflowtaskresults", "create"),
    ("argoproj.io", "workflowtaskresults", "patch"),
    ("", "configmaps", "get"),
    ("", "secrets", "get"),
}


def rights(role: Object) -> Iterator[Right]:
    for rule in role.get("rules") or []:
        for group in rule.get("apiGroups") or []:
            for resource in rule.get("resources") or []:
                for verb in rule.get("verbs") or []:
                    yield group, resource, verb


@once
def check(built: Built) -> Iterator[Finding]:
    """Of every role: each right is used, none is a wildcard, and of the kinds that it speaks of none is missing."""
    used = our_code.kubernetes_calls()
    roles = built.of("Role", "ClusterRole")
    for role in roles:
        for right in rights(role):
            if "*" in right:
                yield Finding(title(role), "rules", f"{_words(right)}: a wildcard")
            elif right not in used and not (title(role).endswith("-steps") and right in _EXECUTORS):
                yield Finding(title(role), "rules", f"{_words(right)}: no code of ours does that")
    bound = {_role(built, binding) for binding in built.of("RoleBinding", "ClusterRoleBinding")}
    granted = {right for role in roles if title(role) in bound for right in rights(role)}
    # What the code asks of kinds that no role speaks of, it does not ask from within this build.
    spoken = {right[:2] for role in roles for right in rights(role)}
    for right in sorted(used - granted):
        if right[:2] in spoken:
            yield Finding("roles", "rules", f"{_words(right)}: our code does that, and no bound role lets it")
    for role in roles:
        if title(role) not in bound:
            yield Finding(title(role), "", "nothing binds it")


@once
def check_tokens(built: Built) -> Iterator[Finding]:
    """Only a pod whose account is bound to a role gets a token of the API."""
    bound = {
        (subject.get("namespace", namespace(binding)), subject["name"])
        for binding in built.of("RoleBinding", "ClusterRoleBinding")
        for subject in binding.get("subjects") or []
        if subject["kind"] == "ServiceAccount"
    }
    for pod in built.pods:
        account = built.find("ServiceAccount", pod.service_account, pod.namespace) or {}
        token = pod.spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        if token is not False and (pod.namespace, pod.service_account) not in bound and not pod.isvc:
            yield Finding(pod.owner, pod.path, "it is given a token of the API that it has no use for")


def _role(built: Built, binding: Object) -> str:
    return f"{binding['roleRef']['kind']} {binding['roleRef']['name']}"


def _words(right: Right) -> str:
    group, resource, verb = right
    return f"{verb} {resource}.{group}" if group else f"{verb} {resource}"
