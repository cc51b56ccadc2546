"""Follows a run from before it is there to its end: what the cluster reports, the log, the outcome."""

import queue
import time
from collections.abc import Callable

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.watch import Changed, Listed, Message, watch
from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, condition, dig, in_order, name_of
from kubectl_catsdogs.base.errors import Failure, NotFound, Refused
from kubectl_catsdogs.base.text import duration
from kubectl_catsdogs.follow.view import View
from kubectl_catsdogs.jobs import cluster_events, log_stream, releases
from kubectl_catsdogs.jobs.outcome import Outcome, end_of, outcome

LOOK_AGAIN = 1.0
"""Seconds between two looks for a Job that is not there yet."""
TICK = 0.5
"""Seconds without news after which what is shown of the time is drawn anew."""


def follow(cluster: Cluster, name: str | None, view: View, timeout: float) -> int:
    """The exit code of the newest run of the release called `name`, or of the run called so; None for the only release.

    Raises NotFound if it is not there after `timeout` seconds, Usage if there are several releases to choose from, and
    Refused.
    """
    return Follower(cluster, appear(cluster, name, view.report, timeout), view).run()


def appear(cluster: Cluster, name: str | None, report: Callable[[str], None], timeout: float) -> Object:
    """The run's Job, once it is there."""
    give_up = time.monotonic() + timeout
    told = False
    while True:
        jobs = releases.every_job(cluster, None)
        if name is None and jobs:
            name = releases.only_release(jobs, cluster.namespace)
        if found := releases.of_name(jobs, name):
            return found[0]
        missing = f"no run of {f'release {name}' if name else 'any release'} in namespace {cluster.namespace}"
        if time.monotonic() >= give_up:
            others = ", ".join(sorted({releases.release_of(job) for job in jobs})) or "none"
            raise NotFound(f"{missing} after {duration(timeout)}; releases with a run: {others}; see `helm list -A`")
        if not told:
            told = True
            report(f"there is {missing} yet; waiting {duration(timeout)} for one")
        time.sleep(min(LOOK_AGAIN, max(0.05, give_up - time.monotonic())))


class Follower:
    """Follows one Job, until it has ended and all is told."""

    def __init__(self, cluster: Cluster, job: Object, view: View):
        self._cluster, self._job, self._view = cluster, job, view
        self._gone = False
        self._pods: dict[str, Object] = {}
        """uid → the pod as it was seen last; those that are gone stay."""
        self._read: set[str] = set()
        """uids of the pods whose log is read, or was."""
        self._reading: dict[int, str] = {}
        """Worker → uid of the pod whose log is read just now."""
        self._told: set[cluster_events.Key] = set()
        self._events_refused = False
        self._news: queue.Queue[Message] = queue.Queue(maxsize=10_000)

    def run(self) -> int:
        name = name_of(self._job)
        self._view.report(f"run {contract.run_id(self._job)}: Job {name} in namespace {self._cluster.namespace}")
        if waits := cluster_events.of_suspended(self._job):
            self._view.report(waits)
        watch(self._cluster, "events", self._news)
        watch(self._cluster, "jobs", self._news, fields=f"metadata.name={name}")
        watch(self._cluster, "pods", self._news, labels=releases.pod_selector(self._job))
        while (ended := self._ended()) is None:
            if (message := self._next()) is not None:
                self._take(message)
        self._view.close()
        self._view.report(ended.text)
        if ended.exit_code:
            self._view.report(
                f"next: kubectl catsdogs why -n {self._cluster.namespace} {releases.release_of(self._job)}"
            )
        return ended.exit_code

    def _next(self) -> Message | None:
        """None if there is no news for a moment. What is shown is up to date before it waits."""
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
            case Message("line", text):
                self._view.line(text)
            case Message("note", text):
                self._view.report(text)
            case Message("end", uid):
                self._end(uid)
            case Message("events", Refused() as refused):
                self._events_refused = True
                self._view.report(f"{refused}; without it, less is said of what the cluster does")
            case Message(_, Failure() as failure):
                raise failure
            case Message("events", Listed(items)):
                self._tell(items)
            case Message("events", Changed(item, _)):
                self._tell([item])
            case Message("pods", Listed(items)):
                self._see(items)
            case Message("pods", Changed(item, _)):
                self._see([item])
            case Message("jobs", Listed(items)):
                same = [item for item in items if dig(item, "metadata", "uid") == dig(self._job, "metadata", "uid")]
                self._job, self._gone = (same or [self._job])[0], not same
            case Message("jobs", Changed(item, gone)):
                if dig(item, "metadata", "uid") == dig(self._job, "metadata", "uid"):
                    self._job, self._gone = item, gone

    def _ended(self) -> Outcome | None:
        """The outcome, once all that there is of the run was read and told."""
        if self._reading or outcome(self._job, in_order([*self._pods.values()]), self._gone) is None:
            return None
        # The Job's news may have overtaken those of its pods and events.
        self._see(releases.pods_of(self._cluster, self._job))
        if not self._events_refused:
            self._tell(self._cluster.list("events"))
        if self._reading:
            return None
        return outcome(self._job, in_order([*self._pods.values()]), self._gone)

    def _tell(self, events: list[Object]) -> None:
        for event in sorted(events, key=cluster_events.order_of):
            if cluster_events.is_about(event, self._job) and (key := cluster_events.key(event)) not in self._told:
                self._told.add(key)
                if text := cluster_events.report(event):
                    self._view.report(text)

    def _see(self, pods: list[Object]) -> None:
        for pod in pods:
            self._pods[str(dig(pod, "metadata", "uid"))] = pod
            if self._events_refused and (text := cluster_events.of_waiting(pod)):
                self._say_once(pod, text)
        self._read_next()

    def _read_next(self) -> None:
        """Of each worker one log after the other, in the order of its pods."""
        for pod in in_order([*self._pods.values()]):
            uid, worker = str(dig(pod, "metadata", "uid")), contract.worker_of(pod)
            if worker not in self._reading and uid not in self._read and log_stream.started(pod):
                self._reading[worker] = uid
                self._read.add(uid)
                log_stream.read(self._cluster, pod, self._news)

    def _end(self, uid: str) -> None:
        self._reading = {worker: read for worker, read in self._reading.items() if read != uid}
        # Its end is known by now, but the watch may not have brought it yet.
        self._see([pod for pod in releases.pods_of(self._cluster, self._job) if dig(pod, "metadata", "uid") == uid])
        if not condition(self._job, "Failed") and (text := end_of(self._pods[uid])):
            self._say_once(self._pods[uid], text)
        self._read_next()

    def _say_once(self, about: Object, text: str) -> None:
        key = cluster_events.Key(str(dig(about, "metadata", "uid")), "", text)
        if key not in self._told:
            self._told.add(key)
            self._view.report(text)
