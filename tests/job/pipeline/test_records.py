"""settings.json and prepared.json: what is written, what of older versions is read, and what is refused."""

import json
from pathlib import Path

import pytest

from catsdogs.pipeline import records
from catsdogs.runtime.errors import ConfigError, VolumeError
from tests.conftest import REPOSITORY, Catsdogs

SETTINGS = {"archive": "a.zip", "seed": 1, "learning_rate": 1e-4}
SPLIT = "0123456789abcdef"
GOLDEN = REPOSITORY / "tests" / "golden" / "volume" / "work"


def check(directory: Path) -> None:
    records.check_settings(directory, SETTINGS)
    records.check_split(directory, SPLIT)


def test_records_carry_their_format_and_are_read_again(tmp_path: Path) -> None:
    records.record(tmp_path, SETTINGS, SPLIT)
    assert json.loads((tmp_path / "settings.json").read_text()) == {"format": 1, **SETTINGS}
    assert json.loads((tmp_path / "prepared.json").read_text()) == {"format": 1, "archive contents": SPLIT}
    check(tmp_path)
    assert records.prepared_split(tmp_path) == SPLIT
    with pytest.raises(ConfigError, match=r"belongs to a run with seed 1 instead of 2; choose another --run-id, or"):
        records.check_settings(tmp_path, {**SETTINGS, "seed": 2})
    with pytest.raises(ConfigError, match=f"with archive contents '{SPLIT}' instead of 'other'"):
        records.check_split(tmp_path, "other")


def test_nothing_is_recorded_of_a_run_that_has_made_nothing(tmp_path: Path) -> None:
    check(tmp_path / "absent")
    assert records.prepared_split(tmp_path) is None
    (tmp_path / "settings.json").write_text("damaged, and of no matter")
    check(tmp_path)


@pytest.mark.parametrize("run", sorted(path.name for path in GOLDEN.iterdir()))
def test_records_of_older_versions_are_read_and_stay(run: str, tmp_path: Path) -> None:
    """They have no format number."""
    texts = {name: (GOLDEN / run / name).read_bytes() for name in ("settings.json", "prepared.json")}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    settings = json.loads(texts["settings.json"])
    split_id = records.prepared_split(tmp_path)
    assert split_id == "643b8dac28e0f215"
    records.check_settings(tmp_path, settings)
    records.record(tmp_path, settings, split_id)
    assert {name: (tmp_path / name).read_bytes() for name in texts} == texts
    with pytest.raises(ConfigError, match="with epochs"):
        records.check_settings(tmp_path, {**settings, "epochs": 1000})


@pytest.mark.parametrize("name", ["settings.json", "prepared.json"])
def test_record_of_a_newer_version_is_refused(name: str, tmp_path: Path) -> None:
    records.record(tmp_path, SETTINGS, SPLIT)
    (tmp_path / name).write_text('{"format": 2, "all": "different"}')
    with pytest.raises(ConfigError, match=rf"{name}: written by a newer version of catsdogs-train \(format 2; "):
        check(tmp_path)


@pytest.mark.parametrize("name", ["settings.json", "prepared.json"])
@pytest.mark.parametrize(
    "damaged", [b"", b"{", b"[1]", b"\xff", b"null", b'{"format": "1"}', b'{"format": 1, "x": NaN}', b"[" * 100_000]
)
def test_damaged_record_is_one_clear_line(name: str, damaged: bytes, tmp_path: Path) -> None:
    records.record(tmp_path, SETTINGS, SPLIT)
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(VolumeError, match=rf"{name}: damaged; remove {tmp_path} to start the run again"):
        check(tmp_path)


@pytest.mark.parametrize("split_id", ["../../elsewhere", "/etc", "..", ".", "", 3, None, ["a"]])
def test_recorded_split_leads_nowhere_else(split_id: object, tmp_path: Path) -> None:
    (tmp_path / "prepared.json").write_text(json.dumps({"format": 1, "archive contents": split_id}))
    with pytest.raises(VolumeError, match=r"prepared\.json: damaged"):
        records.prepared_split(tmp_path)


def test_command_refuses_what_a_newer_version_recorded(catsdogs: Catsdogs, tmp_path: Path) -> None:
    work = tmp_path / "data" / "work" / "newer"
    work.mkdir(parents=True)
    (work / "settings.json").write_text('{"format": 2}')
    (work / "prepared.json").write_text('{"format": 2}')
    for command in ("prepare", "train", "publish", "run"):
        process = catsdogs(command, "--archive=a.zip", "--output=runs", "--run-id=newer")
        assert process.returncode == 78
        [line] = process.stderr.splitlines()
        assert "settings.json: written by a newer version of catsdogs-train (format 2" in line
