"""Secrets are in the environment, and nowhere else: not in logs, artifacts, messages, arguments or on the volume."""

import re
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.proxy import Fault, Proxy
from tests.faults.running import OPTIONS, RUN_ID, SMALL, Job, ended
from tests.published import objects
from tests.servers import S3Server

SOON = "--storage-timeout=1s"
PASSWORD, SIGNATURE, TOKEN = "hunter2-pass-word", "5ign4ture" * 7, "t0ken-of-a-session"
PRESIGNED = (
    "bucket.s3.amazonaws.com/dogs-vs-cats.zip?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE"
    f"&X-Amz-Date=20261124T000000Z&X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Signature={SIGNATURE}"
)


def check_silent(job: Job, *hidden: str, beside: Path | None = None) -> None:
    """None of it was said, or written beside the volume and the output."""
    for secret in hidden:
        assert secret not in job.stdout
        assert secret not in job.stderr
        for path in beside.rglob("*") if beside else ():
            assert secret not in str(path)
            assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_a_whole_run_gives_no_secret_away(
    undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Looked for in what it says, on the volume, in the bucket, and in the arguments of its processes all the while."""
    arguments = undisturbed.arguments(bucket, tmp_path / "volume", "--checkpoint-to=bucket")
    seen = set()
    with Job("run", *arguments, env=seaweedfs.environment, directory=tmp_path) as job:
        while job.process.poll() is None:
            seen |= command_lines_of_group(job.pid)
            time.sleep(0.05)
        assert job.wait() == 0, job.stderr
    assert seen
    assert not any(seaweedfs.secret_key.encode() in line for line in seen)
    check_silent(job, seaweedfs.secret_key, beside=tmp_path)
    for name, data in objects(seaweedfs, bucket, f"runs/{RUN_ID}/").items():
        assert seaweedfs.secret_key.encode() not in data, name
        assert seaweedfs.access_key.encode() not in data, name


def command_lines_of_group(group: int) -> set[bytes]:
    lines = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if int((directory / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                lines.add((directory / "cmdline").read_bytes())
        except OSError:
            continue
    return lines


@pytest.mark.parametrize("scheme", ["https", "http", "HTTPS"])
@pytest.mark.parametrize("option", ["--archive", "--output"])
def test_presigned_address_is_refused_without_its_signature(
    option: str, scheme: str, seaweedfs: S3Server, tmp_path: Path
) -> None:
    others = {"--archive": "--output", "--output": "--archive"}
    arguments = (f"{option}={scheme}://{PRESIGNED}", f"{others[option]}=s3://bucket/x.zip")
    code, job = ended("run", *arguments, *SMALL, env=seaweedfs.environment, directory=tmp_path)
    assert code == 2
    assert "Traceback" not in job.stderr
    assert option in job.stderr
    check_silent(job, SIGNATURE, "AKIAIOSFODNN7EXAMPLE", beside=tmp_path)


@pytest.mark.parametrize("variable", ["CATSDOGS_ARCHIVE", "CATSDOGS_OUTPUT"])
def test_presigned_address_from_the_environment(variable: str, seaweedfs: S3Server, tmp_path: Path) -> None:
    variables = {
        "CATSDOGS_ARCHIVE": "s3://bucket/x.zip", "CATSDOGS_OUTPUT": "s3://bucket/runs", variable: f"https://{PRESIGNED}"
    }  # fmt: skip
    code, job = ended("run", *SMALL, env=seaweedfs.environment | variables, directory=tmp_path)
    assert code == 2
    check_silent(job, SIGNATURE, "AKIAIOSFODNN7EXAMPLE", beside=tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("s3://BUCKET/dogs-vs-cats.zip?X-Amz-Signature=", id="s3 address"),
        pytest.param(
            "bucket.s3.amazonaws.com/dogs-vs-cats.zip?X-Amz-Signature=", id="without its https",
        ),
    ],
)  # fmt: skip
def test_signature_in_another_address(address: str, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    """It is part of a key or a file's name here, and nothing is there."""
    where = (f"--archive={address.replace('BUCKET', bucket)}{SIGNATURE}", f"--output=s3://{bucket}/runs")
    code, job = ended("run", *where, "--volume=volume", *OPTIONS, env=seaweedfs.environment, directory=tmp_path)
    assert code == 65
    check_silent(job, SIGNATURE)


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        pytest.param("http://user:{password}@127.0.0.1:9", 69, id="nobody listens"),
        pytest.param("http://user:{password}@{host}", None, id="a server listens"),
        pytest.param("ftp://user:{password}@127.0.0.1", None, id="no such scheme"),
        pytest.param("http://user:{password}@127.0.0.1:port", None, id="no such port"),
        pytest.param(
            "user:{password}@nonsense", 78, id="no address",
        ),
        pytest.param("http://127.0.0.1:9/?token={password}", None, id="in the query"),
    ],
)  # fmt: skip
def test_password_in_the_endpoint(
    endpoint: str, code: int | None, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    host = seaweedfs.endpoint.removeprefix("http://")
    env = {**seaweedfs.environment, "AWS_ENDPOINT_URL_S3": endpoint.format(password=PASSWORD, host=host)}
    arguments = undisturbed.arguments(bucket, tmp_path / "volume", SOON)
    ended_with, job = ended("prepare", *arguments, env=env, directory=tmp_path)
    assert ended_with == code or (code is None and ended_with in (0, 69, 78)), job.stderr
    check_silent(job, PASSWORD, beside=tmp_path)


def test_password_of_an_http_proxy(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy"), f"http://user:{PASSWORD}@127.0.0.1:9")
    arguments = undisturbed.arguments(bucket, tmp_path / "volume", SOON)
    code, job = ended("prepare", *arguments, env=seaweedfs.environment | proxies, directory=tmp_path)
    assert code == 69
    job.said()
    check_silent(job, PASSWORD, beside=tmp_path)


@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch", "InternalError"])
def test_storage_that_answers_with_what_it_was_sent(
    code: str, undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path
) -> None:
    """S3's answer to a wrong signature repeats the request's headers: only its message is shown."""
    status = 500 if code == "InternalError" else 403
    with Proxy(seaweedfs, Fault("error", count=1000, status=status, code=code)) as proxy:
        env = {**proxy.environment, "AWS_SESSION_TOKEN": TOKEN}
        arguments = undisturbed.arguments(bucket, tmp_path / "volume", SOON)
        ended_with, job = ended("prepare", *arguments, env=env, directory=tmp_path)
    assert ended_with == (69 if status == 500 else 77)
    check_silent(job, seaweedfs.secret_key, TOKEN, beside=tmp_path)
    assert not re.search("Signature=[0-9a-f]{64}", job.stderr)


def test_credentials_in_a_file(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    """Also a file that is broken is not shown, in part or whole."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for text in (f"[default]\naws_secret_access_key {PASSWORD}\n", f"{PASSWORD}\n[default]\n"):
        (outside / "credentials").write_text(text)
        env = {
            **{name: value for name, value in seaweedfs.environment.items() if "KEY" not in name},
            "AWS_SHARED_CREDENTIALS_FILE": str(outside / "credentials"),
        }
        arguments = undisturbed.arguments(bucket, tmp_path / "volume")
        code, job = ended("prepare", *arguments, env=env, directory=tmp_path / "work")
        assert code in (77, 78), job.stderr
        check_silent(job, PASSWORD, beside=tmp_path / "work")


def test_a_crash_shows_no_secret(undisturbed: Undisturbed, seaweedfs: S3Server, bucket: str, tmp_path: Path) -> None:
    """A bug's traceback has lines of code, not the values in them."""
    (tmp_path / "sitecustomize.py").write_text(
        "import botocore.auth\n"
        "def broken(self, request):\n"
        "    raise RuntimeError('broken by the test')\n"
        "botocore.auth.S3SigV4Auth.add_auth = broken\n"
    )
    env = seaweedfs.environment | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).resolve().parents[2]}/job"}
    arguments = undisturbed.arguments(bucket, tmp_path / "volume")
    code, job = ended("prepare", *arguments, env=env, directory=tmp_path / "work")
    assert (code, "broken by the test" in job.stderr) == (1, True), job.stderr
    check_silent(job, seaweedfs.secret_key, beside=tmp_path / "work")
