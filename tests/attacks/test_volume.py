"""What a neighbour on the volume can do: nothing that reaches a file outside of it, or that is not the run's own."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from catsdogs.results import completion, names, publish
from catsdogs.results.completion import Artifact
from catsdogs.runtime.errors import VolumeError
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import lease, volume
from catsdogs.storage.folder import Folder
from catsdogs.storage.store import Source
from tests import warm
from tests.conftest import REPOSITORY
from tests.published import check_manifest, files, objects
from tests.servers import S3Server

RUN = "baseline-0c2cfecc"
SPLIT = "643b8dac28e0f215"
ARGUMENTS = (
    "--archive=dogs-vs-cats.zip", "--volume=volume", "--train-per-class=12", "--validation-per-class=4",
    "--test-per-class=4", "--batch-size=5", "--recipe=baseline", "--image-size=48", "--epochs=24",
    "--learning-rate=0.006", "--seed=1", f"--run-id={RUN}",
)  # fmt: skip
SECRET = "c0ffee-secret-of-the-environment"
FOREIGN = b"a file of somebody else"
SECONDS = 20
"""Far more than a command takes: one that takes longer hangs."""
VOLUME_ERROR, CONFIG_ERROR = 74, 78


class Ended(NamedTuple):
    code: int | None
    """None if it had to be killed."""
    stdout: str
    stderr: str


def command(directory: Path, *arguments: str) -> Ended:
    """Run `catsdogs` in the directory, with a secret in its environment."""
    env = {"PATH": os.environ["PATH"], "AWS_SECRET_ACCESS_KEY": SECRET}
    try:
        process = warm.catsdogs(*arguments, env=env, directory=directory, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Ended(None, "", "")
    return Ended(process.returncode, process.stdout, process.stderr)


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive, and a volume on which a run is trained and everything is kept."""
    directory = tmp_path_factory.mktemp("golden")
    source = REPOSITORY / "tests/golden"
    shutil.copy(source / "dogs-vs-cats.zip", directory)
    shutil.copytree(source / "volume/work" / RUN, directory / "volume/work" / RUN)
    artifacts = directory / "volume/work" / RUN / "artifacts"
    shutil.copytree(source / "runs" / RUN, artifacts, dirs_exist_ok=True)
    for name in (names.LOG, names.MANIFEST):
        (artifacts / name).unlink()
    assert command(directory, "prepare", *ARGUMENTS, "--output=runs").code == 0
    shutil.rmtree(directory / "runs")
    return directory


@pytest.fixture
def place(golden: Path, tmp_path: Path) -> Path:
    shutil.copytree(golden, tmp_path / "place")
    outside = tmp_path / "outside"
    (outside / "cats").mkdir(parents=True)
    for name in ("file", "cats/cat.999.jpg", "cats/.cat.0.jpg.abc.part", "000000-000001.npz", "notes.txt"):
        (outside / name).write_bytes(FOREIGN)
    return tmp_path / "place"


def state(directory: Path) -> dict[str, object]:
    """Every name below the directory: a file's bytes, where a link leads, or what else it is."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        found[str(path.relative_to(directory))] = (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else mode
        )
    return found


# --- whatever takes the place of a file or a directory of the job ---


def _directory(path: Path) -> None:
    path.mkdir()
    (path / "file").write_bytes(FOREIGN)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o020666, os.makedev(1, 5))
        path.open("rb").close()
    except PermissionError:
        pytest.skip("only root may make devices, and not on every file system")


LINK = "a link to the environment"
KINDS: dict[str, Callable[[Path], object]] = {
    LINK: lambda path: path.symlink_to("/proc/self/environ"),
    "a link to a file": lambda path: path.symlink_to(OUTSIDE[0] / "file"),
    "a link to a directory": lambda path: path.symlink_to(OUTSIDE[0]),
    "a link to nowhere": lambda path: path.symlink_to(OUTSIDE[0] / "new"),
    "a pipe": os.mkfifo,
    "a directory": _directory,
    "a sparse file": _sparse,
    "a device": _device,
}
OUTSIDE: list[Path] = []
"""The directory of somebody else, for the links of one test."""

OF_PUBLISH = [
    "work", f"work/{RUN}",
    *(
        f"work/{RUN}/{name}"
        for name in (
            ".lock", ".made", "settings.json", "prepared.json", "log.jsonl", "owner", "log.snapshot.jsonl", "artifacts",
            "artifacts/artifacts.json", "artifacts/model.keras", "artifacts/history.png", "artifacts/run.json",
            "artifacts/tensorboard", "artifacts/tensorboard/train/events.out.tfevents.catsdogs",
        )
    ),
]  # fmt: skip
OF_PREPARE = [
    "archive", "archive/.lock", "archive/.made", "archive/*.zip", "splits", f"splits/{SPLIT}",
    *(
        f"splits/{SPLIT}/{name}"
        for name in (".lock", ".made", "split.json", "train", "train/cats", "test/dogs/dog.16.jpg")
    ),
]  # fmt: skip


QUICK = (
    f"work/{RUN}", *(f"work/{RUN}/{name}" for name in ("settings.json", "log.jsonl", "artifacts/model.keras")),
    "archive", *(f"splits/{SPLIT}/{name}" for name in ("split.json", "train/cats", "test/dogs/dog.16.jpg")),
)  # fmt: skip
"""A directory and files of every kind; with a link, they are tried in every run of the tests."""


@pytest.mark.parametrize(
    ("verb", "name", "kind"),
    [
        pytest.param(verb, name, kind, marks=() if kind == LINK and name in QUICK else pytest.mark.slow)
        for verb, every in (("publish", OF_PUBLISH), ("prepare", OF_PREPARE))
        for name in every
        for kind in KINDS
    ],
)
def test_what_takes_the_place_of_the_jobs_own(verb: str, name: str, kind: str, place: Path, tmp_path: Path) -> None:
    [path] = (place / "volume").glob(name) if "*" in name else [place / "volume" / name]
    if path.is_dir():
        path.rename(tmp_path / "away")
    else:
        path.unlink(missing_ok=True)
    OUTSIDE[:] = [tmp_path / "outside"]
    KINDS[kind](path)
    before = state(tmp_path / "outside")
    ended = command(place, verb, *ARGUMENTS, "--output=runs")
    assert ended.code in (0, VOLUME_ERROR, CONFIG_ERROR), ended
    assert ended.stderr.count("\n") == (0 if ended.code == 0 else 1), ended
    assert state(tmp_path / "outside") == before
    published = state(place / "runs") if (place / "runs").exists() else {}
    assert SECRET not in ended.stdout + ended.stderr
    for data in published.values():
        assert not isinstance(data, bytes) or (SECRET.encode() not in data and FOREIGN not in data)
    assert (names.MANIFEST in {Path(key).name for key in published}) == (verb == "publish" and ended.code == 0)
    if kind == "a directory":
        [foreign] = [found for found in (tmp_path / "place").rglob("file") if found.is_file()]
        assert foreign.read_bytes() == FOREIGN
    if ended.code == 0 and verb == "publish":
        check_manifest(files(place / "runs" / RUN))


def test_the_users_own_paths_may_be_links(place: Path, tmp_path: Path) -> None:
    (place / "volume").rename(tmp_path / "mounted")
    (place / "volume").symlink_to(tmp_path / "mounted")
    (place / "dogs-vs-cats.zip").rename(tmp_path / "blob")
    (place / "dogs-vs-cats.zip").symlink_to(tmp_path / "blob")
    (tmp_path / "published").mkdir()
    (place / "runs").symlink_to(tmp_path / "published")
    for verb in ("prepare", "publish"):
        assert command(place, verb, *ARGUMENTS, "--output=runs").code == 0
    check_manifest(files(tmp_path / "published" / RUN))


STRANGERS = (
    "README.txt", "notes.txt", ".draft.part", "verify/thesis.txt", "archive/notes.txt", "archive/.draft.part",
    f"splits/{SPLIT}/README.txt", f"splits/{SPLIT}/.split.json.0123456789abcdef.part",
    f"splits/{SPLIT}/train/README.txt", f"splits/{SPLIT}/train/cats/.cat.0.jpg.0123456789abcdef.part",
    f"splits/{SPLIT}/train/cats/cat.999.jpg", f"splits/{SPLIT}/test/birds/bird.0.jpg",
    f"work/{RUN}/notes.txt", f"work/{RUN}/.draft.part", f"work/{RUN}/checkpoint/notes.txt",
    f"work/{RUN}/checkpoint/weights.npz", f"work/{RUN}/checkpoint/000003-000000.npz",
    f"work/{RUN}/artifacts/thesis.docx", f"work/{RUN}/artifacts/.model.keras.0123456789abcdef.part",
)  # fmt: skip


@pytest.mark.parametrize("damaged", [False, True])
def test_the_files_of_others_stay(damaged: bool, place: Path) -> None:
    for name in STRANGERS:
        path = place / "volume" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FOREIGN)
    if damaged:
        (place / "volume/splits" / SPLIT / "split.json").unlink()
        (place / "volume/splits" / SPLIT / "test/dogs/dog.16.jpg").unlink()
    for verb in ("prepare", "publish"):
        ended = command(place, verb, *ARGUMENTS, "--output=runs")
        assert ended.code == 0, ended
    check_manifest(files(place / "runs" / RUN))
    assert all((place / "volume" / name).read_bytes() == FOREIGN for name in STRANGERS)


def test_a_log_that_shares_its_file_with_a_copy_is_not_written_through(place: Path, tmp_path: Path) -> None:
    """As after `cp --link` or a backup made of hard links."""
    log = place / "volume/work" / RUN / "log.jsonl"
    os.link(log, tmp_path / "backup")
    before = log.read_bytes()
    assert command(place, "publish", *ARGUMENTS, "--output=runs").code == 0
    assert (tmp_path / "backup").read_bytes() == before
    assert log.read_bytes().startswith(before)
    assert len(log.read_bytes()) > len(before)


def test_what_a_killed_process_left_is_removed(place: Path) -> None:
    """It is known by the process that recorded itself."""
    for folder in (f"work/{RUN}", f"splits/{SPLIT}"):
        [process] = json.loads((place / "volume" / folder / volume.MADE).read_bytes())["processes"]
        (place / "volume" / folder / f".settings.json.{process}00c0ffee.part").write_bytes(b"half")
    assert command(place, "prepare", *ARGUMENTS, "--output=runs").code == 0
    assert not list((place / "volume").rglob("*.part"))


MADE = [
    json.dumps({"format": 1, "processes": [".*", "("], "files": []}).encode(),
    json.dumps({"format": 1, "processes": [], "files": ["checkpoint/../../../../outside/file"]}).encode(),
    b"[" * 100_000,
    json.dumps({"format": 1, "processes": [], "files": ["/etc/passwd", "checkpoint/\0"]}).encode(),
    b"", b"[]", b"{}", b'{"format": 1, "processes": 1}', b'{"format": 1, "files": [1]}', b"\xff",
]  # fmt: skip
QUICK_MADE = 3
"""The first ones, of each kind one: patterns, a path, no document."""


@pytest.mark.parametrize(
    "made", [*MADE[:QUICK_MADE], *(pytest.param(made, marks=pytest.mark.slow) for made in MADE[QUICK_MADE:])]
)
def test_a_record_of_the_jobs_files_that_lies(made: bytes, place: Path, tmp_path: Path) -> None:
    (place / "volume/work" / RUN / volume.MADE).write_bytes(made)
    (place / "volume/work" / RUN / ".draft.part").write_bytes(FOREIGN)
    ended = command(place, "publish", *ARGUMENTS, "--output=runs")
    assert ended.code == 0, ended
    assert (tmp_path / "outside/file").read_bytes() == FOREIGN
    assert (place / "volume/work" / RUN / ".draft.part").read_bytes() == FOREIGN


# --- what was verified is what is published ---


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def linked(path: Path) -> None:
    """The same bytes, but not there."""
    copy = path.parents[4] / "elsewhere"
    path.rename(copy)
    path.symlink_to(copy)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda artifacts: flip(artifacts / "model.keras"),
    "a link": lambda artifacts: linked(artifacts / "history.png"),
    "a cut": lambda artifacts: (artifacts / "predictions.csv").write_bytes(b""),
}


class Publishing(NamedTuple):
    """`catsdogs publish` while another process has the lease."""

    process: subprocess.Popen[str]
    release: Callable[[], object]
    published: Callable[[], dict[str, bytes]]


@contextlib.contextmanager
def publishing(place: Path, server: S3Server | None, bucket: str | None) -> Iterator[Publishing]:
    held = b'{"format": 1, "owner": "another", "renewals": 1}'
    output = f"s3://{bucket}/runs" if server else "runs"
    if server:
        assert bucket is not None
        client = server.client()
        client.put_object(Bucket=bucket, Key=f"runs/{RUN}/{lease.KEY}", Body=held)
    else:
        (place / "runs" / RUN).mkdir(parents=True)
        (place / "runs" / RUN / lease.KEY).write_bytes(held)

    def published() -> dict[str, bytes]:
        return objects(server, bucket, f"runs/{RUN}/") if server and bucket else files(place / "runs" / RUN)

    def release() -> None:
        if server:
            assert bucket is not None
            client.delete_object(Bucket=bucket, Key=f"runs/{RUN}/{lease.KEY}")
        else:
            (place / "runs" / RUN / lease.KEY).unlink()

    process = subprocess.Popen(
        [sys.executable, "-m", "catsdogs", "publish", *ARGUMENTS, f"--output={output}"],
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "job"),
            **(server.environment if server else {"AWS_SECRET_ACCESS_KEY": SECRET}),
        },
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        # run.json is put once the artifacts are checked.
        deadline = time.monotonic() + SECONDS
        while names.RUN not in published():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        yield Publishing(process, release, published)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("change", "store"),
    [
        ("a flipped bit", "seaweedfs"), ("a link", "folder"),
        *(
            pytest.param(change, store, marks=pytest.mark.slow)
            for change, store in (
                ("a flipped bit", "folder"), ("a link", "seaweedfs"), ("a cut", "folder"), ("a cut", "seaweedfs"),
            )
        ),
    ],
)  # fmt: skip
def test_what_changes_after_the_check_is_not_published(
    change: str, store: str, place: Path, request: pytest.FixtureRequest
) -> None:
    if store == "folder":
        server = bucket = None
    else:
        server, bucket = request.getfixturevalue("seaweedfs"), request.getfixturevalue("bucket")
    work = place / "volume/work" / RUN
    (work / "owner").symlink_to("/proc/self/environ")
    with publishing(place, server, bucket) as job:
        CHANGES[change](work / "artifacts")
        job.release()
        _, stderr = job.process.communicate(timeout=SECONDS)
        assert job.process.returncode == VOLUME_ERROR, stderr
        assert stderr.count("\n") == 1
        assert "run the same command again" in stderr or "links on the volume are not followed" in stderr
        published = job.published()
        assert names.MANIFEST not in published
        for data in published.values():
            assert b"AWS_SECRET_ACCESS_KEY" not in data


class Changing(Folder):
    """While it stores the model, the file on the volume changes."""

    def __init__(self, root: Path, file: Path, times: int):
        super().__init__(root)
        self.file, self.times = file, times

    def put_if(self, key: str, source: Source, etag: str | None) -> str | None:
        if key == names.MODEL and self.times > 0:
            self.times -= 1
            flip(self.file)
        return super().put_if(key, source, etag)


@pytest.mark.parametrize("times", [1, 2])
def test_what_changes_while_it_is_sent_is_not_published(times: int, tmp_path: Path) -> None:
    """Even if it changes back for a second attempt."""
    (tmp_path / names.MODEL).write_bytes(bytes(1 << 20))
    output = Changing(tmp_path / "output", tmp_path / names.MODEL, times)
    artifacts = {names.MODEL: Artifact.of(tmp_path / names.MODEL)}
    with pytest.raises(VolumeError, match=r"model\.keras: changed since it was checked"):
        publish.publish(output, artifacts, "run", "owner", Log([]), Interruption())
    assert names.MANIFEST not in dict(output.list())


# --- artifacts.json is not believed ---


RECORDS: dict[str, Callable[[dict[str, str], Path], object]] = {
    "nothing": lambda digests, _: {},
    "an empty object": lambda digests, _: {"format": 1, "artifacts": {}},
    "no model": lambda digests, _: {name: digests[name] for name in digests if name != names.MODEL},
    "an absolute path": lambda digests, outside: {**digests, str(outside / "file"): _sha256(FOREIGN)},
    "a path outside": lambda digests, _: {**digests, "../../../../../outside/file": _sha256(FOREIGN)},
    "a file of the run's folder": lambda digests, _: {**digests, "thesis.docx": _sha256(FOREIGN)},
    "something else": lambda digests, _: ["model.keras"],
}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind in ("no model", "a path outside") else pytest.mark.slow) for kind in RECORDS],
)
def test_a_record_of_artifacts_that_lies(kind: str, place: Path, tmp_path: Path) -> None:
    artifacts = place / "volume/work" / RUN / "artifacts"
    (artifacts / "thesis.docx").write_bytes(FOREIGN)
    digests = json.loads((artifacts / completion.RECORD).read_bytes())
    (artifacts / completion.RECORD).write_text(json.dumps(RECORDS[kind](digests, tmp_path / "outside")))
    ended = command(place, "publish", *ARGUMENTS, "--output=runs")
    assert ended.code == CONFIG_ERROR, ended
    assert "nothing trained; run `catsdogs train` first" in ended.stderr
    assert not (place / "runs" / RUN / names.RUN).exists()
    # The run id is not spent: what is complete is published under it.
    (artifacts / completion.RECORD).write_text(json.dumps(digests))
    assert command(place, "publish", *ARGUMENTS, "--output=runs").code == 0


# --- copies of one volume ---


@pytest.mark.parametrize(
    ("trial", "store"),
    [
        pytest.param(trial, store, marks=() if (trial, store) == (0, "seaweedfs") else pytest.mark.slow)
        for trial in range(4)
        for store in ("folder", "seaweedfs")
    ],
)
def test_three_copies_of_a_volume_publish_at_once(
    trial: int, store: str, place: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One is published, whole: its manifest, its log. That all know an `owner` makes no difference."""
    (place / "volume/work" / RUN / "owner").write_text("0123456789abcdef")
    server: S3Server | None = None
    output = str(tmp_path / "runs")
    environment: dict[str, str] = {}
    if store == "seaweedfs":
        server, bucket = request.getfixturevalue("seaweedfs"), request.getfixturevalue("bucket")
        output, environment = f"s3://{bucket}/runs", server.environment
    copies = [shutil.copytree(place, tmp_path / f"copy-{number}") for number in range(3)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "catsdogs", "publish", *ARGUMENTS, f"--output={output}"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "job"), **environment},
            cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for copy in copies
    ]  # fmt: skip
    said = [process.communicate(timeout=90) for process in processes]
    assert {process.returncode for process in processes} <= {0, 75}, said
    assert sum("each verified" in stdout for stdout, _ in said) == 1, said
    published = objects(server, bucket, f"runs/{RUN}/") if server else files(tmp_path / "runs" / RUN)
    check_manifest(published)
    logs = [(copy / "volume/work" / RUN / "log.jsonl").read_bytes() for copy in copies]
    assert sum(log.startswith(published[names.LOG]) for log in logs) == 1
