"""A release's Jobs, and the pods of a Job."""

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.errors import NotFound, Usage
from kubectl_catsdogs.base.objects import Object, dig, name_of, oldest_first, uid_of


def all_jobs(cluster: Cluster, release: str | None) -> list[Object]:
    """Return the Jobs of a release, or of all releases for None, newest first; possibly none."""
    labels = chart.INSTANCE if release is None else f"{chart.INSTANCE}={release}"
    return oldest_first([job for job in cluster.list("jobs", labels=labels) if chart.is_run(job)])[::-1]


def only_release(jobs: list[Object], namespace: str) -> str:
    """Raises NotFound if there is no release, and Usage if there are several."""
    names = sorted({release_of(job) for job in jobs})
    if not names:
        raise NotFound(f"namespace {namespace} has no release of catsdogs-train with a Job; see `helm list`")
    if len(names) > 1:
        raise Usage(f"namespace {namespace} has several releases; name one: {', '.join(names)}")
    return names[0]


def pods_of(cluster: Cluster, job: Object) -> list[Object]:
    """Return the Job's pods, oldest first."""
    return oldest_first(cluster.list("pods", labels=pod_selector(job)))


def pod_selector(job: Object) -> str:
    """Return labels that only this Job's pods have; an earlier Job of the same name had another uid."""
    labels = dig(job, "spec", "selector", "matchLabels") or {chart.JOB_NAME: name_of(job)}
    return ",".join(f"{name}={value}" for name, value in labels.items())


def release_of(job: Object) -> str:
    return str(dig(job, "metadata", "labels", chart.INSTANCE, default=""))


def is_called(job: Object, name: str | None) -> bool:
    """Return whether `name` is the run's id or its Job's name."""
    return name in (name_of(job), chart.run_id(job))


def named(jobs: list[Object], name: str | None) -> list[Object]:
    """Return the Jobs of the release called `name`, or else of the runs called so."""
    return [job for job in jobs if release_of(job) == name] or [job for job in jobs if is_called(job, name)]


def workload_of(cluster: Cluster, job: Object) -> Object | None:
    """Return Kueue's Workload of the Job."""
    for workload in cluster.list("workloads"):
        owners = dig(workload, "metadata", "ownerReferences", default=[])
        if any(owner.get("uid") == uid_of(job) for owner in owners):
            return workload
    return None
