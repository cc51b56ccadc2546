"""Reads what a diagnosis needs, and no more, and shows what is found."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

import click

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, dig, name_of, terminated
from kubectl_catsdogs.base.errors import Contradiction, NotFound, Refused, Usage
from kubectl_catsdogs.base.text import clean, duration, moment
from kubectl_catsdogs.diagnose import bucket_log, findings, helm
from kubectl_catsdogs.diagnose.pod_ends import end_of
from kubectl_catsdogs.diagnose.snapshot import Finding, Seen
from kubectl_catsdogs.diagnose.volumes import claims_of
from kubectl_catsdogs.jobs import cluster_events, releases

Found = TypeVar("Found")
TAKING = "status.phase!=Succeeded,status.phase!=Failed,spec.nodeName!="
"""Field selector of the pods that take something of a node."""
KINDS = {
    "cronjobs": "CronJob",
    "serviceaccounts": "ServiceAccount",
    "persistentvolumeclaims": "PersistentVolumeClaim",
}
"""What is left of a release without a Job, the most telling first."""
TAIL = 400
"""Lines of a log that tell how far a run is."""


def why(cluster: Cluster, name: str | None) -> int:
    """Shows on standard output why the newest run of release `name`, or the run called so, is as it is.

    Raises NotFound if there is nothing of that name, Usage if there are several to choose from, Refused if not even
    its Job and pods may be read.
    """
    seen, unread = look(cluster, name)
    for line in screen(seen, findings.diagnose(seen), unread, datetime.now(UTC)):
        click.echo(clean(line))
    return 0


@dataclass
class Reader:
    """Reads what may be missing from a diagnosis, and keeps what for lack of permission is."""

    unread: list[str] = field(default_factory=list)

    def read(self, what: str, reading: Callable[[], Found]) -> Found | None:
        """What `reading` gives; None if that is not permitted, or not there."""
        try:
            return reading()
        except NotFound:
            return None
        except Refused as refused:
            self.unread.append(f"{what}: {refused}")
            return None


def look(cluster: Cluster, name: str | None) -> tuple[Seen, list[str]]:
    """What `diagnose` may ask about that run, or about the release without one; and what may not be read."""
    reader = Reader()
    jobs = releases.every_job(cluster, None)
    if name is None and jobs:
        name = releases.only_release(jobs, cluster.namespace)
    found = releases.of_name(jobs, name)
    if not found:
        return _without_job(cluster, name, reader), reader.unread
    job = found[0]
    seen = Seen(releases.release_of(job), cluster.namespace, job, releases.pods_of(cluster, job))
    events = reader.read("events, which often name the cause", lambda: cluster.list("events")) or []
    seen = replace(seen, events=[event for event in events if cluster_events.is_about(event, job)])
    return _of_stage(cluster, seen, reader), reader.unread


def _of_stage(cluster: Cluster, seen: Seen, reader: Reader) -> Seen:
    """What is of use to the run's stage alone."""
    pod, job = seen.pod, seen.job or {}
    match findings.stage_of(seen):
        case findings.SUSPENDED if dig(job, "metadata", "labels", contract.QUEUE) is not None:
            return replace(seen, workload=reader.read("Kueue's Workload", lambda: releases.workload_of(cluster, job)))
        case findings.NO_POD | findings.RETRYING:
            return replace(seen, quotas=reader.read("resource quotas", lambda: cluster.list("resourcequotas")))
        case findings.PENDING:
            others = functools.partial(cluster.list, "pods", fields=TAKING, everywhere=True)
            seen = replace(
                seen,
                nodes=reader.read("nodes", lambda: cluster.list("nodes")),
                others=reader.read("who has the nodes' resources", others),
            )
            if not claims_of(pod or {}):
                return seen
            return replace(
                seen,
                claims=reader.read("volume claims", lambda: cluster.list("persistentvolumeclaims")),
                classes=reader.read("storage classes", lambda: cluster.list("storageclasses")),
            )
        case findings.RUNNING if pod is not None:
            nodes = reader.read("nodes", lambda: cluster.list("nodes"))
            return replace(seen, nodes=nodes, said=_log(cluster, pod, reader))
        case findings.FAILED:
            return _of_failed(cluster, seen, reader)
    return seen


def _of_failed(cluster: Cluster, seen: Seen, reader: Reader) -> Seen:
    """The last words, if neither the pod's termination message nor its log has them: those in the bucket."""
    last = seen.pod
    if last is not None and terminated(last):
        return seen if dig(terminated(last), "message") else replace(seen, said=_log(cluster, last, reader))
    if last is not None and end_of(seen, last):
        return seen
    return _with_log_of_bucket(seen, seen.job or {})


def _log(cluster: Cluster, pod: Object, reader: Reader) -> list[str]:
    try:
        lines = reader.read("the log", lambda: list(cluster.log(name_of(pod), contract.CONTAINER, timestamps=False)))
    except (Contradiction, ConnectionResetError):
        # There is none yet, or no more.
        return []
    said = [line.encode(errors="surrogateescape").decode(errors="backslashreplace") for line, _ in lines or []]
    return [line for line in said if line.strip()][-TAIL:]


def _without_job(cluster: Cluster, name: str | None, reader: Reader) -> Seen:
    """Raises NotFound if nothing is left of a release of that name."""
    labels = contract.INSTANCE if name is None else f"{contract.INSTANCE}={name}"
    rest: list[Object] = []
    for plural, kind in KINDS.items():
        reading = functools.partial(cluster.list, plural, labels)
        # Items of a list come without their kind.
        rest += [{**item, "kind": kind} for item in reader.read(plural, reading) or [] if _is_of_chart(item)]
    names = sorted({releases.release_of(item) for item in rest})
    if not rest:
        unread = f"; not read: {'; '.join(reader.unread)}" if reader.unread else ""
        what = f"release or run {name}" if name else "release of catsdogs-train"
        raise NotFound(f"namespace {cluster.namespace} has no {what}; see `helm list -A`{unread}")
    if len(names) > 1:
        raise Usage(f"namespace {cluster.namespace} has several releases, name one: {', '.join(names)}")
    seen = Seen(names[0], cluster.namespace, remains=rest[0])
    if rest[0]["kind"] == "CronJob":
        return seen
    labels = f"owner=helm,name={names[0]}"
    secrets = reader.read("what helm has installed", lambda: cluster.list("secrets", labels=labels))
    if (job := helm.job_of(secrets or [])) is None:
        by_hand = f"helm get manifest -n {cluster.namespace} {names[0]}"
        return replace(seen, log_hint=f"`{by_hand}` has CATSDOGS_OUTPUT, below which lies the run's log.jsonl")
    return _with_log_of_bucket(seen, job)


def _is_of_chart(item: Object) -> bool:
    chart = str(dig(item, "metadata", "labels", "helm.sh/chart", default=""))
    return chart.startswith(f"{contract.CHART_NAME}-")


def _with_log_of_bucket(seen: Seen, job: Object) -> Seen:
    try:
        return replace(seen, said=bucket_log.last_lines(contract.result(job), contract.environment(job)))
    except bucket_log.NotRead as error:
        return replace(seen, log_hint=str(error))


def screen(seen: Seen, found: list[Finding], unread: list[str], now: datetime) -> list[str]:
    """The lines: what it is about, then each finding with where it shows, what shows it, and what to do."""
    lines = [_title(seen, now)]
    for number, one in enumerate(found, 1):
        lines += ["", f"{number}. {one.what}" if len(found) > 1 else one.what, f"   where  {one.where}"]
        lines += _named("seen", one.evidence) + _named("next", one.next)
    if unread:
        lines += ["", "Not looked at, for lack of permission (docs/kubectl.md has the Role):"]
        lines += [f"   {what}" for what in unread]
    return lines


def _title(seen: Seen, now: datetime) -> str:
    stage = findings.stage_of(seen)
    if seen.job is None:
        return f"release {seen.release} in namespace {seen.namespace}: no Job"
    item = seen.pod if seen.pod and stage in (findings.PENDING, findings.STARTING, findings.RUNNING) else seen.job
    since = moment(dig(item, "metadata", "creationTimestamp"))
    age = f", {duration((now - since).total_seconds())} old" if since else ""
    about = f"{item.get('kind') or 'Pod'} {name_of(item)}{age}"
    return f"run {contract.run_id(seen.job)} of release {seen.release} in namespace {seen.namespace}: {stage} ({about})"


def _named(name: str, texts: list[str]) -> list[str]:
    return [f"   {name if number == 0 else '':<5}  {text}" for number, text in enumerate(texts)]
