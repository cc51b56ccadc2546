"""Several workers train what one trains: on this machine, each a process of its own."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from catsdogs.config.settings import Settings
from catsdogs.data import assignment
from catsdogs.data.labels import CLASSES, SPLITS
from catsdogs.data.loader import DataLoader
from catsdogs.pipeline.session import peers_of
from catsdogs.runtime.errors import ConfigError, Interrupted, Unavailable
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from catsdogs.workers.group import WorkerGroup
from catsdogs.workers.rendezvous import join
from tests import warm
from tests.conftest import REPOSITORY, Catsdogs, environment_in
from tests.faults.running import Job
from tests.published import evaluated, rows, weights
from tests.workers import KEY, RUN_ID, addresses, arguments, rows_of, started, worker

STEPS = """
import json, os, sys
from catsdogs.training import devices
index, listed = int(sys.argv[1]), sys.argv[2].split(",")
found = devices.start(False, index, listed)
import numpy as np, tensorflow as tf
from catsdogs.data.labels import CLASSES, SPLITS
from catsdogs.data.loader import Batch
from catsdogs.training.step import Learner
from catsdogs.config.recipes import RECIPES
learner = Learner(RECIPES[sys.argv[3]], 46, 1e-4, 3, found, 8)
random = np.random.default_rng(1)
totals, asked = tf.zeros(3, tf.float64), []
for step, cut in enumerate((3, 4, 0, 6, 2)):
    images, labels = random.random((6, 46, 46, 3), np.float32), random.integers(0, 2, 6).astype(np.float32)
    part = slice(None) if len(listed) == 1 else slice(cut) if index == 0 else slice(cut, None)
    totals = learner.train_step(Batch(images[part], labels[part]), totals)
    asked.append(learner.any_worker(index == 1 and step == 3, False))
tested = learner.test_step(Batch(images[part], labels[part]), tf.zeros(3, tf.float64))
weights = [np.asarray(weight, np.float64).ravel() for weight in learner.weights()]
state = learner.state()
learner.train_step(Batch(images[part], labels[part]), totals)
learner.restore(state)
assert all(np.array_equal(one, other) for one, other in zip(state, learner.state()))
print(json.dumps({
    "totals": totals.numpy().tolist(), "tested": tested.numpy().tolist(), "asked": asked,
    "digest": [value.sum() for value in weights], "weights": np.concatenate(weights)[::97].tolist(),
}), flush=True)
# As the job ends: not by taking TensorFlow apart, which waits for the other worker.
os._exit(0)
"""


def stepped(recipe: str, workers: int) -> list[dict[str, Any]]:
    """What each worker has after the same steps."""
    listed = addresses(workers)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STEPS, str(index), listed, recipe], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        for index in range(workers)
    ]
    try:
        return [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["baseline", "augmented"])
def test_workers_have_equal_weights(recipe: str) -> None:
    """Also where the parts of a batch differ in size, and where one of them has no image."""
    one, other = stepped(recipe, 2)
    assert one == other
    assert one["asked"] == [[False, False]] * 3 + [[True, False], [False, False]]
    assert one["totals"][2] == 30
    if recipe == "baseline":
        [alone] = stepped(recipe, 1)
        assert one["totals"] == pytest.approx(alone["totals"], rel=1e-5)
        assert one["tested"] == pytest.approx(alone["tested"], rel=1e-4)
        assert one["weights"] == pytest.approx(alone["weights"], abs=2e-5)


class Runs(NamedTuple):
    alone: Path
    two: Path
    jobs: list[Job]


@pytest.fixture(scope="module")
def runs(sample_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The same run with one worker and with two."""
    directories = [tmp_path_factory.mktemp(name) for name in ("alone", "two")]
    with started(2, directories[1], sample_archive, "--epochs=3") as jobs:
        assert [job.wait() for job in jobs] == [0, 0], [job.stderr for job in jobs]
    alone = warm.catsdogs(
        *arguments(directories[0], sample_archive, "--epochs=3"), env=environment_in(directories[0]),
        directory=directories[0],
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    return Runs(directories[0], directories[1], jobs)


@pytest.mark.slow
def test_two_workers_give_the_curve_of_one(runs: Runs, tmp_path: Path) -> None:
    alone, two = ((folder / "runs" / RUN_ID) for folder in (runs.alone, runs.two))
    curves = [list(rows_of((run / "history.csv").read_bytes())) for run in (two, alone)]
    assert np.array(curves[0]) == pytest.approx(np.array(curves[1]), rel=1e-3)
    verdicts = [rows((run / "predictions.csv").read_bytes()) for run in (two, alone)]
    assert [row["image"] for row in verdicts[0]] == [row["image"] for row in verdicts[1]]
    probabilities = [[float(row["probability"]) for row in run] for run in verdicts]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-3)
    ours, theirs = (weights((run / "model.keras").read_bytes(), tmp_path) for run in (two, alone))
    assert all(np.allclose(one, other, atol=1e-3) for one, other in zip(ours, theirs, strict=True))
    assert (two / "split.json").read_bytes() == (alone / "split.json").read_bytes()


@pytest.mark.slow
def test_each_worker_has_its_own_images(runs: Runs) -> None:
    [shard] = (runs.two / "volume" / "worker-1" / "splits").iterdir()
    theirs = {path.relative_to(shard) for path in shard.rglob("*.jpg")}
    whole = runs.alone / "volume" / "splits" / shard.name
    everything = {path.relative_to(whole) for path in whole.rglob("*.jpg")}
    assert len(theirs) == 24 == len(everything) / 2
    own = {path.relative_to(whole.name) for path in _images(runs.two / "volume" / "splits", whole.name)}
    # Beside its shard, worker 0 has what it shows of the others' in the report.
    assert own | theirs == everything
    assert {path.parts[0] for path in own & theirs} <= {"test"}


def _images(folder: Path, name: str) -> list[Path]:
    return [path.relative_to(folder) for path in (folder / name).rglob("*.jpg")]


@pytest.mark.slow
def test_metrics_are_those_of_the_images_of_all_workers(runs: Runs) -> None:
    run = runs.two / "runs" / RUN_ID
    metrics = json.loads((run / "metrics.json").read_bytes())
    expected = evaluated(run, runs.two / "volume", "train")
    assert (metrics["train"]["images"], metrics["train"]["correct"]) == (28, expected["correct"])
    assert metrics["train"]["loss"] == pytest.approx(expected["loss"], rel=1e-4)


@pytest.mark.slow
def test_workers_say_what_is_their_own(runs: Runs) -> None:
    first, second = runs.jobs
    assert {"assembled", "epoch", "trained", "evaluated", "published"} <= set(first.names)
    assert not any("worker" in event for event in first.events)
    assert set(second.names) <= {"started", "assembling", "unpacked", "fetching", "split", "device"}
    assert all(event["worker"] == 1 and event["text"].startswith("worker 1: ") for event in second.events)
    assert [job.stderr for job in runs.jobs] == ["", ""]


@pytest.mark.slow
def test_worker_that_is_started_after_the_end(runs: Runs, sample_archive: Path) -> None:
    """It waits for nobody."""
    with worker(1, 2, addresses(2), runs.two, sample_archive, "--epochs=3") as job:
        assert job.wait(30) == 0
    assert job.names == ["already-published"]


def settings(index: int, listed: str, volume: Path, **other: object) -> Settings:
    options = {
        "archive": "a.zip", "output": "runs", "volume": volume, "run_id": None, "recipe_name": "baseline",
        "epochs": None, "batch_size": None, "learning_rate": None, "image_size": None, "seed": 0,
        "train_per_class": 20, "validation_per_class": 6, "test_per_class": 6, "require_gpu": False,
        "precision": "float32", "xla": False, "export": (),
        "checkpoint_every": 60.0, "checkpoint_to": "volume", "addressing_style": "auto", "storage_timeout": 1.0,
        "workers": len(listed.split(",")), "worker_index": index, "worker_address": listed, "worker_timeout": 30.0,
        "heartbeat_timeout": 5.0, "worker_key_file": volume / "key",
    }  # fmt: skip
    (volume / "key").write_bytes(KEY)
    return Settings.of(**{**options, **other})


def joined(all_settings: list[Settings]) -> list[WorkerGroup | Exception | None]:
    """What becomes of workers that are started at the same time, here in threads."""
    found: list[WorkerGroup | Exception | None] = [None] * len(all_settings)

    def start(index: int) -> None:
        try:
            found[index] = join(peers_of(all_settings[index]), Log([]), Interruption(), lambda: False)
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=start, args=(index,)) for index in range(len(all_settings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_three_workers_tell_each_other(tmp_path: Path) -> None:
    listed = addresses(3)
    found = joined([settings(index, listed, tmp_path) for index in range(3)])
    groups = [group for group in found if isinstance(group, WorkerGroup)]
    assert len(groups) == 3
    heard: dict[int, object] = {}

    def tell(group: WorkerGroup) -> None:
        heard[group.worker] = (
            group.gather(b"" if group.worker == 1 else bytes([group.worker]) * 3_000_000),
            group.gather_json({"worker": group.worker}, dict[str, int]),
        )
        with pytest.raises(ConfigError, match="worker 2 has contents 2, worker 0 has 1; give all workers the same"):
            group.agree("contents", max(1, group.worker))

    threads = [threading.Thread(target=tell, args=(group,)) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = [bytes(3_000_000), b"", b"\2" * 3_000_000], [{"worker": index} for index in range(3)]
    assert heard == dict.fromkeys(range(3), expected)


def test_workers_that_were_told_different_things(tmp_path: Path) -> None:
    listed = addresses(2)
    found = joined([settings(0, listed, tmp_path, run_id="a"), settings(1, listed, tmp_path, run_id="a", seed=1)])
    assert all(isinstance(error, ConfigError) for error in found)
    assert {str(error) for error in found} == {"worker 1 has seed 1, worker 0 has 0; give all workers the same options"}


def test_worker_that_never_comes(tmp_path: Path) -> None:
    """Also worker 1, which is there, names the one that is not."""
    listed = addresses(3)
    both = [settings(index, listed, tmp_path, worker_timeout=3.0) for index in (0, 1)]
    missing = listed.split(",")[2]
    for error in joined(both):
        assert isinstance(error, Unavailable)
        assert "not there within 3.0 s; look at why, or raise --worker-timeout" in str(error)
    assert f"worker 2 ({missing})" in str(joined(both)[0])


def test_worker_that_is_told_to_stop_while_it_waits(tmp_path: Path) -> None:
    interruption = Interruption()
    interruption.signal_name = "SIGTERM"
    with pytest.raises(Interrupted):
        join(peers_of(settings(1, addresses(2), tmp_path)), Log([]), interruption, lambda: False)


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--workers=2"], 78, "--workers 2 needs --worker-address"),
        (["--workers=2", "--worker-address=a:1,b:1,c:1"], 78, "3 addresses for 2 workers"),
        (["--workers=2", "--worker-address=a-{index}"], 78, "--worker-address a-0: not host:port"),
        (["--workers=2", f"--worker-address=a:1,b:{'9' * 5000}"], 78, "not host:port"),
        (["--workers=2", "--worker-address=localhost:1,a:1"], 78, "on several machines needs --worker-key-file"),
        (["--workers=2", "--worker-address=a-{index}:1", "--worker-index=2"], 2, "must be below --workers, which is 2"),
        (["--worker-index=1"], 2, "must be below --workers, which is 1"),
    ],
)
def test_options_that_do_not_fit(catsdogs: Catsdogs, options: list[str], code: int, reason: str) -> None:
    done = catsdogs("run", "--archive=a.zip", "--output=runs", *options)
    assert (done.returncode, reason in done.stderr) == (code, True), done.stderr


def test_index_of_an_indexed_job(catsdogs: Catsdogs) -> None:
    """Only where there are several workers: in an array of single runs each is worker 0."""
    options = ("run", "--archive=a.zip", "--output=runs", "--worker-address=a-{index}:1")
    done = catsdogs(*options, "--workers=3", env={"JOB_COMPLETION_INDEX": "3"})
    assert (done.returncode, "--worker-index 3" in done.stderr) == (2, True)
    done = catsdogs(*options, "--workers=3", env={"JOB_COMPLETION_INDEX": "3" * 5000})
    assert (done.returncode, "is not a number; use --worker-index" in done.stderr) == (2, True)
    done = catsdogs(*options, env={"JOB_COMPLETION_INDEX": "3"})
    assert "worker" not in done.stderr


def test_own_tf_config_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(ConfigError, match="unset TF_CONFIG"):
        join(peers_of(settings(0, addresses(2), tmp_path)), Log([]), Interruption(), lambda: False)


def test_run_id_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    assert settings(0, "a:1,b:1", tmp_path).run_id == settings(0, "a:1", tmp_path).run_id


def test_addresses_of_a_template(tmp_path: Path) -> None:
    made = settings(2, "t-{index}.t:2222", tmp_path, workers=3)
    assert made.addresses == ["t-0.t:2222", "t-1.t:2222", "t-2.t:2222"]
    assert made.volume == tmp_path / "worker-2"


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_shards_are_equal_in_size(workers: int) -> None:
    paths = [f"{name}/{label}s/{label}.{n}.jpg" for label in CLASSES for name in SPLITS for n in range(11)]
    owners = assignment.shards(paths, workers)
    for name in SPLITS:
        sizes = [
            sum(owner == worker for path, owner in owners.items() if path.startswith(name)) for worker in range(workers)
        ]
        assert sum(sizes) == 22
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.slow
def test_parts_make_up_the_batches_of_one_worker(runs: Runs) -> None:
    [folder] = (runs.alone / "volume" / "splits").iterdir()
    paths = sorted((folder / "train").rglob("*.jpg"))

    def generator(own: list[bool] | None) -> DataLoader:
        return DataLoader.of(
            paths, batch_size=6, image_size=8, seed=5, shuffled=True, scratch=folder, max_bytes=1 << 30, own=own
        )

    whole = generator(None)
    parts = [generator([place % 2 == worker for place in range(len(paths))]) for worker in (0, 1)]
    assert [len(part) for part in parts] == [len(whole)] * 2
    for epoch, step in ((0, 0), (0, len(whole) - 1), (3, 2)):
        batch, dealt = whole.batch(epoch, step), [part.batch(epoch, step) for part in parts]
        ours = sorted(image.tobytes() for part in dealt for image in part.images)
        assert ours == sorted(image.tobytes() for image in batch.images)
        assert sum(part.labels.sum() for part in dealt) == batch.labels.sum()
    assert [len(part.pixels) for part in parts] == [len(paths) / 2] * 2
