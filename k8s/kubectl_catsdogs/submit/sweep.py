"""Creates Jobs, a limited number at a time, and waits for their ends."""

import contextlib
import queue
from collections.abc import Callable, Sequence

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.watch import Changed, Listed, Message, watch
from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.errors import Conflict, Failure, NotFound
from kubectl_catsdogs.base.objects import Object, dig, name_of
from kubectl_catsdogs.base.text import shell_command
from kubectl_catsdogs.jobs import releases
from kubectl_catsdogs.jobs.outcome import INTERRUPTED, Outcome, outcome, stopped
from kubectl_catsdogs.jobs.state import is_active, resume_command, state_of

Write = Callable[[str], None]


def end(job: Object, pods: list[Object], gone: bool = False) -> Outcome | None:
    """Return how the run ended; a run that was stopped has ended, too."""
    ended = outcome(job, pods, gone)
    if ended is None and stopped(job):
        return Outcome(f"run {chart.run_id(job)} is stopped: its Job {name_of(job)} is suspended", INTERRUPTED)
    return ended


class Sweep:
    """Names follow from settings, so Jobs that exist count as done or active: submitting the same again continues where
    an earlier command was interrupted. No Job is created before there is room for it, so that none depends on this
    command: neither Kueue nor `stop` could tell such a suspended Job from their own.
    """

    def __init__(self, cluster: Cluster, jobs: Sequence[Object], parallel: int, wait: bool, write: Write):
        """The jobs are of one release. `wait` means until each has ended, rather than until each is created."""
        self._cluster, self._parallel, self._wait, self._write = cluster, parallel, wait, write
        self.pending = list(jobs)
        """Not yet created."""
        self._active: dict[str, Object] = {}
        """Name → the Job as last seen."""
        self._codes = [0]

    def run(self) -> int:
        """Return, with `wait`, the highest of the runs' exit codes; else 0. Raises a Failure."""
        release = releases.release_of(self.pending[0])
        existing: dict[str, Object] = {}
        if not self._wait and len(self.pending) <= self._parallel:
            self._create({name_of(job): job for job in releases.all_jobs(self._cluster, release)})
            return 0
        news: queue.Queue[Message] = queue.Queue()
        # Before the first Job is created, so that no end is missed: a Job may be removed as soon as it has ended.
        watch(self._cluster, "jobs", news, labels=f"{chart.INSTANCE}={release}")
        while self._unfinished():
            self._take(news.get(), existing)
            self._create(existing)
        return max(self._codes) if self._wait else 0

    def _unfinished(self) -> bool:
        return bool(self.pending or (self._wait and self._active))

    def _take(self, message: Message, existing: dict[str, Object]) -> None:
        match message.content:
            case Failure() as failure:
                raise failure
            case Listed(items):
                existing.clear()
                existing.update({name_of(job): job for job in items})
                for name in list(self._active):
                    # A list that was read while a Job was created may lack it.
                    current = existing.get(name) or self._get(name)
                    self._update(current or self._active[name], gone=current is None)
            case Changed(job, gone):
                existing.pop(name_of(job), None)
                if not gone:
                    existing[name_of(job)] = job
                if name_of(job) in self._active:
                    self._update(job, gone)

    def _get(self, name: str) -> Object | None:
        with contextlib.suppress(NotFound):
            return self._cluster.get("jobs", name)
        return None

    def _create(self, existing: dict[str, Object]) -> None:
        """Create as many pending Jobs as there is room for; those that exist are only reported."""
        while self.pending and len(self._active) < self._parallel:
            job = self.pending[0]
            settings = dig(job, "metadata", "annotations", chart.SET, default="")
            title = f"run {chart.run_id(job)}{f' ({settings})' if settings else ''}"
            already = existing.get(name_of(job))
            if already is None:
                try:
                    self._active[name_of(job)] = self._cluster.create("jobs", job)
                except Conflict:
                    # Somebody else submits the same.
                    already = self._cluster.get("jobs", name_of(job))
            del self.pending[0]
            if already is None:
                self._write(f"{title}: submitted")
            else:
                self._take_existing(title, already)

    def _take_existing(self, title: str, job: Object) -> None:
        pods = releases.pods_of(self._cluster, job)
        state, _ = state_of(job, pods)
        self._write(f"{title}: already exists, {state}{_advice(job, state)}")
        if is_active(job):
            self._active[name_of(job)] = job
        elif ended := end(job, pods):
            self._codes.append(ended.exit_code)

    def _update(self, job: Object, gone: bool) -> None:
        self._active[name_of(job)] = job
        if gone or not is_active(job):
            ended = end(job, releases.pods_of(self._cluster, job), gone)
            if ended is not None:
                del self._active[name_of(job)]
                self._write(ended.text)
                self._codes.append(ended.exit_code)


def _advice(job: Object, state: str) -> str:
    if state == "Suspended":
        return f"; resume it with: {resume_command(job)}"
    if state == "Failed":
        namespace = str(dig(job, "metadata", "namespace", default="default"))
        delete = shell_command("kubectl", "delete", "job", name_of(job), "-n", namespace)
        return f"; to resume it, correct the cause, and submit it again after: {delete}"
    return ""
