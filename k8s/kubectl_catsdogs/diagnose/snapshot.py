"""What was read of a run for its diagnosis."""

from dataclasses import dataclass, field

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.objects import Object, dig, name_of, uid_of
from kubectl_catsdogs.jobs.cluster_events import order_of
from kubectl_catsdogs.jobs.job_log import last_text


@dataclass(frozen=True)
class Snapshot:
    """Of one run. None stands for what may not be read, or does not matter at the run's stage."""

    release: str
    namespace: str
    job: Object | None = None
    pods: list[Object] = field(default_factory=list)
    """The run's, oldest first."""
    events: list[Object] = field(default_factory=list)
    """About the Job, its pods and claims, in any order."""
    claims: list[Object] | None = None
    """The namespace's volume claims."""
    classes: list[Object] | None = None
    """The cluster's storage classes."""
    nodes: list[Object] | None = None
    others: list[Object] | None = None
    """All pods of the cluster that have a node and have not ended."""
    quotas: list[Object] | None = None
    workload: Object | None = None
    """Kueue's Workload of this Job."""
    log: list[str] = field(default_factory=list)
    """Lines of the log, newest last: the pod's, or the bucket's if there is no pod."""
    log_hint: str = ""
    """How to read the log in the bucket, if that failed."""
    remains: Object | None = None
    """What is left of a release without a Job: its CronJob, service account or claim."""

    @property
    def pod(self) -> Object | None:
        """The newest; of several workers the first that the others wait for, or that ended them."""
        return min(chart.newest_of_workers(self.pods), key=_progress, default=None)

    @property
    def missing_workers(self) -> list[int]:
        """Workers without a pod."""
        existing = {chart.worker_of(pod) for pod in self.pods}
        return [index for index in range(chart.workers(self.job)) if index not in existing]

    @property
    def pod_place(self) -> str:
        return self.place_of(self.pod or {})

    def place_of(self, pod: Object) -> str:
        workers = chart.workers(self.job)
        return f"pod {name_of(pod)}" + (f", worker {chart.worker_of(pod)} of {workers}" if workers > 1 else "")

    @property
    def job_place(self) -> str:
        return f"Job {name_of(self.job or {})}"

    @property
    def last_line(self) -> list[str]:
        """The last line of the log that people read, as evidence; empty without one."""
        text = last_text(self.log)
        return [] if text is None else [f"log: {text}"]

    def messages(self, item: Object | None, *reasons: str) -> list[str]:
        """Return the messages of the events about an object with one of these reasons, newest last."""
        about = [
            event
            for event in self.events
            if item is not None
            and event.get("reason") in reasons
            and dig(event, "involvedObject", "name") == name_of(item)
            and dig(event, "involvedObject", "uid") in (None, "", uid_of(item))
        ]
        # The API server keeps one event for repetitions, with the time of the last.
        return [str(event.get("message") or "") for event in sorted(about, key=order_of)]


def _progress(pod: Object) -> int:
    """Sort key: the lower, the more the pod holds up the other workers."""
    phase = dig(pod, "status", "phase", default="Pending")
    code = dig(chart.terminated(pod), "exitCode")
    if code is not None or phase in ("Failed", "Succeeded"):
        return {0: 5, 75: 3}.get(code, 2)
    return 4 if phase == "Running" else 1 if dig(pod, "spec", "nodeName") else 0
