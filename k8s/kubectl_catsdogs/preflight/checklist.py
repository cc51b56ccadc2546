"""Asks a cluster what a release of the chart needs, before it is installed."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.resources import requested
from kubectl_catsdogs.base.contract import Object, dig
from kubectl_catsdogs.base.errors import Contradiction, NotFound, Refused
from kubectl_catsdogs.base.text import clean
from kubectl_catsdogs.preflight import checks
from kubectl_catsdogs.preflight.checks import OK, PROBLEM, UNKNOWN, Line, Wanted

Found = TypeVar("Found")
TAKING = "status.phase!=Succeeded,status.phase!=Failed,spec.nodeName!="
"""Field selector of the pods that take something of a node."""


def check(cluster: Cluster, wanted: Wanted) -> int:
    """Shows a line for each condition, and how to meet it. 78 if one is not met, 0 otherwise.

    What may not be read counts as met. Raises Unavailable, and Refused for a user whom the API server does not know.
    """
    found = lines(cluster, wanted)
    for line in found:
        click.echo(clean(f"{line.mark:<7}  {line.text}"))
        if line.fix:
            click.echo(clean(f"{'':<7}  fix: {line.fix}"))
    return Contradiction.exit_code if any(line.mark == PROBLEM for line in found) else 0


def lines(cluster: Cluster, wanted: Wanted) -> list[Line]:
    # First what everybody may ask, so that whoever is not logged in learns that and nothing else.
    refused = [plural for plural in wanted.made if not cluster.may("create", plural)]
    found = [checks.permission(wanted.made, refused, cluster.namespace)]
    namespace = functools.partial(_there, cluster.get, "namespaces", cluster.namespace)
    secret = functools.partial(_there, cluster.get, "secrets", wanted.secret)
    found += [
        _told("the namespace's Pod Security level", namespace, lambda it: checks.pod_security(cluster.namespace, it)),
        _told("quotas", lambda: cluster.list("resourcequotas"), lambda it: checks.quota(wanted, it)),
    ]
    if wanted.secret:
        found.append(_told(f"Secret {wanted.secret}", secret, lambda it: checks.secret(wanted, cluster.namespace, it)))
    else:
        found.append(checks.secret(wanted, cluster.namespace, None))
    return [*found, _volume(cluster, wanted), *_nodes(cluster, wanted)]


def _volume(cluster: Cluster, wanted: Wanted) -> Line:
    if wanted.claim:
        claim = functools.partial(_there, cluster.get, "persistentvolumeclaims", wanted.claim)
        return _told(f"volume claim {wanted.claim}", claim, lambda it: checks.claim(wanted, it))
    if wanted.volume_type == "emptyDir":
        return Line(OK, "volume.type=emptyDir needs no storage class")
    classes = functools.partial(cluster.list, "storageclasses")
    return _told("storage classes", classes, lambda it: checks.storage(wanted, it))


def _nodes(cluster: Cluster, wanted: Wanted) -> list[Line]:
    try:
        nodes = cluster.list("nodes")
    except Refused as refused:
        return [Line(UNKNOWN, f"cannot tell: nodes, and what they offer: {refused}")]
    others: list[Object] | None = None
    if wanted.gpus:
        try:
            others = cluster.list("pods", fields=TAKING, everywhere=True)
        except Refused:
            # Then the line on GPUs says that it does not know.
            others = None
    return [checks.gpus(wanted, nodes, others), checks.room(wanted, nodes)]


def _told(what: str, read: Callable[[], Found], judge: Callable[[Found], Line]) -> Line:
    try:
        return judge(read())
    except Refused as refused:
        return Line(UNKNOWN, f"cannot tell: {what}: {refused}")


def _there(get: Callable[[str, str], Object], plural: str, name: str) -> Object | None:
    try:
        return get(plural, name)
    except NotFound:
        return None


def wanted_of(values: Path | None, **flags: Any) -> Wanted:
    """The chart's values as far as they count here, with flags over them that are not None. Raises Contradiction."""
    import yaml

    try:
        given = yaml.safe_load(values.read_text()) if values else None
        if not isinstance(given, dict | None):
            raise ValueError("no mapping")
        wanted = _wanted(given or {}, flags)
        # So that a quantity that is none is found here.
        requested(wanted.pod)
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise Contradiction(f"{values}: not the values of the chart: {error}") from error
    return wanted


def _wanted(given: Object, flags: dict[str, Any]) -> Wanted:
    plain = Wanted()
    gpus = int(dig(given, "gpu", "count", default=plain.gpus) if flags.get("gpus") is None else flags["gpus"])
    tolerations = dig(given, "gpu", "tolerations", default=plain.tolerations) if gpus else []
    requests = dig(given, "resources", "requests", default={})
    keys = dig(given, "credentials", "keys", default={})
    names = [keys.get(key) for key in ("accessKeyId", "secretAccessKey", "sessionToken")]
    found = {
        "gpu_resource": dig(given, "gpu", "resource"),
        "secret": dig(given, "credentials", "existingSecret"),
        "keys": tuple(name or key for name, key in zip(names, (*plain.keys, ""), strict=True) if name or key),
        "volume_type": dig(given, "volume", "type"),
        "storage_class": dig(given, "volume", "storageClass"),
        "claim": dig(given, "volume", "existingClaim"),
        "node_selector": dig(given, "nodeSelector"),
        "workers": dig(given, "workers"),
        "requests": plain.requests | {name: str(value) for name, value in requests.items()},
    }
    known = {
        name: value for name, value in (found | {k: v for k, v in flags.items() if v is not None}).items() if value
    }
    shared = dig(given, "volume", "accessMode") == "ReadWriteMany"
    if known.get("workers", 1) > 1 and known.get("volume_type", "pvc") == "pvc" and not shared:
        # As the chart has it: each pod gets a claim of its own, which helm does not make.
        known["volume_type"] = "ephemeral"
    return Wanted(**known | {"gpus": gpus, "tolerations": [*tolerations, *dig(given, "tolerations", default=[])]})
