"""What was read of a run, and what is found in it."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, dig, name_of
from kubectl_catsdogs.jobs.cluster_events import order_of


class Finding(NamedTuple):
    what: str
    """The cause, in one line."""
    where: str
    """The object that shows it, as in 'pod pets-1-abcde'."""
    evidence: list[str]
    """What the cluster or the job itself says, shortened to what counts."""
    next: list[str]
    """What to do about it."""


@dataclass(frozen=True)
class Seen:
    """Of a release's newest run. None stands for what may not be read, or is of no use to that run's stage."""

    release: str
    namespace: str
    job: Object | None = None
    pods: list[Object] = field(default_factory=list)
    """The run's, the oldest first."""
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
    """Kueue's, of this Job."""
    said: list[str] = field(default_factory=list)
    """Lines of the log, the newest last: the pod's, or the bucket's if there is no pod."""
    log_hint: str = ""
    """How to read the log in the bucket, where it was looked for and not read."""
    remains: Object | None = None
    """What is left of the release where there is no Job: its CronJob, service account or claim."""

    @property
    def pod(self) -> Object | None:
        """The newest; of several workers' the first for which the others wait, or whose end they share."""
        return min(contract.newest_of_workers(self.pods), key=_how_far, default=None)

    @property
    def missing(self) -> list[int]:
        """Workers without a pod."""
        there = {contract.worker_of(pod) for pod in self.pods}
        return [index for index in range(contract.workers(self.job)) if index not in there]

    @property
    def pod_place(self) -> str:
        return self.place_of(self.pod or {})

    def place_of(self, pod: Object) -> str:
        workers = contract.workers(self.job)
        return f"pod {name_of(pod)}" + (f", worker {contract.worker_of(pod)} of {workers}" if workers > 1 else "")

    @property
    def job_place(self) -> str:
        return f"Job {name_of(self.job or {})}"

    def events_of(self, item: Object | None, *reasons: str) -> list[str]:
        """The messages of the events about an object that have one of these reasons, the newest last."""
        about = [
            event
            for event in self.events
            if item is not None
            and event.get("reason") in reasons
            and dig(event, "involvedObject", "name") == name_of(item)
            and dig(event, "involvedObject", "uid") in (None, "", dig(item, "metadata", "uid"))
        ]
        # Of events that repeat, the API server keeps one, with the last one's time.
        return [str(event.get("message") or "") for event in sorted(about, key=order_of)]


def _how_far(pod: Object) -> int:
    """The less, the more it holds the other workers up."""
    phase = dig(pod, "status", "phase", default="Pending")
    code = dig(contract.terminated(pod), "exitCode")
    if code is not None or phase in ("Failed", "Succeeded"):
        return {0: 5, 75: 3}.get(code, 2)
    return 4 if phase == "Running" else 1 if dig(pod, "spec", "nodeName") else 0


class Rule(NamedTuple):
    """What a message of the cluster means."""

    pattern: str
    what: str
    """May name the pattern's groups, as in {name}."""
    next: str

    def apply(self, message: str) -> tuple[str, str] | None:
        """(what, next step) if the message fits."""
        found = re.search(self.pattern, message)
        return (self.what.format(**found.groupdict()), self.next.format(**found.groupdict())) if found else None


def first_rule(rules: list[Rule], message: str) -> tuple[str, str] | None:
    return next((found for rule in rules if (found := rule.apply(message))), None)
