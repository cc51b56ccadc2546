"""`kubectl catsdogs submit`: further runs of a release, each a Job made from the release's template."""

from collections.abc import Sequence

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.errors import ConfigError, NotFound, PermissionDenied, Usage
from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.jobs import releases
from kubectl_catsdogs.jobs.state import is_active
from kubectl_catsdogs.submit.manifest import MANAGER, Source, changes, job_of, source_of
from kubectl_catsdogs.submit.settings import Settings, combinations
from kubectl_catsdogs.submit.sweep import Sweep, Write


def submit(
    cluster: Cluster,
    release: str,
    settings: Sequence[str],
    sweeps: Sequence[str],
    parallel: int | None,
    wait: bool,
    write: Write,
    note: Write,
) -> int:
    """Create the runs. Return 0, or with `wait` the highest of the runs' exit codes.

    `write` gets results, `note` everything else. Raises Usage, NotFound, ConfigError, PermissionDenied and Unavailable,
    and KeyboardInterrupt after a last note.
    """
    jobs = planned(cluster, release, combinations(settings, sweeps))
    others = releases.all_jobs(cluster, None)
    for job in jobs:
        if reason := conflict(job, others):
            raise ConfigError(reason)
    if warning := shared_volume(cluster, jobs, others, parallel or len(jobs)):
        note(warning)
    new = [job for job in jobs if is_new(job)]
    if new and "ownerReferences" not in new[0]["metadata"]:
        note("helm uninstall will not delete these runs: the service account is not the release's, or cannot be read")
    sweep = Sweep(cluster, jobs, parallel or len(jobs), wait, write)
    try:
        code = sweep.run()
    except KeyboardInterrupt:
        note(f"interrupted; submitted runs continue, and the same command submits the other {len(sweep.pending)}")
        raise
    if not wait:
        note(f"follow a run with: kubectl catsdogs follow -n {cluster.namespace} {chart.run_id(jobs[-1])}")
    return code


def manifests(cluster: Cluster, release: str, settings: Sequence[str], sweeps: Sequence[str]) -> list[Object]:
    """Return the Jobs that `submit` would create, whether or not they exist. Raises the same."""
    return [job for job in planned(cluster, release, combinations(settings, sweeps)) if is_new(job)]


def is_new(job: Object) -> bool:
    """Return whether the Job was made here, rather than read from the cluster."""
    return "uid" not in job["metadata"]


def planned(cluster: Cluster, name: str, settings: Sequence[Settings]) -> list[Object]:
    """Return the Jobs with these settings, each once; for settings that change nothing, the release's own Job.

    Raises NotFound without such a release, Usage if there is nothing to change.
    """
    item = find_source(cluster, name)
    source = source_of(item)
    if source.own_run and [changes(source, each) for each in settings] == [{}]:
        raise Usage(
            f"these are the settings of run {chart.run_id(item)}, which already exists;"
            " change one with --set NAME=VALUE, or repeat it with --set run_id=NAME"
        )
    owner = owner_of(cluster, source)
    jobs = [
        item if source.own_run and not changes(source, each) else job_of(source, each, cluster.namespace, owner)
        for each in settings
    ]
    return list({name_of(job): job for job in jobs}.values())


def find_source(cluster: Cluster, name: str) -> Object:
    """Return the release's CronJob, or else the newest Job that the chart made, or the Job of the run called `name`."""
    # Jobs beside a CronJob are its own, or older than the schedule.
    for scheduled in cluster.list("cronjobs", labels=f"{chart.INSTANCE}={name}"):
        if chart.container_of(scheduled["spec"]["jobTemplate"]):
            return scheduled
    jobs = releases.all_jobs(cluster, None)
    of_release = [job for job in jobs if releases.release_of(job) == name]
    by_chart = [job for job in of_release if dig(job, "metadata", "labels", chart.MANAGED_BY) != MANAGER]
    candidates = by_chart + [job for job in jobs if releases.is_called(job, name)]
    if candidates:
        return candidates[0]
    if of_release:
        other = name_of(of_release[0])
        raise NotFound(f"release {name} has no Job of its own any more; start from another run: --from {other}")
    raise NotFound(f"namespace {cluster.namespace} has no release or run {name}; see `helm list`")


def owner_of(cluster: Cluster, source: Source) -> Object | None:
    """Return a reference to the release's service account, with which the Job is deleted on `helm uninstall`.

    The account exists from install to uninstall, and without it a run gets no further pods. None if it is not the
    chart's.
    """
    name = dig(source.spec, "template", "spec", "serviceAccountName", default="default")
    try:
        account = cluster.get("serviceaccounts", name)
    except (NotFound, PermissionDenied):
        return None
    if dig(account, "metadata", "labels", chart.INSTANCE) != source.labels.get(chart.INSTANCE):
        return None
    return {"apiVersion": "v1", "kind": "ServiceAccount", "name": name, "uid": account["metadata"]["uid"]}


def conflict(job: Object, others: Sequence[Object]) -> str | None:
    """Return why the run is impossible: another one has its id, and its place in the bucket or on the volume."""
    for other in others:
        same_place = chart.result(other) == chart.result(job) or (claim_of(job) and claim_of(other) == claim_of(job))
        if same_place and chart.run_id(other) == chart.run_id(job) and name_of(other) != name_of(job):
            return (
                f"run_id={chart.run_id(job)}: Job {name_of(other)} is a run with that id and other settings;"
                " choose another id"
            )
    return None


def shared_volume(cluster: Cluster, jobs: Sequence[Object], others: Sequence[Object], parallel: int) -> str | None:
    """Return a warning if several runs would use one volume at a time that not every node can mount."""
    claim = claim_of(jobs[0])
    names = {name_of(job) for job in jobs}
    busy = [job for job in others if claim_of(job) == claim and is_active(job) and name_of(job) not in names]
    if claim is None or (parallel == 1 and not busy) or (len(jobs) == 1 and not busy):
        return None
    try:
        modes = dig(cluster.get("persistentvolumeclaims", claim), "spec", "accessModes", default=[])
    except (NotFound, PermissionDenied):
        modes = ["access mode unknown"]
    if "ReadWriteMany" in modes:
        return None
    with_whom = f" with {name_of(busy[0])}" if busy else ""
    return (
        f"these runs share the volume {claim}{with_whom} ({', '.join(modes)}): if only one node can mount it, runs"
        " whose pods are assigned to other nodes wait for the others to end; to avoid that, use --parallel 1, or"
        " volume.accessMode=ReadWriteMany or volume.type=ephemeral in the release"
    )


def claim_of(job: Object) -> str | None:
    volumes = dig(job, "spec", "template", "spec", "volumes", default=[])
    claims = (dig(volume, "persistentVolumeClaim", "claimName") for volume in volumes if volume.get("name") == "data")
    return next((str(claim) for claim in claims if claim), None)
