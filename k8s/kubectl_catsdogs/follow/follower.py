"""Follows a run from before its Job exists to its end: events of the cluster, the log, the outcome."""

import queue
import time
from collections.abc import Callable

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.watch import Changed, Listed, Message, watch
from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.errors import Failure, NotFound, PermissionDenied
from kubectl_catsdogs.base.objects import Object, condition, name_of, oldest_first, uid_of
from kubectl_catsdogs.base.text import duration
from kubectl_catsdogs.follow.view import View
from kubectl_catsdogs.jobs import cluster_events, log_stream, releases
from kubectl_catsdogs.jobs.outcome import Outcome, end_of, outcome

LOOK_AGAIN = 1.0
"""Seconds between two looks for a Job that does not exist yet."""
TICK = 0.5
"""Seconds without news after which the progress line is redrawn."""


def follow(cluster: Cluster, name: str | None, view: View, timeout: float) -> int:
    """Follow the newest run of release `name`, the run called `name`, or for None the only release's newest run.

    Returns the run's exit code. Raises NotFound if there is no such run within `timeout` seconds, Usage if the
    namespace has several releases and none is named, and PermissionDenied.
    """
    return Follower(cluster, wait_for_job(cluster, name, view.report, timeout), view).run()


def wait_for_job(cluster: Cluster, name: str | None, report: Callable[[str], None], timeout: float) -> Object:
    """Return the run's Job once it exists."""
    deadline = time.monotonic() + timeout
    reported = False
    while True:
        jobs = releases.all_jobs(cluster, None)
        if name is None and jobs:
            name = releases.only_release(jobs, cluster.namespace)
        if matching := releases.named(jobs, name):
            return matching[0]
        missing = f"no run of {f'release {name}' if name else 'any release'} in namespace {cluster.namespace}"
        if time.monotonic() >= deadline:
            others = ", ".join(sorted({releases.release_of(job) for job in jobs})) or "none"
            raise NotFound(f"{missing} after {duration(timeout)}; releases with a run: {others}; see `helm list -A`")
        if not reported:
            reported = True
            report(f"{missing} yet; waiting up to {duration(timeout)}")
        time.sleep(min(LOOK_AGAIN, max(0.05, deadline - time.monotonic())))


class Follower:
    """Follows one Job until it has ended and everything about it is written."""

    def __init__(self, cluster: Cluster, job: Object, view: View):
        self._cluster, self._job, self._view = cluster, job, view
        self._gone = False
        self._pods: dict[str, Object] = {}
        """uid → the pod as last seen; pods that are gone stay."""
        self._read: set[str] = set()
        """uids of the pods whose log is being read, or has been."""
        self._reading: dict[int, str] = {}
        """Worker → uid of the pod whose log is being read."""
        self._reported: set[cluster_events.Key] = set()
        self._events_denied = False
        self._news: queue.Queue[Message] = queue.Queue(maxsize=10_000)

    def run(self) -> int:
        name = name_of(self._job)
        self._view.report(f"run {chart.run_id(self._job)}: Job {name} in namespace {self._cluster.namespace}")
        if text := cluster_events.suspended_text(self._job):
            self._view.report(text)
        watch(self._cluster, "events", self._news)
        watch(self._cluster, "jobs", self._news, fields=f"metadata.name={name}")
        watch(self._cluster, "pods", self._news, labels=releases.pod_selector(self._job))
        while (ended := self._outcome()) is None:
            if (message := self._next()) is not None:
                self._take(message)
        self._view.close()
        self._view.report(ended.text)
        if ended.exit_code:
            release = releases.release_of(self._job)
            self._view.report(f"next: kubectl catsdogs why -n {self._cluster.namespace} {release}")
        return ended.exit_code

    def _next(self) -> Message | None:
        """Return the next message; None if there is none for a moment. Flushes the view before it waits."""
        try:
            return self._news.get_nowait()
        except queue.Empty:
            self._view.flush()
        try:
            return self._news.get(timeout=TICK)
        except queue.Empty:
            return None

    def _take(self, message: Message) -> None:
        match message:
            case Message("line", line):
                self._view.line(line)
            case Message("note", text):
                self._view.report(text)
            case Message("end", uid):
                self._end_log(uid)
            case Message("events", PermissionDenied() as denied):
                self._events_denied = True
                self._view.report(f"{denied}; without it, events of the cluster are not shown")
            case Message(_, Failure() as failure):
                raise failure
            case Message("events", Listed(items)):
                self._report_events(items)
            case Message("events", Changed(item, _)):
                self._report_events([item])
            case Message("pods", Listed(items)):
                self._update_pods(items)
            case Message("pods", Changed(item, _)):
                self._update_pods([item])
            case Message("jobs", Listed(items)):
                same = [item for item in items if uid_of(item) == uid_of(self._job)]
                self._job, self._gone = (same or [self._job])[0], not same
            case Message("jobs", Changed(item, gone)):
                if uid_of(item) == uid_of(self._job):
                    self._job, self._gone = item, gone

    def _outcome(self) -> Outcome | None:
        """Return the outcome once everything about the run has been read and written."""
        if self._reading or outcome(self._job, oldest_first([*self._pods.values()]), self._gone) is None:
            return None
        # The Job's news may have overtaken those of its pods and events.
        self._update_pods(releases.pods_of(self._cluster, self._job))
        if not self._events_denied:
            self._report_events(self._cluster.list("events"))
        if self._reading:
            return None
        return outcome(self._job, oldest_first([*self._pods.values()]), self._gone)

    def _report_events(self, events: list[Object]) -> None:
        for event in sorted(events, key=cluster_events.order_of):
            if cluster_events.is_about(event, self._job) and (text := cluster_events.text_of(event)):
                self._report_once(cluster_events.key(event), text)

    def _update_pods(self, pods: list[Object]) -> None:
        for pod in pods:
            self._pods[uid_of(pod)] = pod
            if self._events_denied and (text := cluster_events.waiting_text(pod)):
                self._report_once(cluster_events.Key(uid_of(pod), "", text), text)
        self._read_next()

    def _read_next(self) -> None:
        """Start reading logs: for each worker one after the other, in the order of its pods."""
        for pod in oldest_first([*self._pods.values()]):
            uid, worker = uid_of(pod), chart.worker_of(pod)
            if worker not in self._reading and uid not in self._read and log_stream.started(pod):
                self._reading[worker] = uid
                self._read.add(uid)
                log_stream.read(self._cluster, pod, self._news)

    def _end_log(self, uid: str) -> None:
        self._reading = {worker: read for worker, read in self._reading.items() if read != uid}
        # The pod has ended by now, but the watch may not have delivered that yet.
        self._update_pods([pod for pod in releases.pods_of(self._cluster, self._job) if uid_of(pod) == uid])
        pod = self._pods[uid]
        if not condition(self._job, "Failed") and (text := end_of(pod)):
            self._report_once(cluster_events.Key(uid, "", text), text)
        self._read_next()

    def _report_once(self, key: cluster_events.Key, text: str) -> None:
        if key not in self._reported:
            self._reported.add(key)
            self._view.report(text)
