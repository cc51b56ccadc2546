"""Storage that fails for a while costs a while, and one that goes on failing ends the run with one clear line."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catsdogs.storage.address import open_store
from catsdogs.storage.store import CHUNK
from tests.faults import photos
from tests.faults.conftest import Undisturbed, new_bucket
from tests.faults.proxy import Fault, Proxy, flipped, storm
from tests.faults.running import RUN_ID, SPLIT, Job, ended
from tests.published import objects
from tests.servers import S3Server

ZIP = "photos.zip"
LASTING = math.inf
SOON = "--storage-timeout=3s"
"""Waits for what lasts no longer than this."""
BROKEN = "train/dog.9.jpg"
SPARE = "train/dog.23.jpg"
"""Has the place of a photo that is left out: it is the only one that no place belongs to."""
PREPARE = (f"--run-id={RUN_ID}", "--log-format=json", *SPLIT)
FIRST_PHOTOS = 5
"""Before that many requests the zip's directory is read, in two pieces, each twice."""


class Photos:
    """A zip of photos in a bucket, and the split that comes of it."""

    def __init__(self, server: S3Server, bucket: str, directory: Path):
        self.server, self.bucket = server, bucket
        self.path = directory / ZIP
        photos.write_photos(self.path)
        self.size = self.path.stat().st_size
        server.client().upload_file(str(self.path), bucket, ZIP)
        self.broken = photos.place(self.path, BROKEN)
        with Proxy(server) as proxy:
            code, job = self.prepare(proxy, directory / "volume")
            assert (code, job.stderr) == (0, "")
            self.sent = proxy.sent(ZIP)
        self.split = split_in(directory / "volume")

    def arguments(self, volume: Path, bucket: str | None = None) -> list[str]:
        here = bucket or self.bucket
        return [f"--archive=s3://{here}/{ZIP}", f"--output=s3://{here}/runs", f"--volume={volume}", *PREPARE]

    def prepare(self, proxy: Proxy, volume: Path, *more: str, bucket: str | None = None) -> tuple[int, Job]:
        arguments = (*self.arguments(volume, bucket), *more)
        return ended("prepare", *arguments, env=proxy.environment, directory=volume.parent)


def split_in(volume: Path) -> dict[str, Any]:
    [path] = (volume / "splits").glob("*/split.json")
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def images_in(volume: Path) -> set[str]:
    return {path.name for path in (volume / "splits").rglob("*.jpg")}


@pytest.fixture(scope="module")
def zip_of_photos(seaweedfs: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return Photos(seaweedfs, new_bucket(seaweedfs), tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize(
    ("fault", "again"),
    [
        pytest.param(Fault("away", "GET", ZIP, first=FIRST_PHOTOS, seconds=0.05), 0, id="connection refused"),
        pytest.param(Fault("drop", "GET", ZIP, first=FIRST_PHOTOS, count=2), 0, id="connection closed"),
        pytest.param(Fault("reset", "GET", ZIP, byte=1), CHUNK, id="reset in mid-body"),
        pytest.param(Fault("cut", "GET", ZIP, byte=1), 0, id="truncated body with the right header"),
        pytest.param(Fault("error", "GET", ZIP, 5, 2, status=500, code="InternalError"), 0, id="500"),
        pytest.param(Fault("error", "GET", ZIP, 1, 2, status=503, code="SlowDown"), 0, id="503 SlowDown"),
        pytest.param(Fault("error", "HEAD", "*", 1, 3, status=502, code="BadGateway"), 0, id="502 to every HEAD"),
        pytest.param(Fault("error", "GET", "", 1, 2, status=503, code="ServiceUnavailable"), 0, id="503 to listings"),
        pytest.param(Fault("flip", "GET", ZIP, byte=1), 70_000, id="one flipped bit in a photo"),
    ],
)
def test_passing_fault_while_fetching(
    fault: Fault, again: int, zip_of_photos: Photos, seaweedfs: S3Server, tmp_path: Path
) -> None:
    """The same split, and no byte more read than was lost: `again` at most."""
    if fault.byte != "middle":
        fault = replace(fault, byte=zip_of_photos.broken.middle)
    with Proxy(seaweedfs, fault) as proxy:
        code, job = zip_of_photos.prepare(proxy, tmp_path / "volume")
        assert (code, job.stderr) == (0, "")
        assert proxy.met(fault) == fault.count
    assert split_in(tmp_path / "volume") == zip_of_photos.split
    assert 0 <= proxy.sent(ZIP) - zip_of_photos.sent <= again
    if fault.kind in ("reset", "cut"):
        [broken] = [request for request in proxy.of(ZIP) if request.faults]
        assert broken.sent > CHUNK
        [resumed] = [request for request in proxy.of(ZIP) if request.stop == broken.stop and not request.faults]
        assert broken.start + broken.sent - again <= resumed.start <= broken.start + broken.sent


def test_storage_that_is_away_for_five_seconds(zip_of_photos: Photos, seaweedfs: S3Server, tmp_path: Path) -> None:
    with Proxy(seaweedfs, Fault("away", "GET", ZIP, first=FIRST_PHOTOS, seconds=5)) as proxy:
        code, job = zip_of_photos.prepare(proxy, tmp_path / "volume")
    assert (code, job.stderr) == (0, "")
    assert split_in(tmp_path / "volume") == zip_of_photos.split
    assert 100 < job.until("waiting")["left"] <= 120


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stall", "silence"])
def test_storage_that_says_nothing(kind: Any, zip_of_photos: Photos, seaweedfs: S3Server, tmp_path: Path) -> None:
    """Longer than the 30 s after which the job no longer waits for the next byte."""
    fault = Fault(kind, "GET", ZIP, byte=zip_of_photos.broken.middle, seconds=120)
    with Proxy(seaweedfs, fault) as proxy:
        code, job = zip_of_photos.prepare(proxy, tmp_path / "volume")
        assert (code, job.stderr) == (0, "")
        assert proxy.met(fault) == 1
    assert split_in(tmp_path / "volume") == zip_of_photos.split
    assert proxy.sent(ZIP) - zip_of_photos.sent <= CHUNK


DENIED = Fault("error", "GET", ZIP, status=403, code="AccessDenied", count=LASTING)


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        pytest.param(Fault("away", first=1, seconds=LASTING), 69, "Could not connect", id="refused from the start"),
        pytest.param(
            Fault("away", "GET", ZIP, first=FIRST_PHOTOS, seconds=LASTING), 69, "Could not connect", id="refused"
        ),
        pytest.param(Fault("drop", "GET", ZIP, count=LASTING), 69, "closed before", id="connection closed"),
        pytest.param(
            Fault("error", "GET", ZIP, FIRST_PHOTOS, LASTING, status=500, code="InternalError"), 69,
            "storage fails (InternalError", id="500",
        ),
        pytest.param(
            Fault("error", "GET", ZIP, FIRST_PHOTOS, LASTING, code="SlowDown"), 69, "storage fails (SlowDown",
            id="503 SlowDown",
        ),
        pytest.param(Fault("reset", "GET", ZIP, count=LASTING), 69, "read stopped at byte", id="reset"),
        pytest.param(Fault("cut", "GET", ZIP, count=LASTING), 69, "read stopped at byte", id="cut off"),
        pytest.param(replace(DENIED, key="*", method="*"), 77, "storage refuses (AccessDenied", id="403 to all"),
        pytest.param(
            replace(DENIED, first=FIRST_PHOTOS), 77, "storage refuses (AccessDenied", id="403 in the middle of the run"
        ),
        pytest.param(
            replace(DENIED, first=FIRST_PHOTOS, status=400, code="ExpiredToken"), 77, "ExpiredToken", id="expired token"
        ),
    ],
)  # fmt: skip
def test_lasting_fault_while_fetching(
    fault: Fault, code: int, said: str, zip_of_photos: Photos, seaweedfs: S3Server, tmp_path: Path
) -> None:
    if fault.kind in ("reset", "cut"):
        fault = replace(fault, byte=zip_of_photos.broken.middle)
    with Proxy(seaweedfs, fault) as proxy:
        ended_with, job = zip_of_photos.prepare(proxy, tmp_path / "volume", SOON)
        assert proxy.met(fault)
    assert ended_with == code, job.stderr
    line = job.said()
    assert said in line
    assert "s3://" in line
    assert not list((tmp_path / "volume").glob("splits/*/split.json"))
    if code == 69 and fault.kind != "away":
        # What one of the readers has tried: in vain at first, at last, and in between.
        last = max(proxy.of(ZIP), key=lambda request: request.began).stop
        tried = [request.began for request in proxy.of(ZIP) if request.stop == last and request.faults]
        assert len(tried) >= 3
        assert tried[-1] - tried[0] > 2.9


def test_photo_that_is_broken_for_good(zip_of_photos: Photos, seaweedfs: S3Server, tmp_path: Path) -> None:
    """A bit that is wrong each time: the photo is left out by name, and another has its place."""
    fault = Fault("flip", "GET", ZIP, byte=zip_of_photos.broken.middle, count=LASTING)
    with Proxy(seaweedfs, fault) as proxy:
        code, job = zip_of_photos.prepare(proxy, tmp_path / "volume")
    assert (code, job.stderr) == (0, "")
    assert proxy.met(fault) == 2, "once in its range, and once more by itself"
    job.until("quarantined", member=BROKEN, reason="its CRC-32 is wrong")
    [left_out] = split_in(tmp_path / "volume")["quarantined"]
    assert left_out == {"member": BROKEN, "reason": "its CRC-32 is wrong", "replaced_by": SPARE}
    assert "dog.9.jpg" not in images_in(tmp_path / "volume")
    assert "dog.23.jpg" in images_in(tmp_path / "volume")


@pytest.mark.parametrize(
    ("count", "code"),
    [
        pytest.param(1, 0, id="once"),
        pytest.param(LASTING, 65, id="each time"),
    ],
)
def test_flipped_bit_in_a_zip_that_is_unpacked(
    count: float, code: int, archive: str, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """train.zip, deflated as Kaggle's, is streamed to the volume: nothing of it is taken over."""
    fault = Fault("flip", "GET", "dogs-vs-cats.zip", byte=300_000, count=count)
    with Proxy(seaweedfs, fault) as proxy:
        ended_with, job = ended(
            "prepare", f"--archive={archive}", f"--output=s3://{bucket}/runs", f"--volume={tmp_path / 'volume'}",
            *PREPARE, env=proxy.environment, directory=tmp_path,
        )  # fmt: skip
        assert proxy.met(fault)
    if code:
        assert "train.zip" in job.said()
        assert not list((tmp_path / "volume" / "archive").glob("*.zip"))
        assert not images_in(tmp_path / "volume")
    assert ended_with == code


def test_flipped_bit_in_the_directory(zip_of_photos: Photos, seaweedfs: S3Server, tmp_path: Path) -> None:
    """One bit of a name, wrong once: train/cat.0.jpf is no photo, and is passed over without a word."""
    last_letter = photos.directory(zip_of_photos.path).start + 46 + len("train/cat.0.jpg") - 1
    with Proxy(seaweedfs, Fault("flip", "GET", ZIP, byte=last_letter)) as proxy:
        code, _ = zip_of_photos.prepare(proxy, tmp_path / "volume")
    assert (code, split_in(tmp_path / "volume")) == (0, zip_of_photos.split)


def test_archive_is_replaced_between_two_ranges(
    zip_of_photos: Photos, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    client = seaweedfs.client()
    client.upload_file(str(zip_of_photos.path), bucket, ZIP)

    def replace_it() -> None:
        client.put_object(Bucket=bucket, Key=ZIP, Body=flipped(zip_of_photos.path.read_bytes(), 1_000_000))

    fault = Fault("call", "GET", ZIP, byte=zip_of_photos.broken.middle, then=replace_it)
    with Proxy(seaweedfs, fault) as proxy:
        code, job = zip_of_photos.prepare(proxy, tmp_path / "volume", bucket=bucket)
    assert code == 65
    assert job.said().startswith(f"catsdogs: s3://{bucket}/{ZIP}: changed while it was read")
    assert not list((tmp_path / "volume").glob("splits/*/split.json"))


def test_killed_while_fetching_keeps_the_photos(zip_of_photos: Photos, seaweedfs: S3Server, tmp_path: Path) -> None:
    """The next start reads the directory again, and of the photos those that are missing."""
    hold = Fault("hold", "GET", ZIP, byte=zip_of_photos.broken.middle)
    volume = tmp_path / "volume"
    with Proxy(seaweedfs, hold) as proxy:
        with Job("prepare", *zip_of_photos.arguments(volume), env=proxy.environment, directory=tmp_path) as job:
            job.until_true(lambda: len(images_in(volume)) >= 30)
            job.kill()
        there = len(images_in(volume))
    with Proxy(seaweedfs) as proxy:
        code, job = zip_of_photos.prepare(proxy, volume)
    assert (code, job.stderr) == (0, "")
    split = split_in(volume)
    assert split == zip_of_photos.split
    assert job.until("split")["fetched"] <= len(split["images"]) - there
    assert proxy.sent(ZIP) < zip_of_photos.sent / 2


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "another"])
def test_damaged_photo_on_the_volume_is_fetched_again(
    damage: str, zip_of_photos: Photos, seaweedfs: S3Server, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    with Proxy(seaweedfs) as proxy:
        assert zip_of_photos.prepare(proxy, volume)[0] == 0
    [photo] = volume.rglob("dog.9.jpg")
    good = photo.read_bytes()
    match damage:
        case "flipped":
            photo.write_bytes(flipped(good, len(good) // 2))
        case "cut":
            photo.write_bytes(good[:-1000])
        case "gone":
            photo.unlink()
        case "another":
            photo.write_bytes(photo.with_name("dog.8.jpg").read_bytes())
    with Proxy(seaweedfs) as proxy:
        code, job = zip_of_photos.prepare(proxy, volume)
    assert (code, job.stderr) == (0, "")
    assert job.until("split-damaged")["count"] == 1
    assert job.until("split")["fetched"] == 1
    assert photo.read_bytes() == good
    assert split_in(volume) == zip_of_photos.split
    assert proxy.sent(ZIP) < 70_000 + 10_000


def test_damaged_zip_on_the_volume_is_fetched_again(
    archive: str, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    where = (f"--archive={archive}", f"--output=s3://{bucket}/runs", f"--volume={volume}")
    env = seaweedfs.environment
    assert ended("prepare", *where, *PREPARE, env=env, directory=tmp_path)[0] == 0
    undamaged = split_in(volume)
    [unpacked] = (volume / "archive").glob("*.zip")
    unpacked.write_bytes(flipped(unpacked.read_bytes(), 200_000))
    for image in (volume / "splits").rglob("*.jpg"):
        image.unlink()
    code, _ = ended("prepare", *where, *PREPARE, env=env, directory=tmp_path)
    assert (code, split_in(volume)) == (0, undamaged)


MODEL, MANIFEST = "*/model.keras", "*/manifest.json"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("away", "PUT", MODEL, seconds=0.05), id="refused"),
        pytest.param(Fault("drop", "PUT", MODEL, count=2), id="upload is cut off"),
        pytest.param(Fault("lost", "PUT", MODEL), id="the answer to the upload is lost"),
        pytest.param(Fault("error", "PUT", MODEL, status=500, code="InternalError"), id="500 to the upload"),
        pytest.param(Fault("error", "PUT", "*", count=2, status=503, code="SlowDown"), id="503 SlowDown to uploads"),
        pytest.param(Fault("alter", "PUT", MODEL), id="stored differently"),
        pytest.param(Fault("reset", "GET", MODEL), id="reset while it is read back"),
        pytest.param(Fault("cut", "GET", MODEL), id="truncated while it is read back"),
        pytest.param(Fault("flip", "GET", MODEL), id="one flipped bit while it is read back"),
        pytest.param(Fault("lost", "PUT", "*/run.json"), id="the answer to the claim is lost"),
        pytest.param(Fault("drop", "PUT", MANIFEST), id="the manifest is cut off"),
        pytest.param(Fault("lost", "PUT", MANIFEST), id="the answer to the manifest is lost"),
        pytest.param(Fault("flip-upload", "PUT", MODEL), id="one flipped bit on its way up"),
        pytest.param(Fault("alter", "PUT", MANIFEST), id="manifest stored differently"),
    ],
)
def test_passing_fault_while_publishing(
    fault: Fault, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    volume = undisturbed.trained(tmp_path / "volume")
    with Proxy(seaweedfs, fault) as proxy:
        arguments = undisturbed.arguments(bucket, volume)
        code, job = ended("publish", *arguments, env=proxy.environment, directory=tmp_path)
        assert proxy.met(fault) == fault.count
    assert (code, job.stderr) == (0, "")
    undisturbed.check(objects(seaweedfs, bucket, f"runs/{RUN_ID}/"), tmp_path)


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        pytest.param(
            Fault("away", "PUT", MODEL, seconds=LASTING), 69, "Could not connect", id="refused"
        ),
        pytest.param(
            Fault("error", "PUT", MODEL, count=LASTING, status=500, code="InternalError"), 69,
            "model.keras: storage fails (InternalError", id="500 to the upload",
        ),
        pytest.param(
            Fault("error", "PUT", MODEL, count=LASTING, status=507, code="InsufficientStorage"), 69,
            "model.keras: storage fails (InsufficientStorage", id="no room in the bucket",
        ),
        pytest.param(
            Fault("alter", "PUT", MODEL, count=LASTING), 69, "model.keras: reads back differently",
            id="stored differently",
        ),
        pytest.param(
            Fault("flip", "GET", MODEL, count=LASTING), 69, "model.keras: reads back differently",
            id="read back differently",
        ),
        pytest.param(
            Fault("error", "PUT", MANIFEST, count=LASTING, status=403, code="AccessDenied"), 77,
            "manifest.json: storage refuses (AccessDenied", id="403 to the manifest alone",
        ),
        pytest.param(
            Fault("error", "*", "*", 6, LASTING, status=403, code="AccessDenied"), 77, "storage refuses (",
            id="403 in the middle",
        ),
    ],
)  # fmt: skip
def test_lasting_fault_while_publishing(
    fault: Fault, code: int, said: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """No manifest; and once the storage is well, the same command ends well."""
    volume = undisturbed.trained(tmp_path / "volume")
    arguments = undisturbed.arguments(bucket, volume, SOON)
    with Proxy(seaweedfs, fault) as proxy:
        ended_with, job = ended("publish", *arguments, env=proxy.environment, directory=tmp_path)
        assert proxy.met(fault)
    assert ended_with == code, job.stderr
    assert said in job.said()
    assert "manifest.json" not in objects(seaweedfs, bucket, f"runs/{RUN_ID}/")
    assert ended("publish", *arguments, env=seaweedfs.environment, directory=tmp_path)[0] == 0
    undisturbed.check(objects(seaweedfs, bucket, f"runs/{RUN_ID}/"), tmp_path)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 13))])
def test_run_through_a_storm(
    seed: int, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """A dozen faults drawn over a whole run. If too many come at once it ends with 69, and is started again."""
    plan = tuple(storm(seed, 12))
    with Proxy(seaweedfs, *plan) as proxy:
        arguments = undisturbed.arguments(bucket, tmp_path / "volume", "--checkpoint-to=bucket")
        for _ in range(5):
            code, job = ended("run", *arguments, env=proxy.environment, directory=tmp_path)
            if code == 0:
                break
            assert code in (65, 69, 75), job.stderr
            job.said()
        assert (code, job.stderr) == (0, "")
        met = sum(proxy.met(fault) for fault in plan)
    assert met >= 6, plan
    undisturbed.check(objects(seaweedfs, bucket, f"runs/{RUN_ID}/"), tmp_path)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Fault, ...]:
    size = 3_000_000
    kinds = st.sampled_from(("drop", "reset", "cut", "error"))
    fault = st.builds(Fault, kinds, st.just("GET"), st.just("object"), byte=st.integers(0, size - 1))
    return tuple(draw(st.lists(fault, min_size=1, max_size=4)))


@pytest.mark.slow
def test_any_passing_faults_lose_no_byte_and_read_few_twice(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, data = new_bucket(seaweedfs), b"".join(number.to_bytes(4, "little") for number in range(750_000))
    seaweedfs.client().put_object(Bucket=bucket, Key="object", Body=data)

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(plans())
    def reads(plan: tuple[Fault, ...]) -> None:
        with Proxy(seaweedfs, *plan) as proxy:
            for name, value in proxy.environment.items():
                monkeypatch.setenv(name, value)
            store = open_store(f"s3://{bucket}")
            stat = store.stat("object")
            assert b"".join(store.stream("object", 0, stat.size, stat.etag)) == data
            assert proxy.sent("object") - len(data) <= CHUNK * sum(proxy.met(fault) for fault in plan)

    reads()
