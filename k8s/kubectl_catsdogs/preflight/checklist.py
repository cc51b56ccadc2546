"""Reads from a cluster what the checks need, and writes their results."""

import functools
from collections.abc import Callable
from typing import TypeVar

import click

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.resources import WITH_NODE
from kubectl_catsdogs.base.errors import ConfigError, NotFound, PermissionDenied
from kubectl_catsdogs.base.objects import Object
from kubectl_catsdogs.base.text import clean
from kubectl_catsdogs.preflight import checks
from kubectl_catsdogs.preflight.checks import OK, PROBLEM, UNKNOWN, Line
from kubectl_catsdogs.preflight.requirements import Requirements

Value = TypeVar("Value")


def check(cluster: Cluster, required: Requirements) -> int:
    """Write a line for each check, and how to correct it if it fails. Return 78 if one fails, else 0. A warning is no
    failure.

    What may not be read counts as met. Raises Unavailable, and PermissionDenied for invalid credentials.
    """
    results = lines(cluster, required)
    for line in results:
        click.echo(clean(f"{line.mark:<7}  {line.text}"))
        if line.fix:
            click.echo(clean(f"{'':<7}  fix: {line.fix}"))
    return ConfigError.exit_code if any(line.mark == PROBLEM for line in results) else 0


def lines(cluster: Cluster, required: Requirements) -> list[Line]:
    # First what everybody may ask, so that users who are not logged in learn that and nothing else.
    denied = [plural for plural in required.created if not cluster.may("create", plural)]
    namespace = functools.partial(_get, cluster, "namespaces", cluster.namespace)
    return [
        checks.permission(required.created, denied, cluster.namespace),
        _line("the namespace's Pod Security level", namespace, lambda it: checks.pod_security(cluster.namespace, it)),
        _line("quotas", lambda: cluster.list("resourcequotas"), lambda it: checks.quota(required, it)),
        _secret(cluster, required),
        _volume(cluster, required),
        *_nodes(cluster, required),
        *filter(None, [checks.ingress(required)]),
    ]


def _secret(cluster: Cluster, required: Requirements) -> Line:
    if not required.secret:
        return checks.secret(required, cluster.namespace, None)
    secret = functools.partial(_get, cluster, "secrets", required.secret)
    return _line(f"Secret {required.secret}", secret, lambda it: checks.secret(required, cluster.namespace, it))


def _volume(cluster: Cluster, required: Requirements) -> Line:
    if required.claim:
        claim = functools.partial(_get, cluster, "persistentvolumeclaims", required.claim)
        return _line(f"volume claim {required.claim}", claim, lambda it: checks.claim(required, it))
    if required.volume_type == "emptyDir":
        return Line(OK, "volume.type=emptyDir needs no storage class")
    classes = functools.partial(cluster.list, "storageclasses")
    return _line("storage classes", classes, lambda it: checks.storage(required, it))


def _nodes(cluster: Cluster, required: Requirements) -> list[Line]:
    try:
        nodes = cluster.list("nodes")
    except PermissionDenied as denied:
        return [Line(UNKNOWN, f"cannot read nodes and their resources: {denied}")]
    others: list[Object] | None = None
    if required.gpus:
        try:
            others = cluster.list("pods", fields=WITH_NODE, everywhere=True)
        except PermissionDenied:
            # The line about GPUs then says so.
            others = None
    return [checks.gpus(required, nodes, others), checks.room(required, nodes)]


def _line(what: str, read: Callable[[], Value], judge: Callable[[Value], Line]) -> Line:
    try:
        return judge(read())
    except PermissionDenied as denied:
        return Line(UNKNOWN, f"cannot read {what}: {denied}")


def _get(cluster: Cluster, plural: str, name: str) -> Object | None:
    try:
        return cluster.get(plural, name)
    except NotFound:
        return None
