"""`kubectl catsdogs stop`: ends a run so that it saves its progress, and can go on."""

import queue
import time
from collections.abc import Sequence

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.watch import Changed, Listed, Message, watch
from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, dig, in_order, name_of, terminated
from kubectl_catsdogs.base.errors import Failure, NotFound, Refused, Unavailable, Usage
from kubectl_catsdogs.base.text import duration
from kubectl_catsdogs.jobs import log_stream, releases
from kubectl_catsdogs.jobs.job_log import is_of_first
from kubectl_catsdogs.jobs.outcome import STOPPED, end_of, last_end, meaning, outcome, stopped
from kubectl_catsdogs.jobs.progress import Progress
from kubectl_catsdogs.jobs.state import is_going, resume, state_of
from kubectl_catsdogs.submit.sweep import Say

TICK = 1.0
"""Seconds without news after which the Job is looked at again."""
ROOM = 60.0
"""Seconds beside the grace period for the cluster to end a pod."""


def stop(cluster: Cluster, name: str, timeout: float | None, say: Say, note: Say) -> int:
    """Suspends the run called so, or the only one of that release that goes on, and waits until its pods are gone.

    Its Job stays. 0 if the job ended in order, 1 if it was killed. Raises NotFound, Usage, Refused, and Unavailable if
    a pod is still there after `timeout` seconds; by default the pods' grace period, and some more.
    """
    job = find(releases.every_job(cluster, None), name, cluster.namespace)
    run = f"run {contract.run_id(job)}"
    pods = releases.pods_of(cluster, job)
    if not is_going(job):
        say(f"{run} does not go on: {state_of(job, pods)[0]}")
        if stopped(job):
            say(f"it goes on with: {resume(job)}")
        return 0
    stopping = Stopping(cluster, job, pods, note)
    again = suspend(cluster, job)
    note(f"{run} is told to stop, and saves its progress")
    stopping.wait(timeout)
    if (ended := outcome(cluster.get("jobs", name_of(job)), [])) is not None:
        # Before it could be stopped, or of how it was.
        say(ended.text)
        return min(ended.exit_code, 1)
    text, code = verdict(run, stopping.pods, stopping.progress, stopping.last_line)
    say(text)
    say(f"it goes on with: {again}")
    owner = next((one for one in dig(job, "metadata", "ownerReferences", default=[]) if one["kind"] == "CronJob"), None)
    if owner:
        note(f"CronJob {owner['name']} with concurrencyPolicy Forbid starts no other run before this one has ended")
    return code


def find(jobs: Sequence[Object], name: str, namespace: str) -> Object:
    """The run called so, rather one that goes on; or the only one of that release that does, or else the newest."""
    named = [job for job in jobs if releases.is_called(job, name)]
    of_release = [job for job in jobs if releases.release_of(job) == name]
    found = named or of_release
    if not found:
        raise NotFound(f"namespace {namespace} has no run and no release {name}; see `kubectl catsdogs runs`")
    going = [job for job in found if is_going(job)]
    if len(going) > 1:
        raise Usage(f"{name} has several runs, name one: {', '.join(name_of(job) for job in going)}")
    return (going or found)[0]


def suspend(cluster: Cluster, job: Object) -> str:
    """Returns the command by which the run goes on."""
    if dig(job, "metadata", "labels", contract.QUEUE) is not None:
        workload = releases.workload_of(cluster, job)
        if workload is not None:
            # Kueue would start what somebody else has suspended.
            cluster.patch("workloads", name_of(workload), {"spec": {"active": False}})
            words = ("kubectl", "patch", "workload", name_of(workload), "-n", cluster.namespace)
            return contract.command(*words, "--type=merge", "-p", '{"spec":{"active":true}}')
    cluster.patch("jobs", name_of(job), {"spec": {"suspend": True}})
    return resume(job)


class Stopping:
    """Sees a Job's pods to their end, and listens to what they say. Made before the Job is suspended: with its pod a
    log is gone.
    """

    def __init__(self, cluster: Cluster, job: Object, pods: list[Object], note: Say):
        self._cluster, self._job, self._note = cluster, job, note
        self._pods = {str(dig(pod, "metadata", "uid")): pod for pod in pods}
        self._gone: set[str] = set()
        self._reading: set[str] = set()
        self.progress = Progress()
        self.last_line = ""
        self._news: queue.Queue[Message] = queue.Queue()
        for uid, pod in self._pods.items():
            if log_stream.started(pod) and terminated(pod) is None:
                self._reading.add(uid)
                log_stream.read(cluster, pod, self._news)
        watch(cluster, "pods", self._news, labels=releases.pod_selector(job))

    @property
    def pods(self) -> list[Object]:
        """Oldest first, each as it was seen last."""
        return in_order([*self._pods.values()])

    def wait(self, timeout: float | None) -> None:
        grace = dig(self._job, "spec", "template", "spec", "terminationGracePeriodSeconds", default=30)
        seconds = timeout or grace + ROOM
        give_up = time.monotonic() + seconds
        while not self._over():
            if time.monotonic() > give_up:
                raise Unavailable(
                    f"after {duration(seconds)} pod {self._left()[0]} is still there, on a node that may be away;"
                    " the Job is suspended, and makes no other"
                )
            try:
                self._take(self._news.get(timeout=TICK))
            except queue.Empty:
                self._job = self._cluster.get("jobs", name_of(self._job))

    def _left(self) -> list[str]:
        """Names of the pods that have not ended."""
        return [
            name_of(pod)
            for uid, pod in self._pods.items()
            if uid not in self._gone and dig(pod, "status", "phase") not in ("Succeeded", "Failed")
        ]

    def _over(self) -> bool:
        """Whether all have ended, and none is about to be made by a controller that does not know yet."""
        if self._left() or self._reading or not self._news.empty():
            return False
        return bool(dig(self._job, "spec", "suspend")) and not dig(self._job, "status", "active")

    def _take(self, message: Message) -> None:
        match message:
            case Message("line", text):
                self.progress.take(text)
                self.last_line = text if text and is_of_first(text) else self.last_line
            case Message("end", uid):
                self._reading.discard(uid)
            case Message("note", text):
                self._note(text)
            case Message("log", Refused() as refused):
                self._note(f"{refused}; without it, it cannot be told what was saved")
            case Message(_, Failure() as failure):
                raise failure
            case Message("pods", Listed(items)):
                self._gone |= self._pods.keys() - {dig(item, "metadata", "uid") for item in items}
                self._pods |= {str(dig(item, "metadata", "uid")): item for item in items}
            case Message("pods", Changed(item, gone)):
                self._pods[str(dig(item, "metadata", "uid"))] = item
                if gone:
                    self._gone.add(str(dig(item, "metadata", "uid")))


def verdict(run: str, pods: Sequence[Object], progress: Progress, last_line: str) -> tuple[str, int]:
    """What to tell of a run that was stopped, and the exit code. Pure."""
    last = last_end(list(pods))
    code = dig(terminated(last), "exitCode") if last else None
    said = f" after epoch {progress.epochs_done} of {progress.epochs}" if progress.epochs_done else ""
    if not any(log_stream.started(pod) for pod in pods):
        return f"{run} is stopped; it had not begun", 0
    if code == 0:
        return f"{run} has ended before it could be stopped", 0
    signal = "catsdogs: SIGTERM "
    if code == STOPPED or (code is None and last_line.startswith(signal)):
        # In the job's own words, but for those that speak of its command.
        words = last_line.removeprefix("catsdogs: ").partition(";")[0] if last_line.startswith(signal) else ""
        return f"{run} is stopped{said}: {words or meaning(STOPPED)}", 0
    how = end_of(last) if last else "it is not known how its pod ended"
    return f"{run} is stopped{said}, but not in order: {how}; it goes on from its last checkpoint", 1
