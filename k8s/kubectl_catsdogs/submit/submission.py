"""`kubectl catsdogs submit`: further runs of a release, each a Job of the release's template."""

from collections.abc import Sequence

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, dig, name_of
from kubectl_catsdogs.base.errors import Contradiction, NotFound, Refused, Usage
from kubectl_catsdogs.jobs import releases
from kubectl_catsdogs.jobs.state import is_going
from kubectl_catsdogs.submit import options
from kubectl_catsdogs.submit.manifest import MANAGER, Source, changes, job_of, source_of
from kubectl_catsdogs.submit.options import Settings
from kubectl_catsdogs.submit.sweep import Say, Sweep


def submit(
    cluster: Cluster,
    release: str,
    settings: Sequence[str],
    sweeps: Sequence[str],
    parallel: int | None,
    wait: bool,
    say: Say,
    note: Say,
) -> int:
    """The exit code: with `wait` the worst of the runs'. `note` is told what is no result.

    Raises Usage, NotFound, Contradiction, Refused and Unavailable, and KeyboardInterrupt after a last note.
    """
    jobs = planned(cluster, release, options.combinations(settings, sweeps))
    others = releases.every_job(cluster, None)
    for job in jobs:
        if reason := conflict(job, others):
            raise Contradiction(reason)
    if hint := shared_volume(cluster, jobs, others, parallel or len(jobs)):
        note(hint)
    new = [job for job in jobs if is_new(job)]
    if new and "ownerReferences" not in new[0]["metadata"]:
        note("helm uninstall will leave these runs: the service account is not the release's own, or may not be read")
    sweep = Sweep(cluster, jobs, parallel or len(jobs), wait, say)
    try:
        code = sweep.run()
    except KeyboardInterrupt:
        note(f"what is submitted goes on; {len(sweep.left)} are not yet, with which the same command goes on")
        raise
    if not wait:
        note(f"follow a run with: kubectl catsdogs follow -n {cluster.namespace} {contract.run_id(jobs[-1])}")
    return code


def manifests(cluster: Cluster, release: str, settings: Sequence[str], sweeps: Sequence[str]) -> list[Object]:
    """What `submit` would create, whether it is there already or not; raises the same."""
    return [job for job in planned(cluster, release, options.combinations(settings, sweeps)) if is_new(job)]


def is_new(job: Object) -> bool:
    """Made here, rather than read from the cluster."""
    return "uid" not in job["metadata"]


def planned(cluster: Cluster, name: str, settings: Sequence[Settings]) -> list[Object]:
    """The Jobs of these settings, each once; those that are no change are the release's own.

    Raises NotFound without such a release, Usage if there is nothing to be changed.
    """
    item = find_source(cluster, name)
    source = source_of(item)
    if source.own_run and [changes(source, told) for told in settings] == [{}]:
        raise Usage(
            f"these are the settings of run {contract.run_id(item)}, which is there already;"
            " change one with --set NAME=VALUE, or repeat it with --set run_id=NAME"
        )
    owner = owner_of(cluster, source)
    jobs = [
        item if source.own_run and not changes(source, told) else job_of(source, told, cluster.namespace, owner)
        for told in settings
    ]
    return list({name_of(job): job for job in jobs}.values())


def find_source(cluster: Cluster, name: str) -> Object:
    """The release's CronJob, or else the newest Job that the chart made; or the Job of the run called so."""
    here = f"{contract.INSTANCE}={name}"
    # With a schedule there may be Jobs as well, but of the time before it, or its own.
    scheduled = cluster.list("cronjobs", labels=here)
    ours = [one for one in scheduled if contract.container(one["spec"]["jobTemplate"]["spec"]["template"]["spec"])]
    if ours:
        return ours[0]
    jobs = releases.every_job(cluster, None)
    made = [job for job in jobs if dig(job, "metadata", "labels", contract.MANAGED_BY) != MANAGER]
    found = [job for job in made if releases.release_of(job) == name]
    found += [job for job in jobs if releases.is_called(job, name)]
    if not found and (left := next((job for job in jobs if releases.release_of(job) == name), None)):
        raise NotFound(f"the own Job of release {name} is gone; take another of its runs: --from {name_of(left)}")
    if not found:
        raise NotFound(f"namespace {cluster.namespace} has no release and no run {name}; see `helm list`")
    return found[0]


def owner_of(cluster: Cluster, source: Source) -> Object | None:
    """A reference to the release's service account, with which the Job goes when the release is uninstalled.

    It is there from install to uninstall, and without it a run gets no further pod. None if it is not the chart's.
    """
    name = dig(source.spec, "template", "spec", "serviceAccountName", default="default")
    try:
        account = cluster.get("serviceaccounts", name)
    except (NotFound, Refused):
        return None
    if dig(account, "metadata", "labels", contract.INSTANCE) != source.labels.get(contract.INSTANCE):
        return None
    return {"apiVersion": "v1", "kind": "ServiceAccount", "name": name, "uid": account["metadata"]["uid"]}


def conflict(job: Object, others: Sequence[Object]) -> str | None:
    """Why the run cannot be: another one has its id, and its place in the bucket or on the volume."""
    for other in others:
        one_place = contract.result(other) == contract.result(job) or (
            claim_of(job) and claim_of(other) == claim_of(job)
        )
        if one_place and contract.run_id(other) == contract.run_id(job) and name_of(other) != name_of(job):
            return (
                f"run_id={contract.run_id(job)}: Job {name_of(other)} is a run of that id with other settings;"
                " choose another"
            )
    return None


def shared_volume(cluster: Cluster, jobs: Sequence[Object], others: Sequence[Object], parallel: int) -> str | None:
    """What there is to know of a volume that several runs are to have at once, if not every node can mount it."""
    claim = claim_of(jobs[0])
    names = {name_of(job) for job in jobs}
    busy = [job for job in others if claim_of(job) == claim and is_going(job) and name_of(job) not in names]
    if claim is None or (parallel == 1 and not busy) or (len(jobs) == 1 and not busy):
        return None
    try:
        modes = dig(cluster.get("persistentvolumeclaims", claim), "spec", "accessModes", default=[])
    except (NotFound, Refused):
        modes = ["access mode unknown"]
    if "ReadWriteMany" in modes:
        return None
    with_whom = f" with {name_of(busy[0])}" if busy else ""
    return (
        f"these runs share the volume {claim}{with_whom} ({', '.join(modes)}): where only one node can mount it, a run"
        " whose pod goes to another node waits for the end of the others; avoid that with --parallel 1, or with"
        " volume.accessMode=ReadWriteMany or volume.type=ephemeral of the release"
    )


def claim_of(job: Object) -> str | None:
    volumes = dig(job, "spec", "template", "spec", "volumes", default=[])
    claims = (dig(volume, "persistentVolumeClaim", "claimName") for volume in volumes if volume.get("name") == "data")
    return next((str(claim) for claim in claims if claim), None)
