"""A release's Jobs, their pods, and what they were told."""

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, dig, in_order, name_of
from kubectl_catsdogs.base.errors import NotFound, Usage


def every_job(cluster: Cluster, release: str | None) -> list[Object]:
    """Newest first, of all releases for None; none is no error."""
    labels = contract.INSTANCE if release is None else f"{contract.INSTANCE}={release}"
    # By the container, as `nameOverride` may call the chart anything.
    return in_order([job for job in cluster.list("jobs", labels=labels) if contract.is_run(job)])[::-1]


def only_release(jobs: list[Object], namespace: str) -> str:
    """Raises NotFound if there is none, and Usage if there are several."""
    names = sorted({release_of(job) for job in jobs})
    if not names:
        raise NotFound(f"namespace {namespace} has no release of catsdogs-train with a Job; see `helm list`")
    if len(names) > 1:
        raise Usage(f"namespace {namespace} has several releases, name one: {', '.join(names)}")
    return names[0]


def pods_of(cluster: Cluster, job: Object) -> list[Object]:
    """Oldest first."""
    return in_order(cluster.list("pods", labels=pod_selector(job)))


def pod_selector(job: Object) -> str:
    """Labels that the job's pods have, and no others: a Job of the same name before it had another uid."""
    labels = dig(job, "spec", "selector", "matchLabels") or {contract.JOB_NAME: name_of(job)}
    return ",".join(f"{name}={value}" for name, value in labels.items())


def release_of(job: Object) -> str:
    return str(dig(job, "metadata", "labels", contract.INSTANCE, default=""))


def is_called(job: Object, name: str | None) -> bool:
    """Whether that is the name of the run."""
    return name in (name_of(job), contract.run_id(job))


def of_name(jobs: list[Object], name: str | None) -> list[Object]:
    """Those of the release called so, or else the run called so."""
    return [job for job in jobs if release_of(job) == name] or [job for job in jobs if is_called(job, name)]


def workload_of(cluster: Cluster, job: Object) -> Object | None:
    """Kueue's Workload of the Job."""
    uid = dig(job, "metadata", "uid")
    for workload in cluster.list("workloads"):
        if any(owner.get("uid") == uid for owner in dig(workload, "metadata", "ownerReferences", default=[])):
            return workload
    return None
