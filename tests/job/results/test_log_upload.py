"""The copy of a running job's log in the store."""

import contextlib
import time
from pathlib import Path

import pytest

from catsdogs.results import manifest, names
from catsdogs.results.log_upload import LogUpload
from catsdogs.runtime.errors import BadData, JobError, PermissionDenied, Unavailable
from catsdogs.storage.folder import Folder
from catsdogs.storage.store import Source, Store, read
from tests.job.results.conftest import published, running, written


def reads_soon(output: Store, data: bytes) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        # It may be replaced between the look at it and the read.
        with contextlib.suppress(BadData):
            if read(output, names.LOG) == data:
                return True
        time.sleep(0.01)
    return False


def append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)


class Failing(Folder):
    """Fails with `error` while it has one."""

    error: JobError | None = None
    failures = 0

    def put_if(self, key: str, source: Source, etag: str | None) -> str | None:
        if self.error is not None:
            self.failures += 1
            raise self.error
        return super().put_if(key, source, etag)


def test_the_log_is_uploaded_at_once_and_again_until_it_is_closed(output: Store, tmp_path: Path) -> None:
    log = written(tmp_path / "log.jsonl", b"1\n")
    upload = LogUpload(output, log, every=0.02)
    assert reads_soon(output, b"1\n")
    append(log, b"2\n")
    assert reads_soon(output, b"1\n2\n")
    upload.close()
    assert running("log") == []


def test_a_store_that_refuses_is_found_at_once(tmp_path: Path) -> None:
    output = Failing(tmp_path / "output")
    output.error = PermissionDenied("no")
    with pytest.raises(PermissionDenied):
        LogUpload(output, written(tmp_path / "log.jsonl", b""))
    assert running("log") == []


def test_a_failure_in_between_is_made_good(tmp_path: Path) -> None:
    output, log = Failing(tmp_path / "output"), written(tmp_path / "log.jsonl", b"1\n")
    upload = LogUpload(output, log, every=0.01)
    output.error = Unavailable("not now")
    append(log, b"2\n")
    while output.failures < 2:
        time.sleep(0.01)
    output.error = None
    assert reads_soon(output, b"1\n2\n")
    upload.close()


def test_the_log_of_a_published_run_stands(output: Store, artifacts: dict[str, Path], tmp_path: Path) -> None:
    published(output, artifacts)
    upload = LogUpload(output, written(tmp_path / "log.jsonl", b"another process's"), every=0.01)
    time.sleep(0.1)
    upload.close()
    assert manifest.verify(output) == sorted(artifacts)
