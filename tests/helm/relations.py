"""What must hold between manifests, and within one, that no schema says: each a line if it does not."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from tests.helm.chart import Manifest, PodOf, containers, pods

Names = set[tuple[str, str]]
"""Kind and name."""


def problems(manifests: list[Manifest], outside: Names) -> list[str]:
    """What is wrong with them, where the objects named in `outside` exist already."""
    found = [*_of_objects(manifests), *_of_references(manifests, outside)]
    for pod in pods(manifests):
        found += [*_of_volumes(pod), *_of_containers(pod), *_of_failure_policy(pod), *_of_network(pod, manifests)]
        found += _of_workers(pod, manifests)
    return found


def _of_objects(manifests: list[Manifest]) -> Iterator[str]:
    yield from _repeated(f"{manifest['kind']} {manifest['metadata']['name']}" for manifest in manifests)
    for manifest in manifests:
        metadata = manifest["metadata"]
        name = f"{manifest['kind']} {metadata['name']}"
        # A CronJob's Jobs get eleven characters more.
        longest = 52 if manifest["kind"] == "CronJob" else 63
        if len(metadata["name"]) > longest:
            yield f"{name}: longer than {longest}"
        if metadata.get("namespace") != "vision":
            yield f"{name}: not in the release's namespace"
        for label, value in metadata["labels"].items():
            if len(value) > 63:
                yield f"{name}: label {label} longer than 63"


def _of_references(manifests: list[Manifest], outside: Names) -> Iterator[str]:
    made = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}
    used = set()
    for pod in pods(manifests):
        for kind, name, key in _references(pod.spec):
            used.add((kind, name))
            if (kind, name) in made:
                if key and key not in made[kind, name]["data"]:
                    yield f"{kind} {name}: has no {key}"
            elif (kind, name) not in outside:
                yield f"{kind} {name}: neither made nor there"
    for kind, name in made.keys() - used:
        if kind in ("Secret", "PersistentVolumeClaim", "ServiceAccount"):
            yield f"{kind} {name}: made and not used"


def _references(spec: dict[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """Kind, name and, where it counts, key of each object that a pod needs."""
    yield "ServiceAccount", spec["serviceAccountName"], None
    for secret in spec.get("imagePullSecrets", []):
        yield "Secret", secret["name"], None
    for volume in spec["volumes"]:
        match volume:
            case {"persistentVolumeClaim": {"claimName": name}}:
                yield "PersistentVolumeClaim", name, None
            case {"secret": {"secretName": name, "items": [{"key": key}]}}:
                yield "Secret", name, key
            case {"secret": {"secretName": name}}:
                yield "Secret", name, None
            case {"configMap": {"name": name}}:
                yield "ConfigMap", name, None
    for container in containers(spec):
        for entry in container.get("env", []):
            match entry:
                case {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}:
                    yield "Secret", name, key
        for source in container.get("envFrom", []):
            match source:
                case {"secretRef": {"name": name}}:
                    yield "Secret", name, None
                case {"configMapRef": {"name": name}}:
                    yield "ConfigMap", name, None


def _of_volumes(pod: PodOf) -> Iterator[str]:
    kind = pod.owner["kind"]
    volumes = [volume["name"] for volume in pod.spec["volumes"]]
    mounted = {mount["name"] for container in containers(pod.spec) for mount in container.get("volumeMounts", [])}
    yield from _repeated(f"{kind}: volume {name}" for name in volumes)
    yield from (f"{kind}: no volume {name} for its mount" for name in mounted - set(volumes))
    yield from (f"{kind}: no mount for volume {name}" for name in set(volumes) - mounted)


def _of_containers(pod: PodOf) -> Iterator[str]:
    kind = pod.owner["kind"]
    for container in containers(pod.spec):
        yield from _repeated(f"{kind}: mount {mount['mountPath']}" for mount in container.get("volumeMounts", []))
        yield from _repeated(f"{kind}: variable {entry['name']}" for entry in container.get("env", []))
        limits = container["resources"]["limits"]
        for resource, request in container["resources"]["requests"].items():
            if resource in limits and quantity(request) > quantity(limits[resource]):
                yield f"{kind}: requests {request} {resource}, more than the limit {limits[resource]}"
        for resource, limit in limits.items():
            if "/" in resource and not isinstance(limit, int):
                yield f"{kind}: {limit!r} is no number of {resource}"
        for entry in container.get("env", []):
            match entry:
                case {"valueFrom": {"resourceFieldRef": {"resource": field}}}:
                    if field.removeprefix("limits.") not in limits:
                        yield f"{kind}: {entry['name']} is a limit that is not set"
                case {"valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}}:
                    if kind == "Pod":
                        yield f"{kind}: has no label with a Job's name"


def _of_failure_policy(pod: PodOf) -> Iterator[str]:
    kind, spec = pod.owner["kind"], pod.owner["spec"]
    if kind == "Pod":
        return
    if pod.spec["restartPolicy"] != "Never":
        yield f"{kind}: restartPolicy {pod.spec['restartPolicy']} forbids podFailurePolicy"
    names = {container["name"] for container in pod.spec["containers"]}
    policy = (spec if kind == "Job" else spec["jobTemplate"]["spec"])["podFailurePolicy"]
    for rule in policy["rules"]:
        match rule:
            case {"onExitCodes": {"containerName": name}} if name not in names:
                yield f"{kind}: podFailurePolicy knows a container {name}"


def _of_network(pod: PodOf, manifests: list[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if manifest["kind"] == "NetworkPolicy":
            wanted = manifest["spec"]["podSelector"]["matchLabels"]
            if not wanted.items() <= pod.metadata["labels"].items():
                yield f"{pod.owner['kind']}: the NetworkPolicy does not select {pod.metadata['labels']}"


def _of_workers(pod: PodOf, manifests: list[Manifest]) -> Iterator[str]:
    """Each worker has a host name, by which the others find it."""
    kind, spec, name = pod.owner["kind"], pod.owner["spec"], pod.owner["metadata"]["name"]
    job = spec.get("jobTemplate", {}).get("spec", spec)
    if job.get("completionMode") != "Indexed":
        return
    if job["completions"] != job["parallelism"]:
        yield f"{kind}: not all of {job['completions']} workers run at a time"
    # A CronJob's Jobs are called like it and the minute.
    longest = f"{name}{'-12345678' if kind == 'CronJob' else ''}-{job['completions'] - 1}"
    if len(longest) > 63:
        yield f"{kind}: the host name {longest} is longer than 63"
    services = {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == "Service"}
    service = services.get(pod.spec.get("subdomain"))
    if service is None:
        yield f"{kind}: no Service {pod.spec.get('subdomain')} for its workers' names"
    elif not service["spec"]["selector"].items() <= pod.metadata["labels"].items():
        yield f"{kind}: the Service does not select {pod.metadata['labels']}"


def _repeated(names: Iterator[str]) -> Iterator[str]:
    yield from (f"{name}: there {count} times" for name, count in Counter(names).items() if count > 1)


def quantity(text: str | int) -> Decimal:
    number = parse_quantity(text)  # type: ignore[no-untyped-call]
    assert isinstance(number, Decimal)
    return number
