"""A release's Jobs, their pods, and what they were told."""

from k8s import contract
from k8s.cluster import Cluster
from k8s.contract import Object, dig, in_order, name_of
from k8s.errors import NotFound, Usage


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


def run_id_of(job: Object) -> str:
    """The value that it was given, else the Job's name, which the pod's field reference stands for."""
    return contract.run_id(job)
