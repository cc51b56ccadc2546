"""Reads what a diagnosis needs, and no more, and writes the findings."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

import click

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.resources import WITH_NODE
from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.chart import terminated
from kubectl_catsdogs.base.errors import ConfigError, NotFound, PermissionDenied, Usage
from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.base.text import clean, duration, moment
from kubectl_catsdogs.diagnose import bucket_log, helm, stages
from kubectl_catsdogs.diagnose.finding import Finding
from kubectl_catsdogs.diagnose.pod_ends import end_of
from kubectl_catsdogs.diagnose.snapshot import Snapshot
from kubectl_catsdogs.diagnose.volumes import claims_of
from kubectl_catsdogs.jobs import cluster_events, releases

Value = TypeVar("Value")
KINDS = {
    "cronjobs": "CronJob",
    "serviceaccounts": "ServiceAccount",
    "persistentvolumeclaims": "PersistentVolumeClaim",
}
"""What may be left of a release without a Job, the most telling first."""
TAIL = 400
"""Lines of a log that are enough to know a run's progress."""


def why(cluster: Cluster, name: str | None) -> int:
    """Write why the newest run of release `name`, or the run called `name`, is as it is, to standard output.

    Returns 0. Raises NotFound if there is no such run, Usage if the namespace has several releases and none is named,
    PermissionDenied if even its Job and pods may not be read.
    """
    snapshot, unread = read_snapshot(cluster, name)
    for line in screen(snapshot, stages.diagnose(snapshot), unread, datetime.now(UTC)):
        click.echo(clean(line))
    return 0


@dataclass
class Reader:
    """Reads what a diagnosis can do without, and records what may not be read."""

    unread: list[str] = field(default_factory=list)

    def read(self, what: str, reading: Callable[[], Value]) -> Value | None:
        """Return what `reading` returns; None if it does not exist, or is not permitted."""
        try:
            return reading()
        except NotFound:
            return None
        except PermissionDenied as denied:
            self.unread.append(f"{what}: {denied}")
            return None


def read_snapshot(cluster: Cluster, name: str | None) -> tuple[Snapshot, list[str]]:
    """Return what the diagnoses need of that run, or of a release without one, and what may not be read."""
    reader = Reader()
    jobs = releases.all_jobs(cluster, None)
    if name is None and jobs:
        name = releases.only_release(jobs, cluster.namespace)
    matching = releases.named(jobs, name)
    if not matching:
        return _without_job(cluster, name, reader), reader.unread
    job = matching[0]
    snapshot = Snapshot(releases.release_of(job), cluster.namespace, job, releases.pods_of(cluster, job))
    events = reader.read("events, which often show the cause", lambda: cluster.list("events")) or []
    snapshot = replace(snapshot, events=[event for event in events if cluster_events.is_about(event, job)])
    return _of_stage(cluster, snapshot, reader), reader.unread


def _of_stage(cluster: Cluster, snapshot: Snapshot, reader: Reader) -> Snapshot:
    """Add what only the run's stage needs."""
    pod, job = snapshot.pod, snapshot.job or {}
    match stages.stage_of(snapshot):
        case stages.SUSPENDED if dig(job, "metadata", "labels", chart.QUEUE) is not None:
            workload = reader.read("Kueue's Workload", lambda: releases.workload_of(cluster, job))
            return replace(snapshot, workload=workload)
        case stages.NO_POD | stages.RETRYING:
            return replace(snapshot, quotas=reader.read("resource quotas", lambda: cluster.list("resourcequotas")))
        case stages.PENDING:
            others = functools.partial(cluster.list, "pods", fields=WITH_NODE, everywhere=True)
            snapshot = replace(
                snapshot,
                nodes=reader.read("nodes", lambda: cluster.list("nodes")),
                others=reader.read("pods that use the nodes' resources", others),
            )
            if not claims_of(pod or {}):
                return snapshot
            return replace(
                snapshot,
                claims=reader.read("volume claims", lambda: cluster.list("persistentvolumeclaims")),
                classes=reader.read("storage classes", lambda: cluster.list("storageclasses")),
            )
        case stages.RUNNING if pod is not None:
            nodes = reader.read("nodes", lambda: cluster.list("nodes"))
            return replace(snapshot, nodes=nodes, log=_log(cluster, pod, reader))
        case stages.FAILED:
            return _of_failed(cluster, snapshot, reader)
    return snapshot


def _of_failed(cluster: Cluster, snapshot: Snapshot, reader: Reader) -> Snapshot:
    """Add the log of a pod without a termination message, or without a pod the log in the bucket."""
    last = snapshot.pod
    if last is not None and terminated(last):
        if dig(terminated(last), "message"):
            return snapshot
        return replace(snapshot, log=_log(cluster, last, reader))
    if last is not None and end_of(snapshot, last):
        return snapshot
    return _with_bucket_log(snapshot, snapshot.job or {})


def _log(cluster: Cluster, pod: Object, reader: Reader) -> list[str]:
    try:
        lines = reader.read("the log", lambda: list(cluster.log(name_of(pod), chart.CONTAINER, timestamps=False)))
    except (ConfigError, ConnectionResetError):
        # There is none yet, or none any more.
        return []
    texts = [line.encode(errors="surrogateescape").decode(errors="backslashreplace") for line, _ in lines or []]
    return [text for text in texts if text.strip()][-TAIL:]


def _without_job(cluster: Cluster, name: str | None, reader: Reader) -> Snapshot:
    """Raises NotFound if nothing is left of a release of that name."""
    labels = chart.INSTANCE if name is None else f"{chart.INSTANCE}={name}"
    remains: list[Object] = []
    for plural, kind in KINDS.items():
        items = reader.read(plural, functools.partial(cluster.list, plural, labels)) or []
        # Items of a list come without their kind.
        remains += [{**item, "kind": kind} for item in items if _is_of_chart(item)]
    names = sorted({releases.release_of(item) for item in remains})
    if not remains:
        unread = f"; not read: {'; '.join(reader.unread)}" if reader.unread else ""
        what = f"release or run {name}" if name else "release of catsdogs-train"
        raise NotFound(f"namespace {cluster.namespace} has no {what}; see `helm list -A`{unread}")
    if len(names) > 1:
        raise Usage(f"namespace {cluster.namespace} has several releases; name one: {', '.join(names)}")
    snapshot = Snapshot(names[0], cluster.namespace, remains=remains[0])
    if remains[0]["kind"] == "CronJob":
        return snapshot
    labels = f"owner=helm,name={names[0]}"
    secrets = reader.read("what helm has installed", lambda: cluster.list("secrets", labels=labels))
    if (job := helm.job_of(secrets or [])) is None:
        manifest = f"helm get manifest -n {cluster.namespace} {names[0]}"
        return replace(snapshot, log_hint=f"`{manifest}` has CATSDOGS_OUTPUT, which contains the run's log.jsonl")
    return _with_bucket_log(snapshot, job)


def _is_of_chart(item: Object) -> bool:
    label = str(dig(item, "metadata", "labels", "helm.sh/chart", default=""))
    return label.startswith(f"{chart.CHART_NAME}-")


def _with_bucket_log(snapshot: Snapshot, job: Object) -> Snapshot:
    try:
        return replace(snapshot, log=bucket_log.last_lines(chart.result(job), chart.environment(job)))
    except bucket_log.NotRead as error:
        return replace(snapshot, log_hint=str(error))


def screen(snapshot: Snapshot, findings: list[Finding], unread: list[str], now: datetime) -> list[str]:
    """Return the lines to write: a title, then each finding with where it shows, what shows it, and what to do."""
    lines = [_title(snapshot, now)]
    for number, finding in enumerate(findings, 1):
        what = f"{number}. {finding.what}" if len(findings) > 1 else finding.what
        lines += ["", what, f"   where  {finding.where}"]
        lines += _labelled("seen", finding.evidence) + _labelled("next", finding.next)
    if unread:
        lines += ["", "Not read, for lack of permission (docs/kubectl.md has the Role):"]
        lines += [f"   {what}" for what in unread]
    return lines


def _title(snapshot: Snapshot, now: datetime) -> str:
    stage = stages.stage_of(snapshot)
    place = f"release {snapshot.release} in namespace {snapshot.namespace}"
    if snapshot.job is None:
        return f"{place}: no Job"
    live = (stages.PENDING, stages.STARTING, stages.RUNNING)
    item = snapshot.pod if snapshot.pod and stage in live else snapshot.job
    since = moment(dig(item, "metadata", "creationTimestamp"))
    age = f", {duration((now - since).total_seconds())} old" if since else ""
    about = f"{item.get('kind') or 'Pod'} {name_of(item)}{age}"
    return f"run {chart.run_id(snapshot.job)} of {place}: {stage} ({about})"


def _labelled(label: str, texts: list[str]) -> list[str]:
    return [f"   {label if number == 0 else '':<5}  {text}" for number, text in enumerate(texts)]
