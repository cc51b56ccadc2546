"""Whoever reaches TensorFlow's port of several workers gets no secret of the pod, and changes none of its programs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.faults.running import Job, environment, together
from tests.published import check_manifest, new_bucket, objects
from tests.servers import S3Server
from tests.workers import MODEL, RUN_ID, addresses

HERE = Path(__file__).parent
IN_VARIABLE, IN_FILE = "secret-of-a-variable", "secret-of-a-file"
VARIABLES = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD",
    "CATSDOGS_WORKER_KEY", "HTTPS_PROXY", "ANOTHER_TOKEN", "KAGGLE_KEY",
)  # fmt: skip
OF_PROCESS = ("environ", "cmdline", "task/[0-9]*/environ", "fd/*")
EVERY_PROCESS = tuple(f"/proc/[0-9]*/{name}" for name in OF_PROCESS)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory).resolve()


class Secrets:
    """Secrets in every place of a pod that the job's libraries look at, and beside programs."""

    def __init__(self, place: Path):
        self.home, beside = place / "home", place / "programs"
        files = {
            "AWS_SHARED_CREDENTIALS_FILE": self.home / ".aws/credentials",
            "AWS_CONFIG_FILE": self.home / ".aws/config",
            "AWS_WEB_IDENTITY_TOKEN_FILE": place / "run/secrets/eks.amazonaws.com/serviceaccount/token",
            # Below a folder from which programs are imported.
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": beside / "deep/token",
            "CATSDOGS_WORKER_KEY_FILE": beside / "worker/key",
        }
        self.files = [*files.values(), self.home / ".mlflow/credentials", self.home / ".netrc", place / "mounted/key"]
        for path in self.files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"[default]\naws_session_token = {IN_FILE}\n")
        (beside / "deep/module.py").write_text("")
        # As Kubernetes mounts a Secret: a link to a link.
        mounted = beside / "mounted"
        if not mounted.exists():
            (mounted / "..2026").mkdir(parents=True)
            (mounted / "..2026/token").write_text(IN_FILE)
            (mounted / "..data").symlink_to("..2026")
            (mounted / "token").symlink_to("..data/token")
        files["GOOGLE_APPLICATION_CREDENTIALS"] = mounted / "token"
        self.files += [mounted / "token", mounted / "..data/token", mounted / "..2026/token"]
        self.beside = beside
        self.environment = {
            **dict.fromkeys(VARIABLES, IN_VARIABLE),
            **{name: str(path) for name, path in files.items()},
            "HOME": str(self.home),
            "PYTHONPATH": f"{REPOSITORY / 'job'}{os.pathsep}{beside}",
        }

    def paths(self, volume: Path, processes: Sequence[str] = EVERY_PROCESS) -> list[str]:
        """Every way to them that a name can go. `processes` are what to look at of other processes."""
        link = volume / "link"
        volume.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(self.files[0])
        named = [str(path) for path in self.files]
        through = [f"/proc/self/{way}{path}" for path in named[:3] for way in ("root", "cwd/../../../../../..")]
        own = ("/proc/self/environ", "/proc/thread-self/environ", "/proc/1/environ", "/proc/self/fd/*")
        return [*named, *through, *own, *processes, str(link), f"{volume}/../home/.aws/credentials"]


def check_nothing(found: dict[str, str | None]) -> None:
    assert "/proc/self/environ" in found
    for path, content in found.items():
        for secret in (IN_VARIABLE, IN_FILE):
            assert secret not in (content or ""), path


NOBODY = 65534
USERS = {
    "oneself": (),
    # It may read what lies in root's home, as Python may do there, and has no other right of root.
    "nobody": (
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search",
    ),
}  # fmt: skip
ALLOWED = list(USERS) if os.geteuid() == 0 else ["oneself"]
each_user = pytest.mark.parametrize("user", ALLOWED)
either_user = pytest.mark.parametrize(
    "user", [pytest.param(user, marks=() if user == ALLOWED[-1] else pytest.mark.slow) for user in ALLOWED]
)
"""The one with fewer rights is enough; `make test-slow` takes the other as well."""


def run_as(user: str, place: Path, env: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    for path in (place, *place.rglob("*")) if user == "nobody" else ():
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return subprocess.run(
        [*USERS[user], sys.executable, *command], env=environment(env), cwd=place, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def probed(
    place: Path, user: str, *paths: str, env: dict[str, str], through: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs `probe.py`, `through` another command."""
    where = (str(place / "volume"), "s3://bucket/dogs-vs-cats.zip", "s3://bucket/runs")
    return run_as(user, place, env, *through, str(HERE / "probe.py"), *where, *paths)


@each_user
def test_training_process_can_read_no_secret(user: str, place: Path) -> None:
    secrets = Secrets(place)
    paths = secrets.paths(place / "volume")
    process = probed(place, user, *paths, env=secrets.environment)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    check_nothing(found)
    # What it needs it can read, also beside a secret.
    assert found["/proc/self/environ"]
    assert "HOME=" in found["/proc/self/environ"]


@either_user
def test_the_same_without_protection(user: str, place: Path) -> None:
    """That the paths lead to the secrets, and the test above would notice."""
    secrets = Secrets(place)
    paths = secrets.paths(place / "volume")
    reading = "import sys\nfor path in sys.argv[1:]:\n try: print(open(path).read())\n except OSError: pass"
    process = run_as(user, place, secrets.environment, "-c", reading, *paths)
    assert process.stdout.count(IN_FILE) >= len(secrets.files)
    assert process.stdout.count(IN_VARIABLE) >= len(VARIABLES)


@either_user
def test_training_process_writes_nothing_but_its_run(user: str, place: Path) -> None:
    secrets = Secrets(place)
    targets = {
        "program": secrets.beside / "deep/module.py", "new module": secrets.beside / "sitecustomize.py",
        "home": secrets.home / ".bashrc", "elsewhere": place / "new", "secret": secrets.files[0],
    }  # fmt: skip
    process = probed(
        place, user, *(f">{path}" for path in targets.values()), f">{place}/volume/new", env=secrets.environment
    )
    assert process.returncode == 0, process.stderr
    assert list(json.loads(process.stdout)) == [f">{place}/volume/new"]
    for path in targets.values():
        assert not path.exists() or "stranger" not in path.read_text()


def test_secret_on_the_volume_is_refused(place: Path) -> None:
    token = place / "volume/token"
    token.parent.mkdir()
    token.write_text(IN_FILE)
    process = probed(place, "oneself", "/proc/self/environ", env={"AWS_WEB_IDENTITY_TOKEN_FILE": str(token)})
    assert process.returncode == 78
    assert process.stderr.startswith(f"{token}: ")
    assert len(process.stderr.splitlines()) == 1


WITHOUT_LANDLOCK = (str(HERE / "without_landlock.py"), sys.executable)


@either_user
def test_without_landlock_no_secret_may_lie_in_a_file(user: str, place: Path) -> None:
    secrets = Secrets(place)
    process = probed(place, user, "/proc/self/environ", env=secrets.environment, through=WITHOUT_LANDLOCK)
    assert process.returncode == 78
    assert "Landlock" in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert IN_FILE not in process.stderr


@either_user
def test_without_landlock_variables_stay_secret(user: str, place: Path) -> None:
    variables = dict.fromkeys(VARIABLES, IN_VARIABLE) | {"HOME": str(place / "nowhere")}
    (place / "volume").mkdir()
    paths = ("/proc/self/environ", *EVERY_PROCESS)
    process = probed(place, user, *paths, env=variables, through=WITHOUT_LANDLOCK)
    assert process.returncode == 0, process.stderr
    [line] = process.stderr.splitlines()
    assert json.loads(line)["event"] == "unconfined"
    check_nothing(json.loads(process.stdout))


@pytest.mark.parametrize("delay", [0.4, *(pytest.param(delay, marks=pytest.mark.slow) for delay in (0.2, 0.6))])
def test_signal_while_a_worker_splits_in_two(delay: float, place: Path) -> None:
    """None is lost between the two programs that one process executes, and nothing is left."""
    where = ("--archive=x.zip", "--output=out", "--volume=volume", "--workers=2", "--worker-index=1")
    listed = f"--worker-address={addresses(2)}"
    with Job("run", *where, listed, env={"TMPDIR": str(place)}, directory=place / "work") as job:
        job.until_true(lambda: job.catches(signal.SIGTERM))
        time.sleep(delay)
        job.process.send_signal(signal.SIGTERM)
        assert job.wait(20) == 75
    assert "SIGTERM received" in job.said()
    deadline = time.monotonic() + 10
    while list(place.glob("catsdogs-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def listening(pid: int) -> int:
    """How many TCP ports the process listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(descriptor))
    tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines() for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    return sum(words[3] == "0A" and f"socket:[{words[9]}]" in inodes for words in lines)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def check_gone(*pids: int) -> None:
    """They end by themselves, once their worker has."""
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def asked(address: str, paths: list[str]) -> dict[str, str | None]:
    process = subprocess.run(
        [sys.executable, str(HERE / "peer.py"), address, *paths], capture_output=True, text=True, timeout=200
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, str | None] = json.loads(process.stdout)
    return found


def workers_on(server: S3Server, bucket: str, place: Path, *more: str) -> tuple[list[Job], list[str]]:
    """Two workers that train from a bucket to a bucket, and their addresses."""
    secrets = Secrets(place)
    listed = addresses(2)
    where = (
        f"--archive=s3://{bucket}/datasets/dogs-vs-cats.zip", f"--output=s3://{bucket}/runs", f"--volume={place}/volume"
    )  # fmt: skip
    env = secrets.environment | server.environment
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_SESSION_TOKEN", "HTTPS_PROXY"):
        del env[name]
    env |= {"MLFLOW_TRACKING_URI": f"file://{place}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
    jobs = [
        Job(
            "run", *where, *MODEL, f"--run-id={RUN_ID}", "--log-format=json", "--heartbeat-timeout=5", "--workers=2",
            f"--worker-address={listed}", f"--worker-index={index}", "--checkpoint-to=bucket", *more, env=env,
            directory=place,
        )
        for index in (0, 1)
    ]  # fmt: skip
    return jobs, listed.split(",")


@pytest.mark.slow
def test_peer_of_tensorflow_gets_no_secret(seaweedfs: S3Server, sample_archive: Path, place: Path) -> None:
    """Both workers are attacked while they train; the run then ends as any other, in the bucket and in MLflow."""
    bucket = new_bucket(seaweedfs, sample_archive)
    jobs, listed = workers_on(seaweedfs, bucket, place, "--epochs=60")
    with together(jobs):
        jobs[0].until("epoch")
        brokers = [child for job in jobs for child in children(job.pid)]
        assert len(brokers) == 2
        for worker, address in enumerate(listed):
            volume = place / "volume" / (f"worker-{worker}" if worker else "")
            others = [f"/proc/{pid}/{name}" for pid in (*brokers, *(job.pid for job in jobs)) for name in OF_PROCESS]
            paths = [*Secrets(place).paths(volume, others), f">{place}/home/x", f">{REPOSITORY}/job/x.py"]
            found = asked(address, paths)
            check_nothing(found)
            assert not any(seaweedfs.secret_key in (content or "") for content in found.values())
            assert found[f">{place}/home/x"] is found[f">{REPOSITORY}/job/x.py"] is None
        assert jobs[0].process.poll() is None
        assert [job.wait() for job in jobs] == [0, 0], [job.stderr for job in jobs]
        check_gone(*brokers)
    check_manifest(objects(seaweedfs, bucket, f"runs/{RUN_ID}/"))
    assert jobs[0].until("tracked")["artifacts"] > 5
    assert list((place / "mlruns").rglob("model.keras"))


@pytest.mark.slow
def test_storage_process_is_killed(seaweedfs: S3Server, sample_archive: Path, place: Path) -> None:
    """Its worker, and the group with it, ends in one line, and resumes."""
    bucket = new_bucket(seaweedfs, sample_archive)
    jobs, _ = workers_on(seaweedfs, bucket, place, "--epochs=200")
    with together(jobs):
        jobs[0].until("epoch")
        [broker], [other] = children(jobs[1].pid), children(jobs[0].pid)
        os.kill(broker, signal.SIGKILL)
        assert [job.wait(20) for job in jobs] == [75, 75]
        assert "the storage process has ended" in jobs[1].said()
        check_gone(other)
    jobs, _ = workers_on(seaweedfs, bucket, place, "--epochs=200")
    with together(jobs):
        jobs[0].until("resumed")


@pytest.mark.slow
def test_single_worker_listens_nowhere(sample_archive: Path, tmp_path: Path) -> None:
    """So it needs no second process either."""
    where = (f"--archive={sample_archive}", f"--output={tmp_path}/runs", f"--volume={tmp_path}/volume")
    with Job("run", *where, *MODEL, "--log-format=json", "--epochs=200", env={}, directory=tmp_path) as job:
        job.until("epoch")
        assert listening(job.pid) == 0
        assert children(job.pid) == []
