"""When settings bind a run: from the moment when something of it exists, on the volume or in the store."""

import shutil
import zipfile
from pathlib import Path

import pytest

from tests import warm
from tests.conftest import Catsdogs, environment_in
from tests.faults.running import Job, together
from tests.workers import addresses

TINY = (
    "--train-per-class=4", "--validation-per-class=2", "--test-per-class=2", "--image-size=46", "--batch-size=4",
    "--epochs=1", "--run-id=bound",
)  # fmt: skip


@pytest.fixture
def wrong_archive(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "no animals")
    return path


def arguments(tmp_path: Path, *more: str | Path) -> list[str]:
    return [f"--output={tmp_path / 'runs'}", f"--volume={tmp_path / 'volume'}", *TINY, *map(str, more)]


@pytest.fixture(scope="module")
def trained(sample_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the volume and the output of a run that is trained, but not published. Copy it."""
    directory = tmp_path_factory.mktemp("trained")
    for part in ("prepare", "train"):
        options = arguments(directory, f"--archive={sample_archive}")
        process = warm.catsdogs(part, *options, env=environment_in(directory), directory=directory)
        assert process.returncode == 0, process.stderr
    return directory


def test_start_on_a_wrong_archive_binds_nothing(
    catsdogs: Catsdogs, wrong_archive: Path, sample_archive: Path, tmp_path: Path
) -> None:
    """Neither another archive nor other options are refused after it."""
    for wrong in (wrong_archive, tmp_path / "absent.zip"):
        failed = catsdogs("run", *arguments(tmp_path, f"--archive={wrong}", "--seed=3"))
        assert failed.returncode == 65, failed.stderr
    right = catsdogs("run", *arguments(tmp_path, f"--archive={sample_archive}"))
    assert (right.returncode, right.stderr) == (0, "")
    assert (tmp_path / "runs" / "bound" / "manifest.json").exists()


def test_start_that_failed_on_too_few_images_binds_nothing(
    catsdogs: Catsdogs, sample_archive: Path, tmp_path: Path
) -> None:
    failed = catsdogs("prepare", *arguments(tmp_path, f"--archive={sample_archive}", "--train-per-class=40"))
    assert failed.returncode == 65, failed.stderr
    assert catsdogs("prepare", *arguments(tmp_path, f"--archive={sample_archive}")).returncode == 0


def test_prepared_split_binds_the_run(catsdogs: Catsdogs, sample_archive: Path, tmp_path: Path) -> None:
    shutil.copyfile(sample_archive, archive := tmp_path / "archive.zip")
    options = arguments(tmp_path, f"--archive={archive}")
    assert catsdogs("prepare", *options).returncode == 0
    for command in ("prepare", "train", "run"):
        other = catsdogs(command, *options, "--seed=3")
        assert other.returncode == 78
        [line] = other.stderr.splitlines()
        assert f"{tmp_path}/volume/work/bound: belongs to a run with seed 0 instead of 3; choose another" in line
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("cat.99.jpg", "one more")
    replaced = catsdogs("run", *options)
    assert (replaced.returncode, "archive contents" in replaced.stderr) == (78, True), replaced.stderr


def test_trained_run_is_bound(catsdogs: Catsdogs, trained: Path, sample_archive: Path, tmp_path: Path) -> None:
    """Also where only its checkpoint is left, or only its artifacts."""
    shutil.copytree(trained / "volume", tmp_path / "volume")
    options = arguments(tmp_path, f"--archive={sample_archive}", "--epochs=2")
    work = tmp_path / "volume" / "work" / "bound"
    assert (work / "checkpoint").is_dir()
    (work / "prepared.json").unlink()
    for rest in ("artifacts", "checkpoint"):
        other = catsdogs("publish", *options)
        assert (other.returncode, "epochs 1 instead of 2" in other.stderr) == (78, True), (rest, other.stderr)
        shutil.rmtree(work / rest)
    assert catsdogs("prepare", *options).returncode == 0, "nothing is left"


def test_claim_in_the_store_binds_the_run_on_any_volume(
    catsdogs: Catsdogs, trained: Path, sample_archive: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    assert (tmp_path / "runs" / "bound" / "run.json").exists()
    other = catsdogs("run", *arguments(tmp_path, f"--archive={sample_archive}", "--seed=3"))
    assert (other.returncode, "holds another run, with seed 0 instead of 3" in other.stderr) == (78, True)
    assert not (tmp_path / "volume").exists()


def test_settings_of_a_start_that_made_nothing_are_replaced(
    catsdogs: Catsdogs, sample_archive: Path, tmp_path: Path
) -> None:
    """As versions up to 38ead9b left them, whatever a start came to."""
    work = tmp_path / "volume" / "work" / "bound"
    work.mkdir(parents=True)
    (work / "settings.json").write_text('{"archive": "wrong.zip", "seed": 9}\n')
    right = catsdogs("prepare", *arguments(tmp_path, f"--archive={sample_archive}"))
    assert (right.returncode, right.stderr) == (0, "")
    assert str(sample_archive) in (work / "settings.json").read_text()


def test_several_workers_are_bound_like_one(wrong_archive: Path, sample_archive: Path, tmp_path: Path) -> None:
    """A wrong archive binds none of them; a split that is prepared binds them all."""

    def codes(archive: Path, *more: str, command: str = "prepare") -> tuple[list[int], list[str]]:
        listed = addresses(2)
        own = ("--workers=2", f"--worker-address={listed}", "--heartbeat-timeout=5", "--worker-timeout=20s")
        jobs = [
            Job(
                command, *arguments(tmp_path, f"--archive={archive}", *own, *more, f"--worker-index={index}"),
                env={}, directory=tmp_path,
            )
            for index in (0, 1)
        ]  # fmt: skip
        with together(jobs):
            return [job.wait() for job in jobs], [job.stderr for job in jobs]

    failed, stderrs = codes(wrong_archive)
    # Each finds it out for itself, unless the other was faster.
    assert 65 in failed, stderrs
    assert set(failed) <= {65, 75}, stderrs
    done, stderrs = codes(sample_archive)
    assert done == [0, 0], stderrs
    refused, stderrs = codes(sample_archive, "--seed=3")
    assert refused == [78, 78], stderrs
    assert all("seed 0 instead of 3" in text for text in stderrs)


def test_settings_that_memory_cannot_hold_do_not_claim_the_store(sample_archive: Path, tmp_path: Path) -> None:
    """On a volume of its own, a smaller batch may then have the run id."""
    options = arguments(tmp_path, f"--archive={sample_archive}")
    # Enough to import TensorFlow, and too little for any step.
    script = (
        "import sys\n"
        "from catsdogs import __main__\n"
        "from catsdogs.runtime import memory\n"
        "memory.limit = lambda: memory.TENSORFLOW\n"
        "memory.used = lambda: memory.TENSORFLOW\n"
        "sys.argv[0] = 'catsdogs'\n"
        "__main__.start()"
    )
    process = warm.python(script, "run", *options, env=environment_in(tmp_path), directory=tmp_path)
    assert (process.returncode, "needs at least" in process.stderr) == (78, True), process.stderr
    assert (tmp_path / "volume" / "work" / "bound" / "prepared.json").exists()
    assert not (tmp_path / "runs" / "bound" / "run.json").exists()
