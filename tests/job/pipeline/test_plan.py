"""The plan as text, and as JSON, of archives whose images need not be unpacked."""

import json
import zipfile
from pathlib import Path

from tests.conftest import Catsdogs

OPTIONS = (
    "--output=out", "--run-id=one", "--train-per-class=2", "--validation-per-class=1", "--test-per-class=1",
    "--batch-size=4", "--epochs=1",
)  # fmt: skip


def test_plan_of_images_in_ranges(catsdogs: Catsdogs, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for number in range(5):
            for label in ("cat", "dog"):
                file.writestr(f"{label}.{number}.jpg", f"{label}{number}".encode() * 20)
    plan = json.loads(catsdogs("plan", "--archive=a.zip", *OPTIONS, "--log-format=json").stdout)
    assert set(plan) == {"run_id", "published", "archive", "fetch", "split", "train", "write"}
    assert (plan["fetch"]["images"], plan["fetch"]["requests"]) == (8, 1)
    assert (plan["archive"]["cats"], plan["archive"]["dogs"]) == (5, 5)
    assert (plan["train"]["steps_per_epoch"], plan["train"]["validation_steps"]) == (1, 1)
    lines = catsdogs("plan", "--archive=a.zip", *OPTIONS).stdout.splitlines()
    assert lines[1].endswith("bytes, 5 cats, 5 dogs") or lines[1].endswith("kB, 5 cats, 5 dogs")
    assert lines[2].endswith(": 8 images in 1 range")
    assert lines[4].startswith("train    baseline: 1 epoch of 1 step and 1 to validate, batches of 4, ")


def test_plan_of_too_few_images(catsdogs: Catsdogs, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("cat.0.jpg", b"cat" * 30)
        file.writestr("dog.0.jpg", b"dog" * 30)
    process = catsdogs("plan", "--archive=a.zip", *OPTIONS)
    assert (process.returncode, "4 cats are wanted, the archive has 1; " in process.stderr) == (65, True)
