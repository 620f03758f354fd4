"""What objects take from others by name: secrets, config maps, claims, accounts, roles, volumes, files in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.manifest_checks import expected
from tests.manifest_checks.built import Built, Container, Pod
from tests.manifest_checks.finding import Finding, Object, namespace, once, title, walk
from tests.manifest_checks.selectors import replicas

_CLAIM_URI = re.compile(r"^pvc://([^/]+)")


@dataclass(frozen=True)
class Use:
    """A secret or config map that an object wants, and the key of it; no key wants the whole, or does without."""

    object: Object
    path: str
    name: str
    key: str = ""


def secret_uses(built: Built) -> Iterator[Use]:
    return _uses(built, "secret", "Secret")


def config_map_uses(built: Built) -> Iterator[Use]:
    return _uses(built, "configMap", "ConfigMap")


def _uses(built: Built, word: str, kind: str) -> Iterator[Use]:
    """By the forms of pods, of KEDA's TriggerAuthentication, and of kfp-kubernetes."""
    for thing in built.objects:
        if thing["kind"] == kind:
            continue
        for path, node in walk(thing):
            for form in (f"{word}KeyRef", f"{word}Ref"):
                if isinstance(node.get(form), dict) and "name" in node[form]:
                    yield Use(thing, f"{path}.{form}", node[form]["name"], node[form].get("key", ""))
            if word in node and isinstance(node[word], dict):
                source = node[word]
                name = source.get("secretName") or source.get("name")
                keys = [item["key"] for item in source.get("items") or []] or [""]
                yield from (Use(thing, f"{path}.{word}", name, key) for key in keys if name)
            if isinstance(node.get(f"{word}Name"), str) and f"{word}NameParameter" in node:
                wanted = [] if node.get("optional") else node.get("keyToEnv") or []
                keys = [entry[f"{word}Key"] for entry in wanted] or [""]
                yield from (Use(thing, path, node[f"{word}Name"], key) for key in keys)
            for target in node.get(f"{word}TargetRef") or []:
                yield Use(thing, f"{path}.{word}TargetRef", target["name"], target["key"])


@once
def check_secrets(built: Built) -> Iterator[Finding]:
    """Secrets come from outside: each one, with the keys wanted of it, is listed for whoever has to make it."""
    known = {thing["metadata"]["name"]: _keys(thing) for thing in built.of("Secret")} | expected.secrets()
    for use in secret_uses(built):
        yield from _known(use, known, "secret")
    for thing in built.of("Secret"):
        if thing.get("data") or thing.get("stringData"):
            yield Finding(title(thing), "data", "a secret's content does not belong in a manifest")


@once
def check_config_maps(built: Built) -> Iterator[Finding]:
    known = {thing["metadata"]["name"]: _keys(thing) for thing in built.of("ConfigMap")}
    for use in config_map_uses(built):
        yield from _known(use, known, "config map")


def _known(use: Use, known: dict[str, set[str]], what: str) -> Iterator[Finding]:
    if use.name not in known:
        yield Finding(title(use.object), use.path, f"there is no {what} {use.name}")
    elif use.key and use.key not in known[use.name]:
        yield Finding(title(use.object), use.path, f"{what} {use.name} has no key {use.key}")


def _keys(thing: Object) -> set[str]:
    return {key for field in ("data", "binaryData", "stringData") for key in thing.get(field) or {}}


@once
def check_claims(built: Built) -> Iterator[Finding]:
    """Persistent volume claims, whether a pod mounts them, a step of a pipeline does, or a bundle lies in one."""
    known = {thing["metadata"]["name"] for thing in built.of("PersistentVolumeClaim")}
    for thing in built.objects:
        for path, node in walk(thing):
            claims = {
                "persistentVolumeClaim": (node.get("persistentVolumeClaim") or {}).get("claimName"),
                "pvcNameParameter": node.get("constant") if "pvcNameParameter" in node else None,
            }
            claims |= {key: _CLAIM_URI.match(v)[1] for key, v in node.items() if _is_claim_uri(v)}  # type: ignore[index]
            for key, name in claims.items():
                if name is not None and name not in known:
                    yield Finding(title(thing), f"{path}.{key}", f"there is no claim {name}")


@once
def check_shared_claims(built: Built) -> Iterator[Finding]:
    """A claim that one node may mount is mounted by one pod."""
    for thing in built.of("PersistentVolumeClaim"):
        name = thing["metadata"]["name"]
        pods = [
            pod
            for pod in built.pods
            for volume in pod.spec.get("volumes") or []
            if (volume.get("persistentVolumeClaim") or {}).get("claimName") == name
        ]
        most = sum(1 if pod.job else replicas(built, pod)[1] for pod in pods)
        if "ReadWriteMany" not in thing["spec"]["accessModes"] and most > 1:
            owners = ", ".join(sorted({pod.owner for pod in pods}))
            yield Finding(title(thing), "spec.accessModes", f"one node may mount it, and {owners} may run on several")


def _is_claim_uri(value: object) -> bool:
    return isinstance(value, str) and bool(_CLAIM_URI.match(value))


@once
def check_accounts(built: Built) -> Iterator[Finding]:
    """Service accounts of pods and of role bindings, and the roles that are bound."""
    known = {(namespace(thing), thing["metadata"]["name"]) for thing in built.of("ServiceAccount")}
    ours = {thing["metadata"]["name"] for thing in built.of("Namespace")}
    for pod in built.pods:
        account = (pod.namespace, pod.service_account)
        if pod.service_account != "default" and account not in known:
            yield Finding(pod.owner, f"{pod.path}.serviceAccountName", f"there is no service account {account[1]}")
    for thing in built.of("RoleBinding", "ClusterRoleBinding"):
        for subject in thing.get("subjects") or []:
            account = (subject.get("namespace", ""), subject["name"])
            if subject["kind"] != "ServiceAccount":
                continue
            if not account[0]:
                yield Finding(
                    title(thing), "subjects", f"{account[1]} is without its namespace: the API server refuses it"
                )
            elif account[0] in ours and account not in known:
                yield Finding(title(thing), "subjects", f"there is no service account {'/'.join(account)}")
        role = thing["roleRef"]
        if role["kind"] == "Role" and built.find("Role", role["name"], namespace(thing)) is None:
            yield Finding(title(thing), "roleRef", f"there is no role {role['name']}")


@once
def check_mounts(built: Built) -> Iterator[Finding]:
    """Every mount has its volume, every volume a mount, and a file named in the environment is in what is mounted."""
    for pod in built.pods:
        claims = _claim_templates(pod, built)
        volumes = {volume["name"] for volume in pod.spec.get("volumes") or []} | claims
        mounted = {m["name"] for c in pod.containers for m in c.spec.get("volumeMounts") or []}
        for name in sorted(mounted - volumes):
            yield Finding(pod.owner, f"{pod.path}.volumes", f"there is no volume {name}")
        for name in sorted(volumes - mounted):
            yield Finding(pod.owner, f"{pod.path}.volumes", f"no container mounts {name}")
        for container in pod.containers:
            yield from _files(pod, container, built)


def _claim_templates(pod: Pod, built: Built) -> set[str]:
    kind, _, name = pod.owner.partition(" ")
    owner = built.find(kind, name, pod.namespace) or {"spec": {}}
    return {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates") or []}


def _files(pod: Pod, container: Container, built: Built) -> Iterator[Finding]:
    known = {thing["metadata"]["name"]: _keys(thing) for thing in built.of("ConfigMap")}
    for mount in container.spec.get("volumeMounts") or []:
        source = pod.volume(mount["name"]).get("configMap")
        if source is None or source["name"] not in known or "subPath" in mount:
            continue
        items = source.get("items")
        files = {item["path"] for item in items} if items else known[source["name"]]
        for name, entry in container.env.items():
            value = str(entry.get("value", ""))
            file = value.removeprefix(f"{mount['mountPath']}/")
            if file not in {value, *files}:
                message = f"{name} names {value}, which config map {source['name']} does not hold"
                yield Finding(container.object, f"{container.path}.env", message)
