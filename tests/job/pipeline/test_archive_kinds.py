"""Every kind of archive of tests/archives.py, as `plan` and `prepare` find it."""

import json
from pathlib import Path

import pytest

from catsdogs.config.settings import Settings
from catsdogs.pipeline import plan as planning
from catsdogs.pipeline.workflow import prepare
from catsdogs.runtime.errors import BadData
from catsdogs.runtime.events import Event
from catsdogs.runtime.log import Log
from catsdogs.runtime.signals import Interruption
from tests.archives import COUNTS, EXCLUDED, IMAGES, KINDS, PASSED, READ, REFUSED, Kind
from tests.conftest import Catsdogs


class Lines:
    """A sink of the log's lines."""

    def __init__(self) -> None:
        self.interval = 0.0
        self.lines: list[str] = []

    def show(self, event: Event, worker: int) -> None:
        self.lines.append(event.sentence())


def settings_of(archive: Path, directory: Path) -> Settings:
    train, validation, test = COUNTS
    return Settings.of(
        archive=str(archive), output=str(directory / "output"), volume=directory / "volume", run_id="any",
        recipe_name="baseline", epochs=1, batch_size=2, learning_rate=0.001, image_size=64, seed=0,
        train_per_class=train, validation_per_class=validation, test_per_class=test, require_gpu=False,
        checkpoint_every=60.0, checkpoint_to="volume", addressing_style="auto", storage_timeout=0.0,
    )  # fmt: skip


def split_on(volume: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (volume / "splits").rglob("*.jpg")}


def expected_split(kind: Kind) -> dict[str, bytes]:
    """Each place has its own number's image, or the lowest spare one."""
    split: dict[str, bytes] = {}
    for label in ("cat", "dog"):
        places = sum(COUNTS)
        missing = [
            number for number in range(places)
            if kind.outcome == EXCLUDED and any(name.endswith(f"{label}.{number}.jpg") for name in kind.excluded)
        ]  # fmt: skip
        if kind is KINDS["contradiction-beside"]:
            missing = []
        spares = list(range(places, 9))
        if kind is KINDS["two-splits-spare"]:
            spares = [8]
        taken = [number for number in range(places) if number not in missing] + spares[: len(missing)]
        split |= {f"{label}.{number}.jpg": IMAGES[label, number] for number in taken}
    return split


@pytest.mark.parametrize("name", KINDS)
def test_kind(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    source = tmp_path / "source"
    source.mkdir()
    archive = kind.make(source)
    before = sorted(source.rglob("*"))
    settings, log = settings_of(archive, tmp_path), Lines()

    if kind.outcome == REFUSED:
        if kind.after_unpacking:
            planning.plan(settings)
        else:
            with pytest.raises(BadData) as planned:
                planning.plan(settings)
            assert not (tmp_path / "volume" / "archive").exists()
        with pytest.raises(BadData) as caught:
            prepare(settings, Log([log]), Interruption())
        assert kind.after_unpacking or str(caught.value) == str(planned.value)
        assert str(archive) in str(caught.value)
        assert kind.said in str(caught.value)
        assert not [path for path in (tmp_path / "volume").rglob("*.zip")], "nothing useless is left"
        return

    plan = planning.plan(settings)
    text = planning.text_of(plan)
    prepare(settings, Log([log]), Interruption())
    split = split_on(tmp_path / "volume")
    if name == "copies-unused":
        assert split.pop("cat.2.jpg") == IMAGES["cat", 1]
        split["cat.2.jpg"] = IMAGES["cat", 2]
    assert split == expected_split(kind)
    assert sorted(source.rglob("*")) == before, "the archive is only read"
    left_out = [line for line in log.lines if line.startswith("left out ")]
    [document] = (tmp_path / "volume").rglob("split.json")
    excluded = {entry["member"]: entry["reason"] for entry in json.loads(document.read_bytes())["quarantined"]}
    if kind.outcome == EXCLUDED:
        assert excluded.keys() == set(kind.excluded)
        assert kind.said in excluded[kind.excluded[0]]
        assert len(left_out) == len(kind.excluded)
        # Except for what only its bytes tell, the plan knows.
        assert name == "odd-zip64-image" or plan["archive"]["excluded"]["count"] == len(kind.excluded)
        assert name == "odd-zip64-image" or kind.said in text
    else:
        assert (excluded, left_out, plan["archive"]["excluded"]["count"]) == ({}, [], 0)
    if kind.outcome == PASSED:
        assert kind.said in log.lines
        assert plan["archive"]["stray"] == {"count": len(kind.excluded), "examples": list(kind.excluded)}


def test_the_command_on_some(catsdogs: Catsdogs, tmp_path: Path) -> None:
    """The exit code, one line, and no traceback."""
    train, validation, test = COUNTS
    counts = [f"--train-per-class={train}", f"--validation-per-class={validation}", f"--test-per-class={test}"]
    for name in ("folder", "contradiction", "shift-jis", "stray", "method-9", "7z"):
        kind = KINDS[name]
        (tmp_path / name).mkdir()
        archive = kind.make(tmp_path / name)
        for command in ("plan", "prepare"):
            process = catsdogs(
                command, f"--archive={archive}{'/' if name == 'folder' else ''}", f"--output={name}/out",
                f"--volume={name}/volume", "--batch-size=2", *counts,
            )  # fmt: skip
            assert process.returncode == (65 if kind.outcome == REFUSED else 0), process.stderr
            if kind.outcome == REFUSED:
                assert process.stderr.splitlines() == [f"catsdogs: {archive}: {kind.said}"]
            elif kind.outcome != READ and command == "prepare":
                assert kind.said in process.stdout
