"""What Knative would refuse in the services that KServe makes of our InferenceServices."""

from __future__ import annotations

from collections.abc import Iterator

import kubernetes.client

from tests.manifest_checks import custom_kinds, expected
from tests.manifest_checks.built import Built, Pod
from tests.manifest_checks.finding import Finding, Object, once

# Parts of a pod that Knative takes only where the cluster's config-features allows them, by the flag's last words.
_FLAGS = {
    "affinity": "affinity",
    "dnsConfig": "dnsconfig",
    "dnsPolicy": "dnspolicy",
    "hostAliases": "hostaliases",
    "initContainers": "init-containers",
    "nodeSelector": "nodeselector",
    "priorityClassName": "priorityclassname",
    "runtimeClassName": "runtimeclassname",
    "schedulerName": "schedulername",
    "securityContext": "securitycontext",
    "shareProcessNamespace": "shareprocessnamespace",
    "tolerations": "tolerations",
    "topologySpreadConstraints": "topologyspreadconstraints",
}
_FREE_VOLUMES = {"configMap", "emptyDir", "projected", "secret"}
_POD_FIELDS = frozenset(kubernetes.client.V1PodSpec.attribute_map.values())


@once
def check(built: Built) -> Iterator[Finding]:
    """By Knative's own definition, and by the flags that manifests/README.md asks of the cluster."""
    for pod in built.pods:
        if not pod.isvc:
            continue
        spec = {key: value for key, value in pod.spec.items() if key in _POD_FIELDS}
        spec["containers"] = [container.spec for container in pod.containers if not container.init]
        for finding in custom_kinds.check(Built(built.name, (_service(pod, spec),))):
            yield Finding(pod.owner, pod.path, f"Knative refuses it: {finding.path}: {finding.message}")
        for flag in sorted({_FLAGS[key] for key in spec.keys() & _FLAGS.keys()} | set(_of_volumes(pod))):
            if f"kubernetes.podspec-{flag}" not in expected.readme():
                message = (
                    f"it needs Knative's flag kubernetes.podspec-{flag}, which manifests/README.md does not ask for"
                )
                yield Finding(pod.owner, pod.path, message)


def _service(pod: Pod, spec: Object) -> Object:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": pod.isvc, "namespace": pod.namespace},
        "spec": {"template": {"spec": spec}},
    }


def _of_volumes(pod: Pod) -> Iterator[str]:
    written = {
        mount["name"]
        for container in pod.containers
        for mount in container.spec.get("volumeMounts") or []
        if not mount.get("readOnly")
    }
    for volume in pod.spec.get("volumes") or []:
        if "persistentVolumeClaim" in volume:
            yield "persistent-volume-claim"
            if volume["name"] in written:
                yield "persistent-volume-write"
        elif not volume.keys() & _FREE_VOLUMES:
            yield from (f"volumes-{kind.lower()}" for kind in volume.keys() - {"name"})
