import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catsdogs.data import sample
from catsdogs.data.labels import CLASSES

PER_CLASS = 3
UNLABELLED = 4


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "dogs-vs-cats.zip"
    sample.write_archive(path, PER_CLASS, UNLABELLED)
    return path


def inner_zip(archive: Path, name: str) -> zipfile.ZipFile:
    with zipfile.ZipFile(archive) as outer:
        return zipfile.ZipFile(io.BytesIO(outer.read(name)))


@pytest.mark.parametrize("label", CLASSES)
def test_the_same_label_and_number_draw_the_same_picture(label: str) -> None:
    assert sample.draw(label, 7).tobytes() == sample.draw(label, 7).tobytes()


def test_every_label_and_number_draws_a_picture_of_its_own() -> None:
    pictures = {sample.draw(label, number).tobytes() for label in CLASSES for number in range(20)}
    assert len(pictures) == 40


@pytest.mark.parametrize("size", [(200, 200), (150, 100), (33, 64)])
def test_a_picture_has_the_size_asked_for_and_three_channels(size: tuple[int, int]) -> None:
    picture = sample.draw("dog", 0, size)
    assert (picture.size, picture.mode) == (size, "RGB")


def test_a_label_that_is_neither_is_refused() -> None:
    with pytest.raises(KeyError, match="cow"):
        sample.draw("cow", 0)


def test_no_average_colour_gives_the_label_away() -> None:
    cats, dogs = (
        np.array([np.asarray(sample.draw(label, number)).mean((0, 1)) for number in range(60)]) for label in CLASSES
    )
    between = np.abs(cats.mean(0) - dogs.mean(0))
    within = (cats.std(0) + dogs.std(0)) / 2
    assert (between < within).all()


def test_the_archive_holds_kaggles_three_members_deflated(archive: Path) -> None:
    with zipfile.ZipFile(archive) as outer:
        assert outer.testzip() is None
        compressions = {member.filename: member.compress_type for member in outer.infolist()}
    assert compressions == dict.fromkeys(("train.zip", "test1.zip", "sampleSubmission.csv"), zipfile.ZIP_DEFLATED)


def test_the_inner_zips_hold_a_directory_and_the_images_named_as_kaggle_names_them(archive: Path) -> None:
    assert inner_zip(archive, "train.zip").namelist() == [
        "train/",
        *(f"train/cat.{number}.jpg" for number in range(PER_CLASS)),
        *(f"train/dog.{number}.jpg" for number in range(PER_CLASS)),
    ]
    assert inner_zip(archive, "test1.zip").namelist() == [
        "test1/",
        *(f"test1/{number}.jpg" for number in range(1, UNLABELLED + 1)),
    ]


def test_the_submission_has_a_row_for_each_unlabelled_image(archive: Path) -> None:
    with zipfile.ZipFile(archive) as outer:
        assert outer.read("sampleSubmission.csv").decode() == "id,label\n1,0\n2,0\n3,0\n4,0\n"


@pytest.mark.parametrize("name", ["train.zip", "test1.zip"])
def test_every_image_is_a_jpeg_that_decodes(archive: Path, name: str) -> None:
    with inner_zip(archive, name) as images:
        assert images.testzip() is None
        for member in images.namelist()[1:]:
            with Image.open(io.BytesIO(images.read(member))) as image:
                image.load()
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (200, 200)), member


def test_a_training_member_shows_what_its_name_says(archive: Path) -> None:
    with inner_zip(archive, "train.zip") as images, Image.open(images.open("train/dog.2.jpg")) as image:
        error = np.asarray(image, dtype=float) - np.asarray(sample.draw("dog", 2), dtype=float)
    assert np.abs(error).mean() < 8, "more than JPEG's loss"


def test_no_unlabelled_image_is_among_those_to_train_on(archive: Path) -> None:
    with inner_zip(archive, "train.zip") as train, inner_zip(archive, "test1.zip") as test:
        seen = {train.read(member) for member in train.namelist()}
        assert all(test.read(member) not in seen for member in test.namelist()[1:])


def test_the_same_arguments_write_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    sample.write_archive(again, PER_CLASS, UNLABELLED)
    assert again.read_bytes() == archive.read_bytes()


def test_the_inner_zips_can_be_stored_instead(archive: Path, tmp_path: Path) -> None:
    stored = tmp_path / "stored.zip"
    sample.write_archive(stored, PER_CLASS, UNLABELLED, inner=zipfile.ZIP_STORED)
    with zipfile.ZipFile(stored) as outer, zipfile.ZipFile(archive) as deflated:
        assert outer.getinfo("train.zip").compress_type == zipfile.ZIP_STORED
        assert outer.read("train.zip") == deflated.read("train.zip")


def test_drawing_does_not_load_tensorflow() -> None:
    code = "import sys, catsdogs.data.sample; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(sample.__file__).parents[1]).returncode == 0
