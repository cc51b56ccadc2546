"""`kubectl catsdogs stop`: stops a run after it has saved its progress, so that it can be resumed."""

import queue
import time
from collections.abc import Sequence

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.watch import Changed, Listed, Message, watch
from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.chart import terminated
from kubectl_catsdogs.base.errors import Failure, NotFound, PermissionDenied, Unavailable, Usage
from kubectl_catsdogs.base.objects import Object, dig, name_of, oldest_first, uid_of
from kubectl_catsdogs.base.text import duration, shell_command
from kubectl_catsdogs.jobs import log_stream, releases
from kubectl_catsdogs.jobs.job_log import LogLine, text_of
from kubectl_catsdogs.jobs.outcome import INTERRUPTED, end_of, last_end, meaning, outcome, stopped
from kubectl_catsdogs.jobs.progress import Progress
from kubectl_catsdogs.jobs.state import is_active, resume_command, state_of
from kubectl_catsdogs.submit.sweep import Write

TICK = 1.0
"""Seconds without news after which the Job is read again."""
MARGIN = 60.0
"""Seconds beyond the grace period for the cluster to end a pod."""
SIGNAL = "catsdogs: SIGTERM "
"""How the job's last line begins when it has stopped on request."""


def stop(cluster: Cluster, name: str, timeout: float | None, write: Write, note: Write) -> int:
    """Suspend the run called `name`, or the only active run of that release, and wait until its pods are gone.

    The Job stays. Returns 0 if the job stopped in order, 1 if it was killed. Raises NotFound, Usage, PermissionDenied,
    and Unavailable if a pod still exists after `timeout` seconds; the default is the grace period and MARGIN.
    """
    job = find(releases.all_jobs(cluster, None), name, cluster.namespace)
    run = f"run {chart.run_id(job)}"
    pods = releases.pods_of(cluster, job)
    if not is_active(job):
        write(f"{run} is not active: {state_of(job, pods)[0]}")
        if stopped(job):
            write(f"resume it with: {resume_command(job)}")
        return 0
    stopping = Stopping(cluster, job, pods, note)
    resume = suspend(cluster, job)
    note(f"stopping {run}, which saves its progress")
    stopping.wait(timeout)
    if (ended := outcome(cluster.get("jobs", name_of(job)), [])) is not None:
        # It ended before it could be stopped, or because of how it was stopped.
        write(ended.text)
        return min(ended.exit_code, 1)
    text, code = summary(run, stopping.pods, stopping.progress, stopping.last_line)
    write(text)
    write(f"resume it with: {resume}")
    owners = dig(job, "metadata", "ownerReferences", default=[])
    if owner := next((entry for entry in owners if entry["kind"] == "CronJob"), None):
        note(
            f"CronJob {owner['name']} starts no other run until this one has ended, if its concurrencyPolicy is Forbid"
        )
    return code


def find(jobs: Sequence[Object], name: str, namespace: str) -> Object:
    """Return the run called `name`, preferably an active one; or the release's only active run, or else its newest."""
    called = [job for job in jobs if releases.is_called(job, name)]
    candidates = called or [job for job in jobs if releases.release_of(job) == name]
    if not candidates:
        raise NotFound(f"namespace {namespace} has no release or run {name}; see `kubectl catsdogs runs`")
    active = [job for job in candidates if is_active(job)]
    if len(active) > 1:
        raise Usage(f"{name} has several runs; name one: {', '.join(name_of(job) for job in active)}")
    return (active or candidates)[0]


def suspend(cluster: Cluster, job: Object) -> str:
    """Suspend the run, and return the command that resumes it."""
    if dig(job, "metadata", "labels", chart.QUEUE) is not None:
        workload = releases.workload_of(cluster, job)
        if workload is not None:
            # Kueue resumes Jobs that somebody else has suspended.
            cluster.patch("workloads", name_of(workload), {"spec": {"active": False}})
            words = ("kubectl", "patch", "workload", name_of(workload), "-n", cluster.namespace)
            return shell_command(*words, "--type=merge", "-p", '{"spec":{"active":true}}')
    cluster.patch("jobs", name_of(job), {"spec": {"suspend": True}})
    return resume_command(job)


class Stopping:
    """Watches a Job's pods to their end, and reads their logs. Created before the Job is suspended, as a pod's log
    disappears with the pod.
    """

    def __init__(self, cluster: Cluster, job: Object, pods: list[Object], note: Write):
        self._cluster, self._job, self._note = cluster, job, note
        self._pods = {uid_of(pod): pod for pod in pods}
        self._gone: set[str] = set()
        self._reading: set[str] = set()
        self.progress = Progress()
        self.last_line = ""
        """Worker 0's."""
        self._news: queue.Queue[Message] = queue.Queue()
        for uid, pod in self._pods.items():
            if log_stream.started(pod) and terminated(pod) is None:
                self._reading.add(uid)
                log_stream.read(cluster, pod, self._news)
        watch(cluster, "pods", self._news, labels=releases.pod_selector(job))

    @property
    def pods(self) -> list[Object]:
        """Oldest first, each as last seen."""
        return oldest_first([*self._pods.values()])

    def wait(self, timeout: float | None) -> None:
        """Return when all pods have ended. Raises Unavailable after `timeout` seconds."""
        grace = dig(self._job, "spec", "template", "spec", "terminationGracePeriodSeconds", default=30)
        seconds = timeout or grace + MARGIN
        deadline = time.monotonic() + seconds
        while not self._ended():
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"pod {self._remaining()[0]} still exists after {duration(seconds)}; its node may be unreachable;"
                    " the Job is suspended, and creates no other pod"
                )
            try:
                self._take(self._news.get(timeout=TICK))
            except queue.Empty:
                self._job = self._cluster.get("jobs", name_of(self._job))

    def _remaining(self) -> list[str]:
        """Return the names of the pods that have not ended."""
        return [
            name_of(pod)
            for uid, pod in self._pods.items()
            if uid not in self._gone and dig(pod, "status", "phase") not in ("Succeeded", "Failed")
        ]

    def _ended(self) -> bool:
        """Return whether all pods have ended, and no controller that is behind is about to create one."""
        if self._remaining() or self._reading or not self._news.empty():
            return False
        return bool(dig(self._job, "spec", "suspend")) and not dig(self._job, "status", "active")

    def _take(self, message: Message) -> None:
        match message:
            case Message("line", LogLine(worker, raw)):
                if worker == 0:
                    self.progress.take(raw)
                    self.last_line = text_of(raw) or self.last_line
            case Message("end", uid):
                self._reading.discard(uid)
            case Message("note", text):
                self._note(text)
            case Message("log", PermissionDenied() as denied):
                self._note(f"{denied}; without it, what was saved is unknown")
            case Message(_, Failure() as failure):
                raise failure
            case Message("pods", Listed(items)):
                self._gone |= self._pods.keys() - {uid_of(item) for item in items}
                self._pods |= {uid_of(item): item for item in items}
            case Message("pods", Changed(item, gone)):
                self._pods[uid_of(item)] = item
                if gone:
                    self._gone.add(uid_of(item))


def summary(run: str, pods: Sequence[Object], progress: Progress, last_line: str) -> tuple[str, int]:
    """Return a line about a run that was stopped, and the exit code. Pure."""
    last = last_end(list(pods))
    code = dig(terminated(last), "exitCode") if last else None
    epochs = f" after epoch {progress.epochs_done} of {progress.epochs}" if progress.epochs_done else ""
    if not any(log_stream.started(pod) for pod in pods):
        return f"{run} is stopped; it had not begun", 0
    if code == 0:
        return f"{run} ended before it could be stopped", 0
    if code == INTERRUPTED or (code is None and last_line.startswith(SIGNAL)):
        # In the job's own words, except for its advice, which is about its own command line.
        own_words = last_line.removeprefix("catsdogs: ").partition(";")[0] if last_line.startswith(SIGNAL) else ""
        return f"{run} is stopped{epochs}: {own_words or meaning(INTERRUPTED)}", 0
    reason = end_of(last) if last else "how its pod ended is unknown"
    return f"{run} is stopped{epochs}, but not in order: {reason}; it resumes from its last checkpoint", 1
