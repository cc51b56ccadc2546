"""How the Job ended, and what is known once it is gone. Pure."""

import re

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.chart import terminated
from kubectl_catsdogs.base.objects import Object, condition, dig, name_of
from kubectl_catsdogs.base.text import duration, moment, plural
from kubectl_catsdogs.diagnose.finding import Finding
from kubectl_catsdogs.diagnose.pod_ends import by_code, code_of, end_of, restart
from kubectl_catsdogs.diagnose.snapshot import Snapshot
from kubectl_catsdogs.jobs import outcome
from kubectl_catsdogs.jobs.job_log import Failed, Published, event_of

BUCKET_LOG = "log.jsonl in the bucket"


def failed_pod(snapshot: Snapshot) -> Object | None:
    """Return the pod whose end is the run's: the one that the Job controller names, else the last that has ended."""
    ended = [pod for pod in snapshot.pods if dig(pod, "status", "phase") == "Failed" or terminated(pod)]
    message = str(dig(condition(snapshot.job or {}, "Failed"), "message", default=""))
    if named := re.search(r"for pod [^/\s]+/(\S+) failed", message):
        ended = [pod for pod in ended if name_of(pod) == named[1]]
    if chart.workers(snapshot.job) > 1 and (last := outcome.last_end(ended)):
        return last
    return ended[-1] if ended else None


def last_end(snapshot: Snapshot) -> Finding | None:
    pod = failed_pod(snapshot)
    return end_of(snapshot, pod) if pod else None


def earlier_end(snapshot: Snapshot) -> Finding | None:
    """What ended the attempts before the current one."""
    current = chart.newest_of_workers(snapshot.pods)
    ends = [finding for pod in snapshot.pods if pod not in current and (finding := end_of(snapshot, pod))]
    if not ends:
        return None
    attempts = f"{len(ends)} earlier attempts failed, the last:" if len(ends) > 1 else "an earlier attempt failed:"
    return ends[-1]._replace(what=f"{attempts} {ends[-1].what}")


def retrying(snapshot: Snapshot) -> Finding | None:
    finding = last_end(snapshot)
    failures = dig(snapshot.job, "status", "failed", default=0)
    retry = f"the Job creates another pod; {plural(failures, 'failure')} so far, job.backoffLimit is {_limit(snapshot)}"
    return finding._replace(evidence=[*finding.evidence, retry]) if finding else None


def _limit(snapshot: Snapshot) -> str:
    """Return the value job.backoffLimit, from which the chart computes the Job's."""
    limit, workers = dig(snapshot.job, "spec", "backoffLimit", default=6), chart.workers(snapshot.job)
    return f"{limit // workers} for each of {workers} workers" if workers > 1 else str(limit)


def deadline(snapshot: Snapshot) -> Finding | None:
    if dig(condition(snapshot.job or {}, "Failed"), "reason") != "DeadlineExceeded":
        return None
    seconds = dig(snapshot.job, "spec", "activeDeadlineSeconds", default=0)
    obstacles = ("FailedScheduling", "FailedCreate", "Failed")
    waited_for = [event.get("message") for event in snapshot.events if event.get("reason") in obstacles]
    started = any(terminated(pod) for pod in snapshot.pods)
    return Finding(
        f"it took longer than job.activeDeadlineSeconds allows: {duration(seconds)}, including all waiting",
        snapshot.job_place,
        [f"before that: {message}" for message in ([] if started else waited_for[-1:])],
        ["raise job.activeDeadlineSeconds (empty: none)", *restart(snapshot)],
    )


def gave_up(snapshot: Snapshot) -> Finding | None:
    if dig(condition(snapshot.job or {}, "Failed"), "reason") != "BackoffLimitExceeded":
        return None
    failures = dig(snapshot.job, "status", "failed")
    count = plural(failures, "failure") if failures else "its failures"
    steps = ["correct the cause; job.backoffLimit is how many failures are tolerated where a retry helps"]
    what = f"the Job gave up after {count}: job.backoffLimit is {_limit(snapshot)}"
    return Finding(what, snapshot.job_place, [], steps)


def failed_otherwise(snapshot: Snapshot) -> Finding | None:
    """No pod shows the cause: what the Job controller and the log in the bucket report."""
    failed = condition(snapshot.job or {}, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded" or last_end(snapshot):
        return None
    evidence = [f"Job controller: {failed.get('reason')}: {failed.get('message')}"]
    code = re.search(r"exit code (\d{1,3})\b", str(failed.get("message")))
    if code and failed.get("reason") == "PodFailurePolicy":
        return by_code(snapshot, int(code[1]), snapshot.last_line + evidence, snapshot.job_place)
    if finding := end_in_bucket_log(snapshot):
        return finding._replace(evidence=finding.evidence + evidence)
    steps = [snapshot.log_hint] if snapshot.log_hint else []
    return Finding("it failed, and its pods are gone", snapshot.job_place, evidence, [*steps, *restart(snapshot)])


def end_in_bucket_log(snapshot: Snapshot) -> Finding | None:
    """What the log in the bucket ends with."""
    if not snapshot.log:
        return None
    match event_of(snapshot.log[-1]):
        case Failed(exit_code=code):
            return by_code(snapshot, code or 1, snapshot.last_line, BUCKET_LOG)
        case Published(uri=uri):
            return Finding(f"nothing is wrong: the run is published at {uri}", BUCKET_LOG, [], [])
    steps = ["its end is not in the log: it was killed, or continued after that"]
    return Finding("the log ends in the middle of the run", BUCKET_LOG, snapshot.last_line, steps)


def complete(snapshot: Snapshot) -> Finding | None:
    began, ended = (moment(dig(snapshot.job, "status", part)) for part in ("startTime", "completionTime"))
    took = [f"it took {duration((ended - began).total_seconds())}"] if began and ended else []
    result = chart.result(snapshot.job or {})
    what = f"nothing is wrong: the run is complete, its result is at {result}/"
    return Finding(what, snapshot.job_place, took, [f"catsdogs verify {result} checks it"])


def succeeded(snapshot: Snapshot) -> Finding | None:
    """The pod has ended, but the Job is not complete yet."""
    if code_of(snapshot.pod or {}) != 0:
        return None
    what = "its pod has succeeded, and the Job is about to be complete"
    return Finding(what, snapshot.pod_place, [], ["wait some seconds"])


# Without a Job


def scheduled(snapshot: Snapshot) -> Finding | None:
    if dig(snapshot.remains, "kind") != "CronJob":
        return None
    name, schedule = name_of(snapshot.remains or {}), dig(snapshot.remains, "spec", "schedule")
    steps = [f"kubectl create job -n {snapshot.namespace} --from=cronjob/{name} RUN starts one now"]
    if dig(snapshot.remains, "spec", "suspend"):
        steps.insert(0, "set job.suspend=false")
        return Finding(f"there is no run: CronJob {name} is suspended", f"CronJob {name}", [], steps)
    return Finding(f"there is no run yet: CronJob {name} starts them at {schedule!r}", f"CronJob {name}", [], steps)


def removed(snapshot: Snapshot) -> Finding | None:
    if snapshot.remains is None or dig(snapshot.remains, "kind") == "CronJob":
        return None
    where = f"{snapshot.remains.get('kind')} {name_of(snapshot.remains)}"
    what = "its Job was removed: by job.ttlSecondsAfterFinished, or by hand"
    upgrade = f"helm upgrade -n {snapshot.namespace} {snapshot.release} CHART --reset-then-reuse-values"
    hint = [snapshot.log_hint] if snapshot.log_hint else []
    return Finding(what, where, [], [*hint, f"{upgrade} creates it again"])
