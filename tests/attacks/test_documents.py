"""Documents from the bucket and the volume that somebody else has written, and models that are bombs.

Every document × every corruption × every command that reads it: no traceback, no exit code 1, one line that names the
document, and one odd run hides no other.
"""

import contextlib
import copy
import hashlib
import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catsdogs import cli
from catsdogs.runtime.errors import ConfigError, Interrupted
from catsdogs.runtime.signals import Interruption
from catsdogs.storage import document, schema
from catsdogs.storage.folder import Folder
from catsdogs.storage.lease import KEY, Lease
from tests.conftest import REPOSITORY
from tests.published import reseal

GOLDEN = REPOSITORY / "tests/golden"
RUN_ID = "baseline-0c2cfecc"
OPTIONS = (
    "--archive=dogs-vs-cats.zip", "--output=runs", "--volume=volume", f"--run-id={RUN_ID}", "--recipe=baseline",
    "--image-size=48", "--epochs=24", "--learning-rate=0.006", "--seed=1", "--train-per-class=12",
    "--validation-per-class=4", "--test-per-class=4", "--batch-size=5",
)  # fmt: skip
DEEP = 200_000
CORRUPTIONS = {
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "a text": b'"x"',
    "an empty object": b"{}",
    "nested lists": b"[" * DEEP,
    "nested lists, closed": b"[" * DEEP + b"]" * DEEP,
    "nested objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "NaN": b"NaN",
    "an object of NaN": b'{"format": NaN}',
    "a huge format": b'{"format": 1' + b"0" * 400 + b"}",
    "an infinite format": b'{"format": 1e999}',
    "not UTF-8": b"\xff\xfe",
    "UTF-16": '{"format": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"format": 1}',
    "a key twice": b'{"format": 99, "format": 1}',
    "NULs": b"\0" * 1000,
    "5,000 characters": b'{"' + b"x" * 5000 + b'": 1}',
}
"""Of a whole document."""
VALUES = (
    "null", "[]", "{}", '"x"', "-1", "1.5", "true", "1" + "0" * 400, "1e999", "-1e999", "NaN", "Infinity", "9.99",
    '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"../../x"', '"/etc/passwd"', '"\\u001b[2J\\u202e\\u009b"',
    json.dumps("x" * 5000), "[" * 200 + "]" * 200,
)  # fmt: skip
"""In place of one value of a document, as JSON."""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def catsdogs(*args: str | Path) -> Ended:
    """Run the command in this process: there are a thousand cases."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["catsdogs", *map(str, args)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli._exit_code(Interruption())
    finally:
        sys.argv = argv
    return Ended(code, out.getvalue(), err.getvalue())


def check_told(ended: Ended, name: str, what: object = "") -> None:
    """A refusal is one line at the end, which names the document; nothing is taken for a bug."""
    assert ended.code in (0, 65, 74, 78), (what, ended)
    assert "Traceback" not in ended.err, (what, ended)
    for line in (ended.out + ended.err).splitlines():
        assert line.isprintable(), (what, line)
    if ended.code:
        assert name in ended.err.splitlines()[-1], (what, ended)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a golden run, published in `runs`, which is the working directory."""
    shutil.copytree(GOLDEN / "runs", tmp_path / "runs")
    shutil.copy(GOLDEN / "dogs-vs-cats.zip", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def on_volume(place: Path) -> Path:
    """The same, trained and not published."""
    shutil.rmtree(place / "runs")
    shutil.copytree(GOLDEN / "volume", place / "volume")
    shutil.copytree(GOLDEN / "runs" / RUN_ID, place / "volume/work" / RUN_ID / "artifacts", dirs_exist_ok=True)
    return place


def published_row(output: str, odd: str) -> dict[str, Any]:
    """The row of the odd run, beside a good one that is listed as ever."""
    ended = catsdogs("runs", f"--output={output}", "--json")
    assert ended.code == 0, ended
    rows = {row["run_id"]: row for row in json.loads(ended.out)}
    assert rows["good"]["state"] == "published"
    row: dict[str, Any] = rows[odd]
    assert ended.err == (f"catsdogs: {row['problem']}\n" if row["problem"] else "")
    check_told(catsdogs("runs", f"--output={output}"), odd)
    return row


@pytest.mark.parametrize("name", ["manifest.json", "run.json", "metrics.json", "split.json", "predictions.csv"])
def test_corrupted_document_of_a_published_run(name: str, place: Path) -> None:
    run = place / "runs" / RUN_ID
    shutil.copytree(run, place / "runs/good")
    manifest = (run / "manifest.json").read_bytes()
    for what, data in CORRUPTIONS.items():
        (run / "manifest.json").write_bytes(manifest)
        (run / name).write_bytes(data)
        if name != "manifest.json":
            reseal(run)
        row = published_row("runs", RUN_ID)
        # What `runs` does not read, it does not judge.
        judged = name in ("manifest.json", "run.json", "metrics.json")
        assert (row["state"] == "damaged") == judged, (what, row)
        if judged:
            assert f"{RUN_ID}/{name}: " in row["problem"]
        ended = catsdogs("verify", run)
        assert ended.code == (65 if name == "manifest.json" else 0), (what, ended)
        check_told(ended, f"{RUN_ID}/{name}", what)
        ended = catsdogs("verify", run, "--accuracy", "--archive=dogs-vs-cats.zip")
        assert ended.code == 65, (what, ended)
        check_told(ended, f"{RUN_ID}/{name}: ", what)
        if name == "manifest.json":
            check_told(catsdogs("predict", f"--model={run}", "dogs-vs-cats.zip"), f"{RUN_ID}/{name}: ", what)
        if name in ("manifest.json", "run.json"):
            for command in ("run", "prepare", "train", "publish"):
                ended = catsdogs(command, *OPTIONS)
                assert ended.code in (65, 78), (what, ended)
                check_told(ended, f"{RUN_ID}/{name}: ", what)


def test_manifest_that_lists_nothing_is_no_published_run(place: Path) -> None:
    (place / "runs" / RUN_ID / "manifest.json").write_text('{"format": 1, "artifacts": []}')
    for command in ("run", "prepare", "train", "publish"):
        ended = catsdogs(command, *OPTIONS)
        assert ended.code == 65
        assert "not in the manifest" in ended.err


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values in a document; of a list its first item stands for all."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


def changed(original: Any, path: tuple[str | int, ...], value: str | None) -> bytes:
    """The document with a value at `path` replaced, or removed for None."""
    whole = copy.deepcopy(original)
    parent = whole
    for key in path[:-1]:
        parent = parent[key]
    if value is None:
        del parent[path[-1]]
        return json.dumps(whole).encode()
    parent[path[-1]] = "HERE"
    return json.dumps(whole).replace('"HERE"', value).encode()


def odd_ones(original: Any) -> Iterator[bytes]:
    for path in leaves(original):
        for value in (None, *VALUES):
            yield changed(original, path, value)


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["manifest.json", "run.json", "metrics.json"])
def test_every_value_of_a_run_is_checked_before_it_is_listed(name: str, step: int, place: Path) -> None:
    good = place / "runs" / RUN_ID
    (place / "runs" / RUN_ID).rename(place / "runs/good")
    good = place / "runs/good"
    files = {path.relative_to(good) for path in good.rglob("*") if path.is_file()}
    odd = list(odd_ones(json.loads((good / name).read_bytes())))[::step]
    for number, data in enumerate(odd):
        run = place / "runs" / f"odd-{number}"
        for file in files - {Path(name), Path("manifest.json")}:
            (run / file).parent.mkdir(parents=True, exist_ok=True)
            os.link(good / file, run / file)
        (run / name).write_bytes(data)
        if name != "manifest.json":
            shutil.copy(good / "manifest.json", run)
            reseal(run)
    ended = catsdogs("runs", "--output=runs", "--json")
    assert ended.code == 0, ended.err
    rows = json.loads(ended.out, parse_constant=pytest.fail)
    assert len(rows) == len(odd) + 1
    assert next(row for row in rows if row["run_id"] == "good")["state"] == "published"
    lines = ended.err.splitlines()
    assert [f"catsdogs: {row['problem']}" for row in rows if row["problem"]] == lines
    assert all(line.isprintable() and len(line) < 1500 and f"/{name}: " in line for line in lines if name in line)
    for row in rows:
        if row["state"] == "published":
            data = odd[int(row["run_id"].partition("-")[2])] if row["run_id"] != "good" else b""
            assert row["test_accuracy"] == 1.0, data[:3000]
            assert row["best_epoch"] > 0
            assert row["test_correct"] == row["test_images"] == 8
            assert len(row["recipe_name"]) <= 100
            assert row["epochs"] > 0
    ended = catsdogs("runs", "--output=runs")
    assert ended.code == 0
    assert all(line.isprintable() and len(line) < 200 for line in ended.out.splitlines())


@pytest.mark.parametrize("step", [23, pytest.param(5, marks=pytest.mark.slow)])
def test_every_value_of_a_split_and_of_metrics_is_checked_before_a_model_is_judged(step: int, place: Path) -> None:
    """Nothing but the archive is left to compare with, so a split that is accepted must be of this archive."""
    run = place / "runs" / RUN_ID
    (run / "model.keras").write_bytes(b"")  # so that what is accepted ends before TensorFlow
    for name in ("metrics.json", "split.json", "run.json"):
        original = (run / name).read_bytes()
        for data in list(odd_ones(json.loads(original)))[::step]:
            (run / name).write_bytes(data)
            reseal(run)
            ended = catsdogs("verify", run, "--accuracy", "--archive=dogs-vs-cats.zip")
            assert ended.code == 65, (data[:2000], ended)
            assert "Traceback" not in ended.err
        (run / name).write_bytes(original)


@pytest.mark.parametrize("name", ["settings.json", "prepared.json"])
def test_corrupted_record_of_a_run_on_the_volume(name: str, on_volume: Path) -> None:
    path = on_volume / "volume/work" / RUN_ID / name
    for what, data in CORRUPTIONS.items():
        path.write_bytes(data)
        for command in ("prepare", "train", "publish", "run"):
            ended = catsdogs(command, *OPTIONS)
            # `train` and `publish` have no use for the split: the training is done.
            if name == "settings.json" or command == "prepare":
                assert ended.code in (74, 78), (what, command, ended)
                check_told(ended, f"{RUN_ID}", (what, command))
            elif command == "run":
                check_told(ended, RUN_ID, (what, command))
            if name == "prepared.json":
                break


@pytest.mark.parametrize("step", [29, pytest.param(5, marks=pytest.mark.slow)])
def test_corrupted_split_is_built_again(step: int, on_volume: Path) -> None:
    [path] = (on_volume / "volume/splits").glob("*/split.json")
    original = path.read_bytes()
    odd = [*CORRUPTIONS.values(), *list(odd_ones(json.loads(original)))[::step]]
    for data in odd:
        path.write_bytes(data)
        ended = catsdogs("prepare", *OPTIONS)
        assert (ended.code, ended.err) == (0, ""), (data[:2000], ended)
        assert json.loads(path.read_bytes())["images"]


@pytest.mark.parametrize("name", ["artifacts.json", "run.json", "metrics.json", "model.keras"])
def test_corrupted_document_beside_the_artifacts(name: str, on_volume: Path) -> None:
    """Even if the record that they are complete was written to fit."""
    directory = on_volume / "volume/work" / RUN_ID / "artifacts"
    record = json.loads((directory / "artifacts.json").read_bytes())
    for what, data in CORRUPTIONS.items():
        (directory / name).write_bytes(data)
        if name != "artifacts.json":
            forge_record(directory, record)
        ended = catsdogs("publish", *OPTIONS)
        assert ended.code == (78 if name == "artifacts.json" else 74), (what, ended)
        check_told(ended, RUN_ID if name == "artifacts.json" else f"artifacts/{name}: ", what)
        assert not (on_volume / "runs" / RUN_ID / "manifest.json").exists(), what


@pytest.mark.parametrize("data", [b"\xff\xfe", b"epoch\n1\n", b"epoch,loss\n1\n", b'epoch,loss\n"' + b"x" * 200_000])
def test_history_that_is_none(data: bytes, on_volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read for MLflow, which is not asked then."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    directory = on_volume / "volume/work" / RUN_ID / "artifacts"
    record = json.loads((directory / "artifacts.json").read_bytes())
    (directory / "history.csv").write_bytes(data)
    forge_record(directory, record)
    ended = catsdogs("publish", *OPTIONS)
    assert ended.code == 74, ended
    check_told(ended, "artifacts/history.csv: damaged; ")


def forge_record(directory: Path, record: dict[str, Any]) -> None:
    forged = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in record}
    (directory / "artifacts.json").write_text(json.dumps(forged))


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder", "300 MB"])
def test_what_is_no_document_at_all(kind: str, on_volume: Path) -> None:
    path = on_volume / "volume/work" / RUN_ID / "settings.json"
    path.unlink()
    match kind:
        case "a link":
            path.symlink_to("/proc/self/environ")
        case "a pipe":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case _:
            with path.open("wb") as file:
                file.truncate(300 << 20)
    ended = catsdogs("publish", *OPTIONS)
    assert ended.code == 74, ended
    check_told(ended, "settings.json: ")


@pytest.mark.parametrize("data", [*CORRUPTIONS.values(), b'{"owner": ["x"]}', b'{"owner": 3}'])
def test_lease_that_is_none_is_taken_over(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catsdogs.storage.lease.SECONDS", 0.05)
    monkeypatch.setattr("catsdogs.storage.lease.POLL_SECONDS", 0.01)
    (tmp_path / KEY).write_bytes(data)
    interruption = Interruption()
    timer = threading.Timer(10, lambda: setattr(interruption, "name", "SIGTERM"))
    timer.start()
    try:
        with contextlib.suppress(ConfigError):
            Lease(Folder(tmp_path), "me").acquire(interruption)
            assert json.loads((tmp_path / KEY).read_bytes())["owner"] == "me"
    except Interrupted:
        pytest.fail("it is waited for")
    finally:
        timer.cancel()


def test_log_that_is_none(place: Path) -> None:
    """The log of an unpublished run says what became of it; it may be anything."""
    run = place / "runs" / RUN_ID
    shutil.copytree(run, place / "runs/good")
    for name in ("manifest.json", "run.json"):
        (run / name).unlink()
    event = b'{"time": "2026-11-29T02:01:00+00:00", "event": "failed", "error": '
    odd = [
        *CORRUPTIONS.values(), event + b'"\\u001b[2J\\u202e"}', event + b'"x", "exit_code": -1}', event + b"[" * DEEP,
        event + b'"\\ud800", "exit_code": 1' + b"0" * 400 + b"}", event + b'"' + b"x" * 300_000 + b'"}', b"\n" * 99_999,
    ]  # fmt: skip
    for data in odd:
        (run / "log.jsonl").write_bytes(data)
        assert published_row("runs", RUN_ID)["state"] == "unpublished"


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_loader_accepts_only_what_it_returns(value: Any) -> None:
    """Whatever is written: it reads back as it was, or it is a ValueError."""
    text = json.dumps(value)
    try:
        found = schema.parse(text.encode("utf-8", "surrogatepass"), object)
    except ValueError:
        return
    assert json.dumps(found) == text
    # What was accepted can be written, named and shown.
    json.dumps(found, allow_nan=False).encode()


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200) | st.text(alphabet='[]{}",:0123456789.eE+-nulltruefasNI\\ud8', max_size=80).map(str.encode)
)
def test_loader_raises_nothing_else(data: bytes) -> None:
    with contextlib.suppress(ValueError, ConfigError):
        assert isinstance(document.load(data, 1, "x.json"), dict)


def test_reasons_are_short_and_show_no_secret() -> None:
    with pytest.raises(ValueError, match="settings") as caught:
        schema.parse(json.dumps({"settings": "x" * 1_000_000}), dict[str, int])
    assert len(str(caught.value)) < 300
    with pytest.raises(ValueError, match=r"\*\*\*") as caught:
        schema.parse('{"a": "s3://me:secret@x"}', dict[str, int])
    assert "secret" not in str(caught.value)


PEAK = """
import sys
from catsdogs.cli import _exit_code
from catsdogs.runtime.signals import Interruption
code = _exit_code(Interruption())
# Not ru_maxrss, which begins with the memory of the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak.split()[1], file=sys.stderr)
sys.exit(code)
"""


def peak(*args: str | Path, directory: Path) -> tuple[int, str, int]:
    """Exit code, last line on stderr, and the peak of the memory in MiB."""
    process = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, args)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "job")},
        cwd=directory, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    *lines, kilobytes = process.stderr.splitlines()
    assert "Traceback" not in process.stderr
    return process.returncode, lines[-1] if lines else "", int(kilobytes) >> 10


@pytest.mark.slow
def test_large_documents_take_little_memory(place: Path) -> None:
    run = place / "runs" / RUN_ID
    shutil.copytree(run, place / "runs/good")
    sparse = place / "sparse.json"
    with sparse.open("wb") as file:
        file.write(b'{"format": 1, "artifacts": [')
        file.truncate(300 << 20)
    dense = b'{"artifacts":[' + b"{}," * (1 << 20) + b"{}]}"
    for data in (sparse.read_bytes(), dense):
        (run / "manifest.json").write_bytes(data)
        code, last, mebibytes = peak("runs", "--output=runs", directory=place)
        assert code == 0
        assert f"{RUN_ID}/manifest.json: not a manifest" in last
        assert mebibytes < 150
        code, last, mebibytes = peak("verify", run, directory=place)
        assert code == 65
        assert mebibytes < 150


@pytest.mark.parametrize(
    ("piece", "count"),
    [
        (b'{"a":{}},', 690_000),
        pytest.param(b'{"a":{}},', 5_000_000, marks=pytest.mark.slow),
        pytest.param(b'"ab",', 2_000_000, marks=pytest.mark.slow),
    ],
)
def test_dense_split_takes_bounded_memory(piece: bytes, count: int, place: Path) -> None:
    """The smallest values: just as many as are read, and more."""
    run = place / "runs" / RUN_ID
    (run / "split.json").write_bytes(b'{"images":[' + piece * count + b"1]}")
    reseal(run)
    code, last, mebibytes = peak("verify", run, "--accuracy", "--archive=dogs-vs-cats.zip", directory=place)
    assert code == 65
    assert f"{RUN_ID}/split.json: not that of a run" in last
    assert mebibytes < 400


def raw_zip(members: dict[str, tuple[bytes, int, int]]) -> bytes:
    """A zip of members, name → (deflated data, inflated size, CRC-32), without inflating anything."""
    data, directory = b"", b""
    for name, (deflated, size, crc) in members.items():
        fields = struct.pack("<5H3L2H", 20, 0, 8, 0, 0, crc, len(deflated), size, len(name), 0)
        directory += struct.pack("<4sH", b"PK\1\2", 20) + fields
        directory += struct.pack("<3H2L", 0, 0, 0, 0, len(data)) + name.encode()
        data += struct.pack("<4s", b"PK\3\4") + fields + name.encode() + deflated
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(members), len(members), len(directory), len(data), 0)
    return data + directory + end


def zeros(mebibytes: int) -> tuple[bytes, int]:
    """A deflated stream of zeros, made of one piece again and again, and its size."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = deflater.compress(bytes(1 << 20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    piece = deflater.compress(bytes(1 << 20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return start + piece * (mebibytes - 1) + deflater.flush(zlib.Z_FINISH), mebibytes << 20


def deflated(data: bytes) -> tuple[bytes, int, int]:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush(), len(data), zlib.crc32(data)


def parts() -> tuple[bytes, bytes]:
    """config.json and model.weights.h5 of a sound model."""
    with zipfile.ZipFile(GOLDEN / "runs" / RUN_ID / "model.keras") as opened:
        return opened.read("config.json"), opened.read("model.weights.h5")


def stored(path: Path, config: bytes, weights: bytes, **others: bytes) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in {"config.json": config, "model.weights.h5": weights, **others}.items():
            opened.writestr(name, data)


def with_weights(change: Any) -> bytes:
    """The sound model's weights after `change`, a function of the open file."""
    buffer = io.BytesIO(parts()[1])
    with h5py.File(buffer, "a") as file:
        change(file)
    return buffer.getvalue()


def _sparse(file: Any) -> None:
    file.create_dataset("huge", (1 << 30,), "f4")


def _compressed(file: Any) -> None:
    file.create_dataset("huge", data=np.zeros(1 << 20, "f4"), compression="gzip", compression_opts=9)


def _external(file: Any) -> None:
    file.create_dataset("huge", (16,), "u1", external=[("/proc/self/environ", 0, 16)])


def _soft_link(file: Any) -> None:
    file["again"] = h5py.SoftLink("/layers")


def _outer_link(file: Any) -> None:
    file["again"] = h5py.ExternalLink("/etc/passwd", "/")


def _circle(file: Any) -> None:
    file["layers/circle"] = file["layers"]


def _shared(file: Any) -> None:
    file.create_dataset("a", data=np.ones(1 << 12, "f4"))
    for number in range(200):
        file[f"b{number}"] = file["a"]


def _texts(file: Any) -> None:
    file.create_dataset("texts", data=["x"], dtype=h5py.string_dtype())


def write_bomb(kind: str, path: Path) -> None:
    config, weights = parts()
    match kind:
        case "4 GiB of weights in 4 MB":
            data, size = zeros(4095)
            path.write_bytes(raw_zip({"config.json": deflated(config), "model.weights.h5": (data, size, 0)}))
        case "1 GiB of config":
            data, size = zeros(1024)
            path.write_bytes(raw_zip({"config.json": (data, size, 0), "model.weights.h5": deflated(weights)}))
        case "more than its directory says":
            data, size = zeros(1024)
            path.write_bytes(raw_zip({"config.json": deflated(config), "model.weights.h5": (data, len(weights), 0)}))
        case "a nested config":
            stored(path, b"[" * DEEP, weights)
        case "a config of nested objects":
            stored(path, b'{"a":' * 500 + b"1" + b"}" * 500, weights)
        case "an infinite config":
            stored(path, config.replace(b"48", b"1e999"), weights)
        case "a thousand members":
            stored(path, config, weights, **{f"assets/{number}": b"" for number in range(1000)})
        case "a member twice":
            path.write_bytes(raw_zip({"config.json": deflated(config), "c0nfig.json": deflated(config)}))
            path.write_bytes(path.read_bytes().replace(b"c0nfig", b"config"))
        case "no weights":
            with zipfile.ZipFile(path, "w") as opened:
                opened.writestr("config.json", config)
        case "a huge layer":
            stored(path, config.replace(b'"units": 16', b'"units": 2000000000'), weights)
        case "a directory that is claimed":
            stored(path, config, weights)
            claimed = bytearray(path.read_bytes())
            claimed[-10:-6] = (1 << 30).to_bytes(4, "little")
            path.write_bytes(claimed)
        case _:
            changes = {
                "arrays that are only claimed": _sparse, "compressed arrays": _compressed, "texts": _texts,
                "arrays elsewhere": _external, "a link": _soft_link, "a link to a file": _outer_link,
                "a circle": _circle, "one array often": _shared,
            }  # fmt: skip
            stored(path, config, with_weights(changes[kind]))


BOMBS = [
    "4 GiB of weights in 4 MB", "1 GiB of config", "more than its directory says", "a nested config",
    "a config of nested objects", "an infinite config", "a thousand members", "a member twice", "no weights",
    "a directory that is claimed", "arrays that are only claimed", "compressed arrays", "arrays elsewhere", "a link",
    "a link to a file", "a circle", "one array often", "texts",
]  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_model_that_is_a_bomb_ends_before_keras_opens_it(kind: str, tmp_path: Path) -> None:
    write_bomb(kind, tmp_path / "x.keras")
    assert (tmp_path / "x.keras").stat().st_size < 6 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = catsdogs("predict", f"--model={tmp_path / 'x.keras'}", GOLDEN / "dogs-vs-cats.zip")
    assert ended.code == 65
    [line] = ended.err.splitlines()
    assert line.startswith(f"catsdogs: {tmp_path / 'x.keras'}: no model that can be used: ")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_bomb_in_a_published_run_and_on_the_volume(on_volume: Path) -> None:
    shutil.copytree(GOLDEN / "runs", on_volume / "forged")
    run = on_volume / "forged" / RUN_ID
    write_bomb("4 GiB of weights in 4 MB", run / "model.keras")
    reseal(run)
    code, last, mebibytes = peak("verify", run, "--accuracy", "--archive=dogs-vs-cats.zip", directory=on_volume)
    assert code == 65
    assert f"{RUN_ID}/model.keras: no model that can be used: its members inflate to 4,293," in last
    assert mebibytes < 300
    directory = on_volume / "volume/work" / RUN_ID / "artifacts"
    shutil.copy(run / "model.keras", directory)
    forge_record(directory, json.loads((directory / "artifacts.json").read_bytes()))
    code, last, mebibytes = peak("publish", *OPTIONS, directory=on_volume)
    assert code == 74
    assert "artifacts/model.keras: damaged; remove " in last
    assert mebibytes < 300


@pytest.mark.slow
def test_layer_that_needs_more_weights_than_there_are_is_never_built(tmp_path: Path) -> None:
    """With TensorFlow, in a process of its own."""
    write_bomb("a huge layer", tmp_path / "x.keras")
    code, last, mebibytes = peak("predict", "--model=x.keras", GOLDEN / "dogs-vs-cats.zip", directory=tmp_path)
    assert code == 65
    assert "x.keras: no model that can be used: " in last
    assert mebibytes < 900
