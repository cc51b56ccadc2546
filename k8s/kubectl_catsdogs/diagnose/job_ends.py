"""How the Job ended, and what there is to tell once it is gone. Pure."""

import re

from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, condition, dig, name_of, terminated
from kubectl_catsdogs.base.text import duration, moment
from kubectl_catsdogs.diagnose.pod_ends import begin_again, by_code, code_of, end_of, text_of
from kubectl_catsdogs.diagnose.snapshot import Finding, Seen
from kubectl_catsdogs.jobs import outcome
from kubectl_catsdogs.jobs.job_log import event_of


def blamed(seen: Seen) -> Object | None:
    """The pod whose end is the run's: the one that the Job controller names, else the last that has ended."""
    ended = [pod for pod in seen.pods if dig(pod, "status", "phase") == "Failed" or terminated(pod)]
    message = str(dig(condition(seen.job or {}, "Failed"), "message", default=""))
    if named := re.search(r"for pod [^/\s]+/(\S+) failed", message):
        ended = [pod for pod in ended if name_of(pod) == named[1]]
    if contract.workers(seen.job) > 1 and (last := outcome.last_end(ended)):
        return last
    return ended[-1] if ended else None


def last_end(seen: Seen) -> Finding | None:
    pod = blamed(seen)
    return end_of(seen, pod) if pod else None


def earlier_end(seen: Seen) -> Finding | None:
    """What ended the attempt before the one that goes on now."""
    now = contract.newest_of_workers(seen.pods)
    ends = [found for pod in seen.pods if pod not in now and (found := end_of(seen, pod))]
    if not ends:
        return None
    tries = f"{len(ends)} earlier attempts failed, the last:" if len(ends) > 1 else "an earlier attempt failed:"
    return ends[-1]._replace(what=f"{tries} {ends[-1].what}")


def tries_again(seen: Seen) -> Finding | None:
    found = last_end(seen)
    failures = dig(seen.job, "status", "failed", default=0)
    again = f"the Job makes another pod; {failures} failure(s) have counted, and job.backoffLimit is {_limit(seen)}"
    return found._replace(evidence=[*found.evidence, again]) if found else None


def _limit(seen: Seen) -> str:
    """The value job.backoffLimit, of which the chart makes the Job's."""
    limit, workers = dig(seen.job, "spec", "backoffLimit", default=6), contract.workers(seen.job)
    return f"{limit // workers} for each of {workers} workers" if workers > 1 else str(limit)


def deadline(seen: Seen) -> Finding | None:
    failed = condition(seen.job or {}, "Failed")
    if dig(failed, "reason") != "DeadlineExceeded":
        return None
    seconds = dig(seen.job, "spec", "activeDeadlineSeconds", default=0)
    waited = [event for event in seen.events if event.get("reason") in ("FailedScheduling", "FailedCreate", "Failed")]
    told = [] if any(terminated(pod) for pod in seen.pods) else waited[-1:]
    return Finding(
        f"it took longer than job.activeDeadlineSeconds allows: {duration(seconds)}, with all that it waited",
        seen.job_place,
        [f"before that: {event.get('message')}" for event in told],
        ["raise job.activeDeadlineSeconds (empty: none)", *begin_again(seen)],
    )


def gave_up(seen: Seen) -> Finding | None:
    failed = condition(seen.job or {}, "Failed")
    if dig(failed, "reason") != "BackoffLimitExceeded":
        return None
    failures = dig(seen.job, "status", "failed", default="its")
    step = "correct the cause; job.backoffLimit is how many failures are borne, where a retry helps"
    return Finding(
        f"the Job gave up after {failures} failure(s): job.backoffLimit is {_limit(seen)}", seen.job_place, [], [step]
    )


def failed_otherwise(seen: Seen) -> Finding | None:
    """No pod tells: what the Job controller and the log in the bucket say."""
    failed = condition(seen.job or {}, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded" or last_end(seen):
        return None
    told = [f"Job controller: {failed.get('reason')}: {failed.get('message')}"]
    code = re.search(r"exit code (\d+)", str(failed.get("message")))
    if code and failed.get("reason") == "PodFailurePolicy":
        words = [f"log: {text_of(line)}" for line in seen.said[-1:]]
        return by_code(seen, int(code[1]), words + told, seen.job_place)
    if found := _by_log(seen):
        return found._replace(evidence=found.evidence + told)
    steps = [seen.log_hint] if seen.log_hint else []
    return Finding("it failed, and its pods are gone", seen.job_place, told, [*steps, *begin_again(seen)])


def _by_log(seen: Seen) -> Finding | None:
    """What the log in the bucket ends with."""
    if not seen.said:
        return None
    event, data = event_of(seen.said[-1]) or ("", {})
    where = "log.jsonl in the bucket"
    if event == "failed":
        return by_code(seen, int(data.get("exit_code") or 1), [f"log: {text_of(seen.said[-1])}"], where)
    if event in ("published", "already-published"):
        return Finding(f"nothing is wrong: the run is published at {data.get('uri')}", where, [], [])
    steps = ["it did not say how it ended: it was killed, or went on after that"]
    return Finding("the log ends in the midst of the run", where, [f"log: {text_of(seen.said[-1])}"], steps)


def complete(seen: Seen) -> Finding | None:
    began, ended = (moment(dig(seen.job, "status", part)) for part in ("startTime", "completionTime"))
    took = [f"it took {duration((ended - began).total_seconds())}"] if began and ended else []
    result = contract.result(seen.job or {})
    steps = [f"catsdogs verify {result} checks it"]
    return Finding(f"nothing is wrong: the run is complete, its result is at {result}/", seen.job_place, took, steps)


def succeeded(seen: Seen) -> Finding | None:
    """The pod has, and the Job does not say so yet."""
    if code_of(seen.pod or {}) != 0:
        return None
    return Finding(
        "its pod has succeeded, and the Job is about to be complete", seen.pod_place, [], ["wait some seconds"]
    )


# Without a Job


def scheduled(seen: Seen) -> Finding | None:
    if dig(seen.remains, "kind") != "CronJob":
        return None
    name, schedule = name_of(seen.remains or {}), dig(seen.remains, "spec", "schedule")
    steps = [f"kubectl create job -n {seen.namespace} --from=cronjob/{name} RUN starts one now"]
    if dig(seen.remains, "spec", "suspend"):
        steps.insert(0, "set job.suspend=false")
        return Finding(f"there is no run: CronJob {name} is suspended", f"CronJob {name}", [], steps)
    return Finding(f"there is no run yet: CronJob {name} starts them at {schedule!r}", f"CronJob {name}", [], steps)


def removed(seen: Seen) -> Finding | None:
    if seen.remains is None or dig(seen.remains, "kind") == "CronJob":
        return None
    where = f"{seen.remains.get('kind')} {name_of(seen.remains)}"
    what = "its Job was removed: by job.ttlSecondsAfterFinished, or by hand"
    again = f"helm upgrade -n {seen.namespace} {seen.release} CHART --reset-then-reuse-values makes it again"
    return Finding(what, where, [], [*([seen.log_hint] if seen.log_hint else []), again])


def told_by_log(seen: Seen) -> Finding | None:
    return _by_log(seen)
