"""`catsdogs predict`, as users run it: the run's own test images, thousands of images, and files that are none."""

import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from catsdogs.data import sample
from catsdogs.published import predict
from tests import warm
from tests.conftest import REPOSITORY, Catsdogs, environment_in
from tests.job.conftest import Trained
from tests.published import rows


@pytest.fixture(scope="session")
def test_images(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's test directory, cats/cat.18.jpg and so on, as the run left it on its volume."""
    [split] = (trained.folder.parents[1] / "volume" / "splits").iterdir()
    copy = tmp_path_factory.mktemp("images") / "test"
    shutil.copytree(split / "test", copy)
    return copy


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sample.draw("cat", 1).save(path)
    return path


@pytest.mark.parametrize(
    "model", ["s3", *(pytest.param(model, marks=pytest.mark.slow) for model in ("s3 with a slash", "folder", "file"))]
)
def test_the_run_s_own_test_images(model: str, trained: Trained, test_images: Path, catsdogs: Catsdogs) -> None:
    """What the run published, probability for probability: the same preprocessing, the same model."""
    address = {
        "s3": trained.run, "s3 with a slash": trained.run + "/", "folder": trained.folder,
        "file": trained.folder / "model.keras",
    }[model]  # fmt: skip
    process = catsdogs("predict", test_images, f"--model={address}", "--format=json", env=trained.environment)
    assert (process.returncode, process.stderr) == (0, "")
    told = [json.loads(line) for line in process.stdout.splitlines()]
    published = rows((trained.folder / "predictions.csv").read_bytes())
    assert [one["image"] for one in told] == [f"{test_images.parent}/{row['image']}" for row in published]
    assert [one["verdict"] for one in told] == [row["verdict"] for row in published]
    assert [one["dog"] for one in told] == pytest.approx([float(row["probability"]) for row in published], abs=1e-6)


def test_table_in_the_order_given(trained: Trained, test_images: Path, catsdogs: Catsdogs) -> None:
    cat, dog = sorted((test_images / "cats").iterdir())[2], sorted((test_images / "dogs").iterdir())[0]
    process = catsdogs("predict", dog, cat, dog, env={"CATSDOGS_MODEL": str(trained.folder)})
    assert (process.returncode, process.stderr) == (0, "")
    head, *lines = process.stdout.splitlines()
    assert head.split() == ["VERDICT", "PROBABILITY", "IMAGE"]
    published = {row["image"]: row for row in rows((trained.folder / "predictions.csv").read_bytes())}
    expected = []
    for path in (dog, cat, dog):
        row = published[path.relative_to(test_images.parent).as_posix()]
        probability = float(row["probability"])
        sure = probability if row["verdict"] == "dog" else 1 - probability
        expected.append([row["verdict"], f"{100 * sure:.1f}", "%", str(path)])
    assert [line.split() for line in lines] == expected


@pytest.mark.parametrize(
    ("dog", "verdict", "line", "probability"),
    [
        (0.983, "dog", "dog           98.3 %  a.jpg", 0.983),
        (0.017, "cat", "cat           98.3 %  a.jpg", 0.017),
        (math.nan, "cat", "cat            nan %  a.jpg", None),
    ],
)
def test_line_of_an_image(dog: float, verdict: str, line: str, probability: float | None) -> None:
    prediction = predict.Prediction("a.jpg", verdict, dog)
    assert predict.line_of(prediction) == line
    assert json.loads(predict.json_of(prediction)) == {"image": "a.jpg", "verdict": verdict, "dog": probability}


@pytest.mark.slow
def test_thousands_of_images_in_one_go(trained: Trained, test_images: Path, catsdogs: Catsdogs, tmp_path: Path) -> None:
    originals = sorted(test_images.rglob("*.jpg"))
    for number in range(3000):
        target = tmp_path / "many" / f"{number % 7}" / f"{number:04}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(shutil.copyfile(originals[number % 12], tmp_path / f"{number % 12}.jpg"), target)
    process = catsdogs("predict", "many", f"--model={trained.folder}", "--format=json")
    assert (process.returncode, process.stderr) == (0, "")
    told = [json.loads(line) for line in process.stdout.splitlines()]
    assert [one["image"] for one in told] == sorted(f"many/{number % 7}/{number:04}.jpg" for number in range(3000))
    dog = {row["image"]: float(row["probability"]) for row in rows((trained.folder / "predictions.csv").read_bytes())}
    of_original = [dog[f"test/{path.relative_to(test_images).as_posix()}"] for path in originals]
    for one in told:
        number = int(Path(one["image"]).stem)
        assert one["dog"] == pytest.approx(of_original[number % 12], abs=1e-6)


def test_what_is_no_image_is_named_and_passed_over(trained: Trained, catsdogs: Catsdogs, tmp_path: Path) -> None:
    picture(tmp_path / "mixed" / "deep" / "b.PNG")
    picture(tmp_path / "mixed" / "a.jpeg")
    picture(tmp_path / "mixed" / ".hidden.jpg").write_bytes(b"a Mac's resource fork")
    (tmp_path / "mixed" / "notes.txt").write_text("no image, and not named as one")
    whole = picture(tmp_path / "mixed" / "whole.jpg").read_bytes()
    (tmp_path / "mixed" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "mixed" / "empty.jpg").write_bytes(b"")
    (tmp_path / "named.txt").write_text("named, so it counts")
    (tmp_path / "nothing").mkdir()
    hostile = "x\x1b[2J\nall is well.jpg"
    (tmp_path / "mixed" / hostile).write_bytes(b"no")
    arguments = ("predict", "named.txt", "absent.jpg", "mixed", "nothing", f"--model={trained.folder}")
    process = catsdogs(*arguments)
    assert process.returncode == 65
    assert [line.split()[-1] for line in process.stdout.splitlines()[1:]] == [
        "mixed/a.jpeg", "mixed/whole.jpg", "mixed/deep/b.PNG",
    ]  # fmt: skip
    *named, others, hidden, last = process.stderr.splitlines()
    assert others == "catsdogs: 1 file is not an image: mixed/notes.txt"
    assert hidden == "catsdogs: 1 hidden file or folder is left out: mixed/.hidden.jpg"
    assert [line.split(": ")[1] for line in named] == [
        "named.txt", "absent.jpg", "mixed/cut.jpg", "mixed/empty.jpg", r"mixed/x\x1b[2J\nall is well.jpg", "nothing",
    ]  # fmt: skip
    assert [line.split(": ")[2] for line in named][1] == "No such file or directory; passed over"
    assert last == "catsdogs: 6 of 9 images could not be read; they are named above, the others are done"

    as_json = catsdogs(*arguments, "--format=json")
    assert (as_json.returncode, as_json.stderr) == (65, process.stderr)
    told = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [set(one) for one in told if "reason" in one] == [{"image", "reason"}] * 6
    assert f"mixed/{hostile}" in [one["image"] for one in told]
    assert len(told) == 9


JUDGED = {
    "photo.jpg": "JPEG", "photo.jfif": "JPEG", "photo.JPE": "JPEG", "photo.pjpeg": "JPEG", "3d.MPO": "MPO",
    "without a suffix": "JPEG", "download.bin": "PNG", "photo.jpg.1": "JPEG", "scan.tif": "TIFF", "scan.TIFF": "TIFF",
    "a tiff.jpg": "TIFF", "phone.avif": "AVIF", "an avif.jpg": "AVIF", "old.bmp": "BMP", "page.webp": "WEBP",
    "page.gif": "GIF", "deep/er/image": "WEBP", "IMG_1.HEIC": "JPEG",
}  # fmt: skip
"""Name of a file → its format."""
UNSUPPORTED = {
    "IMG_2.HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
    "a photo": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
    "photo.jxl": b"\xff\x0a" + bytes(99),
    "IMG_3.CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(99),
}
OTHERS = {
    "notes.txt": b"BMW is a make of cars, not an image.", "Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(99), "empty": b"",
    "deep/IMG_1.MOV": b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(99), "song.wav": b"RIFF\0\0\0\0WAVE" + bytes(99),
}  # fmt: skip
HIDDEN = [".DS_Store", "._photo.jpg", ".thumbnails/photo.jpg", "deep/.cache/more/photo.jpg", "deep/.hidden"]


def test_a_folder_as_people_have_it(trained: Trained, catsdogs: Catsdogs, tmp_path: Path) -> None:
    """First bytes decide, whatever the name. Everything is judged, named or counted."""
    image = sample.draw("cat", 1)
    folder = tmp_path / "photos"
    for name, kind in JUDGED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        more = {"save_all": True, "append_images": [image]} if kind == "MPO" else {}
        image.save(folder / name, kind, **more)
    for name, data in {**UNSUPPORTED, **OTHERS}.items():
        (folder / name).write_bytes(data)
    for name in HIDDEN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "photo.jpg", folder / name)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "linked").symlink_to(folder / "photo.jpg")
    (folder / "gone.jpg").symlink_to("nowhere")
    # It would be waited for without end.
    os.mkfifo(folder / "pipe.jpg")

    process = catsdogs("predict", "photos", f"--model={trained.folder}", "--format=json")
    results = {one["image"]: one for one in map(json.loads, process.stdout.splitlines())}
    judged = {name for name, one in results.items() if "verdict" in one}
    assert judged == {f"photos/{name}" for name in [*JUDGED, "linked"]}
    assert results.keys() - judged == {f"photos/{name}" for name in [*UNSUPPORTED, "gone.jpg"]}
    assert results["photos/IMG_2.HEIC"]["reason"] == "a HEIC image, which is not decoded; save it as a JPEG or PNG"
    assert process.returncode == 65
    *named, others, hidden, links, last = process.stderr.splitlines()
    assert len(named) == len(UNSUPPORTED) + 1
    assert others.startswith(f"catsdogs: {len(OTHERS) + 1} files are not images: photos/Thumbs.db, photos/empty, ")
    assert others.endswith(" and 3 more")
    assert hidden.startswith(
        "catsdogs: 5 hidden files and folders are left out: photos/.thumbnails, photos/.DS_Store, "
    )
    assert links == "catsdogs: 1 link to a folder is not followed: photos/again"
    assert last.startswith(f"catsdogs: 5 of {len(JUDGED) + 6} images could not be read")


def test_what_is_left_out_of_a_folder_is_no_failure(trained: Trained, catsdogs: Catsdogs, tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "photo.jpg")
    (tmp_path / "photos" / "notes\x1b[2J.txt").write_text("no image")
    (tmp_path / "photos" / ".DS_Store").touch()
    process = catsdogs("predict", "photos", f"--model={trained.folder}")
    assert (process.returncode, len(process.stdout.splitlines())) == (0, 2)
    assert process.stderr.splitlines() == [
        r"catsdogs: 1 file is not an image: photos/notes\x1b[2J.txt",
        "catsdogs: 1 hidden file or folder is left out: photos/.DS_Store",
    ]


def test_only_what_is_no_image(trained: Trained, catsdogs: Catsdogs, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    process = catsdogs("predict", "text.jpg", "absent", f"--model={trained.folder}")
    assert (process.returncode, process.stdout) == (65, ""), "no head without a line"
    assert process.stderr.splitlines()[-1].startswith("catsdogs: 2 of 2 images could not be read")


@pytest.mark.parametrize(
    ("images", "line"),
    [
        (["nofolder"], "catsdogs: nofolder: no such file or folder; check the path\n"),
        (["a.jpg", "b.jpg", "c"], "catsdogs: a.jpg: no such file or folder (and 2 more); check the path\n"),
    ],
)
def test_images_that_do_not_exist(images: list[str], line: str, catsdogs: Catsdogs) -> None:
    """Before the model is looked for."""
    for form in ("table", "json"):
        process = catsdogs("predict", *images, "--model=nowhere", f"--format={form}")
        assert (process.returncode, process.stdout, process.stderr) == (65, "", line)


def model_file(**changes: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in changes.items():
            file.writestr(name.replace("_", "."), data)
    return buffer.getvalue()


def test_model_that_is_not_the_manifest_s_is_not_used(
    trained: Trained, test_images: Path, catsdogs: Catsdogs, tmp_path: Path
) -> None:
    """One bit of a weight; Keras would load it without a word."""
    shutil.copytree(trained.folder, tmp_path / "run")
    data = bytearray((tmp_path / "run" / "model.keras").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "run" / "model.keras").write_bytes(data)
    for model in ("run", "run/model.keras"):
        process = catsdogs("predict", test_images, f"--model={model}")
        assert (process.returncode, process.stdout) == (65, "")
        [line] = process.stderr.splitlines()
        assert line.startswith("catsdogs: run/model.keras: not what the manifest says")


def test_run_whose_manifest_has_no_model(
    trained: Trained, test_images: Path, catsdogs: Catsdogs, tmp_path: Path
) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
    manifest["artifacts"] = [entry for entry in manifest["artifacts"] if entry["name"] != "model.keras"]
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    process = catsdogs("predict", test_images, "--model=run")
    assert (process.returncode, process.stdout) == (65, "")
    assert process.stderr.startswith("catsdogs: run/model.keras: not in the manifest")


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        ("s3://nobody-has-this/runs/small", 65, "s3://nobody-has-this: no such bucket"),
        (
            "s3://BUCKET/runs/other",
            65,
            "s3://BUCKET/runs/other/manifest.json: no such object; check the key; without a",
        ),
        ("s3://BUCKET/datasets/model.keras", 65, "s3://BUCKET/datasets/model.keras: no such object"),
        (
            "nowhere",
            65,
            "nowhere/manifest.json: no such file; check the path; without a manifest a run is not published",
        ),
        ("nowhere.keras", 65, "nowhere.keras: no such file"),
        ("text.keras", 65, "text.keras: no model that can be used"),
        ("zip.keras", 65, "zip.keras: no model that can be used"),
        ("other.keras", 65, "other.keras: no model of cats and dogs: it takes (None, 4) and gives (None, 2)"),
        ("gs://bucket/model", 2, "neither s3://bucket/key nor a local path"),
    ],
)
def test_a_model_that_cannot_be_used(
    model: str, code: int, said: str, trained: Trained, test_images: Path, catsdogs: Catsdogs, tmp_path: Path
) -> None:
    (tmp_path / "text.keras").write_text("no zip")
    (tmp_path / "zip.keras").write_bytes(model_file(config_json=b"{}", metadata_json=b"{}"))
    if model == "other.keras":
        script = "import keras; m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]); m.save('other.keras')"
        assert warm.python(script, env=environment_in(tmp_path), directory=tmp_path).returncode == 0
    model, said = (text.replace("BUCKET", trained.bucket) for text in (model, said))
    process = catsdogs("predict", test_images, f"--model={model}", env=trained.environment)
    assert (process.returncode, process.stdout) == (code, ""), process.stderr
    assert said in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr


def test_model_with_code_in_it_runs_none(test_images: Path, catsdogs: Catsdogs, tmp_path: Path) -> None:
    script = f"""
import keras, pathlib
from keras import layers
shout = lambda x: (__import__("pathlib").Path({str(tmp_path / "ran")!r}).touch(), x)[1]
model = keras.Sequential([keras.Input((8, 8, 3)), layers.Lambda(shout), layers.Flatten(), layers.Dense(1)])
pathlib.Path({str(tmp_path / "ran")!r}).unlink()
model.save("code.keras")
"""
    assert warm.python(script, env=environment_in(tmp_path), directory=tmp_path).returncode == 0
    assert not (tmp_path / "ran").exists()
    process = catsdogs("predict", test_images, "--model=code.keras")
    assert process.returncode == 65
    assert process.stderr.startswith("catsdogs: code.keras: no model that can be used")
    assert not (tmp_path / "ran").exists()


def predicting(trained: Trained, *images: Path) -> subprocess.Popen[str]:
    """The command at work, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "catsdogs", "predict", *map(str, images), f"--model={trained.folder}"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_output_that_nobody_reads_to_its_end(trained: Trained, test_images: Path) -> None:
    """As `| head -1` does it."""
    with predicting(trained, *[test_images] * 40) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.slow
def test_square_of_another_size_than_the_picture_s(trained: Trained, catsdogs: Catsdogs, tmp_path: Path) -> None:
    """Turned by EXIF, wide, grey, with an alpha channel: all are shown to the model as in training."""
    base = sample.draw("dog", 3)
    exif = Image.Exif()
    exif[0x0112] = 3
    base.rotate(180).save(tmp_path / "turned.png", exif=exif)
    base.save(tmp_path / "plain.png")
    base.convert("RGBA").save(tmp_path / "alpha.png")
    base.convert("L").resize((900, 33)).save(tmp_path / "wide.png")
    process = catsdogs(
        "predict", "plain.png", "turned.png", "alpha.png", "wide.png", f"--model={trained.folder}", "--format=json"
    )
    assert (process.returncode, process.stderr) == (0, "")
    plain, turned, alpha, _ = (json.loads(line)["dog"] for line in process.stdout.splitlines())
    assert plain == turned == alpha


@pytest.mark.slow
def test_interrupted(trained: Trained, test_images: Path) -> None:
    """What was said until then is whole, and the last line does not speak of progress that is saved."""
    with predicting(trained, *[test_images] * 2000) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        rest, stderr = process.communicate(timeout=60)
    assert process.returncode == 75
    assert stderr.splitlines()[-1].startswith("catsdogs: SIGTERM received: the images above are done")
    assert all(line.endswith(".jpg") for line in [lines[1].rstrip(), *rest.splitlines()])
    assert len(rest.splitlines()) < 24_000
