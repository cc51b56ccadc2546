"""Creates Jobs, so many at a time, and waits for their ends."""

import contextlib
import queue
from collections.abc import Callable, Sequence

from kubectl_catsdogs.api.client import Cluster
from kubectl_catsdogs.api.watch import Changed, Listed, Message, watch
from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, dig, name_of
from kubectl_catsdogs.base.errors import Conflict, Failure, NotFound
from kubectl_catsdogs.jobs import releases
from kubectl_catsdogs.jobs.outcome import STOPPED, Outcome, outcome, stopped
from kubectl_catsdogs.jobs.state import is_going, resume, state_of

Say = Callable[[str], None]


def end(job: Object, pods: list[Object], gone: bool = False) -> Outcome | None:
    """How the run ended; to be stopped is an end as well."""
    ended = outcome(job, pods, gone)
    if ended is None and stopped(job):
        return Outcome(f"run {contract.run_id(job)} is stopped: its Job {name_of(job)} is suspended", STOPPED)
    return ended


class Sweep:
    """Names follow from settings, so what is there already counts as done or at work: whoever submits the same again
    goes on where an earlier command was interrupted. No Job is made before there is room for it, and so none needs to
    be looked after by this command: neither Kueue nor `stop` would know such a suspended one from their own.
    """

    def __init__(self, cluster: Cluster, jobs: Sequence[Object], parallel: int, wait: bool, say: Say):
        """The jobs are of one release; `wait` for the end of each, rather than until each is made."""
        self._cluster, self._parallel, self._wait, self._say = cluster, parallel, wait, say
        self.left = list(jobs)
        """Not yet made."""
        self._going: dict[str, Object] = {}
        """Name → the Job as it was seen last."""
        self._codes = [0]

    def run(self) -> int:
        """With `wait` the worst of the runs' exit codes, that is the highest; else 0. Raises a Failure."""
        release = releases.release_of(self.left[0])
        there: dict[str, Object] = {}
        if not self._wait and len(self.left) <= self._parallel:
            self._begin({name_of(job): job for job in releases.every_job(self._cluster, release)})
            return 0
        news: queue.Queue[Message] = queue.Queue()
        # Before the first Job is made, so that no end is missed; a Job may be removed as soon as it has ended.
        watch(self._cluster, "jobs", news, labels=f"{contract.INSTANCE}={release}")
        while self._waits():
            self._take(news.get(), there)
            self._begin(there)
        return max(self._codes) if self._wait else 0

    def _waits(self) -> bool:
        return bool(self.left or (self._wait and self._going))

    def _take(self, message: Message, there: dict[str, Object]) -> None:
        match message.content:
            case Failure() as failure:
                raise failure
            case Listed(items):
                there.clear()
                there.update({name_of(job): job for job in items})
                for name in list(self._going):
                    # A list that is read while a Job is made may lack it.
                    found = there.get(name) or self._find(name)
                    self._look(found or self._going[name], gone=found is None)
            case Changed(job, gone):
                there.pop(name_of(job), None)
                if not gone:
                    there[name_of(job)] = job
                if name_of(job) in self._going:
                    self._look(job, gone)

    def _find(self, name: str) -> Object | None:
        with contextlib.suppress(NotFound):
            return self._cluster.get("jobs", name)
        return None

    def _begin(self, there: dict[str, Object]) -> None:
        """Makes as many as there is room for, of those that are not there."""
        while self.left and len(self._going) < self._parallel:
            job = self.left[0]
            what = dig(job, "metadata", "annotations", contract.SET, default="")
            title = f"run {contract.run_id(job)}{f' ({what})' if what else ''}"
            found = there.get(name_of(job))
            if found is None:
                try:
                    self._going[name_of(job)] = self._cluster.create("jobs", job)
                except Conflict:
                    # Somebody submits the same.
                    found = self._cluster.get("jobs", name_of(job))
            del self.left[0]
            if found is None:
                self._say(f"{title}: submitted")
            else:
                self._found(title, found)

    def _found(self, title: str, job: Object) -> None:
        pods = releases.pods_of(self._cluster, job)
        state, _ = state_of(job, pods)
        self._say(f"{title}: is there already, {state}{_advice(job, state)}")
        if is_going(job):
            self._going[name_of(job)] = job
        elif ended := end(job, pods):
            self._codes.append(ended.exit_code)

    def _look(self, job: Object, gone: bool) -> None:
        self._going[name_of(job)] = job
        if gone or not is_going(job):
            ended = end(job, releases.pods_of(self._cluster, job), gone)
            if ended is not None:
                del self._going[name_of(job)]
                self._say(ended.text)
                self._codes.append(ended.exit_code)


def _advice(job: Object, state: str) -> str:
    if state == "Suspended":
        return f"; it goes on with: {resume(job)}"
    if state == "Failed":
        delete = contract.command(
            "kubectl", "delete", "job", name_of(job), "-n", str(dig(job, "metadata", "namespace", default="default"))
        )
        return f"; to go on where it failed, cure the cause and submit it again after: {delete}"
    return ""
