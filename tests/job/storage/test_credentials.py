"""Credentials that are replaced while the job runs, and credentials with characters that do not belong there."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from catsdogs.runtime.errors import ConfigError, PermissionDenied
from catsdogs.storage.address import open_store
from catsdogs.storage.store import StorageOptions, Store
from tests.conftest import Catsdogs
from tests.faults.proxy import Answer, Fault, Proxy, _Handler
from tests.job.storage.test_broker import started
from tests.servers import S3Server
from tests.workers import addresses, options


class Gate(Proxy):
    """A proxy that refuses access keys, by their name, with `status` and `code`."""

    def __init__(self, server: S3Server, *plan: Fault, status: int = 403, code: str = "InvalidAccessKeyId"):
        super().__init__(server, *plan)
        self.status, self.code = status, code
        self.used: set[str] = set()
        self.refused: set[str] = set()
        self.refusals = 0

    def rotate(self) -> None:
        """From now on refuse every key that was used so far."""
        self.refused |= self.used

    def serve(self, handler: _Handler, body: bytes) -> None:
        credential = re.search(r"Credential=([^/]+)/", handler.headers.get("Authorization", ""))
        assert credential
        self.used.add(credential[1])
        if credential[1] not in self.refused:
            super().serve(handler, body)
            return
        self.refusals += 1
        text = f"<Error><Code>{self.code}</Code><Message>by plan</Message></Error>".encode()
        handler.answer(Answer(self.status, [("Content-Type", "application/xml")], text), [])


class Source:
    """Credentials of one link of the AWS chain: `variables` lead to them, `rotate` replaces them."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.rotations = 0
        names = ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")
        self.variables = {name: str(directory / "absent") for name in names}
        self.rotate()

    def rotate(self) -> None:
        self.rotations += 1
        self._write(f"KEY{self.rotations}")

    def _write(self, key: str) -> None:
        raise NotImplementedError


class CredentialsFile(Source):
    def _write(self, key: str) -> None:
        path = self.directory / "credentials"
        new = path.with_suffix(".new")
        new.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")
        new.replace(path)
        self.variables["AWS_SHARED_CREDENTIALS_FILE"] = str(path)


class CredentialProcess(Source):
    """Counts how often it is asked, in the file `asked`."""

    def _write(self, key: str, **more: str) -> None:
        program = self.directory / "process.py"
        answer = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": "secret", **more}
        program.write_text(f"open('{self.directory}/asked', 'a').write('x')\nprint({json.dumps(answer)!r})\n")
        config = self.directory / "config"
        config.write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
        self.variables["AWS_CONFIG_FILE"] = str(config)

    @property
    def asked(self) -> int:
        return (self.directory / "asked").stat().st_size


class ExpiringProcess(CredentialProcess):
    """Its answer is good for years, as it says, so that botocore does not ask again by itself."""

    def _write(self, key: str, **more: str) -> None:
        super()._write(key, Expiration="2099-01-01T00:00:00Z", SessionToken="token")


class WebIdentity(Source):
    """Each answer of the role's service has another key."""

    def _write(self, key: str) -> None:
        token = self.directory / "token"
        token.write_text(key)
        self.variables |= {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/trainer",
        }  # fmt: skip


SOURCES = [CredentialsFile, CredentialProcess, ExpiringProcess, WebIdentity]


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def bucket(moto_s3: S3Server) -> str:
    name = f"credentials-{os.urandom(6).hex()}"
    moto_s3.client().create_bucket(Bucket=name)
    return name


def variables(gate: Proxy, source: Source) -> dict[str, str]:
    """What leads the AWS chain to the gate, with the source's credentials."""
    inherited = {name: value for name, value in gate.environment.items() if "ACCESS_KEY" not in name}
    return {**inherited, "AWS_ENDPOINT_URL_STS": gate.server.endpoint, **source.variables}


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Proxy, Source], None]:
    def lead(gate: Proxy, source: Source) -> None:
        for name, value in variables(gate, source).items():
            monkeypatch.setenv(name, value)

    return lead


Use = Callable[[Proxy, Source], None]

OPERATIONS: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("new", b"data"),
    "put_if": lambda store: store.put_if("new", b"data", None),
    "stream": lambda store: b"".join(store.stream("key", 0, 4, '"8d777f385d3dfec8815d20f7496026dc"')),
    "list": lambda store: [*store.list()],
    "stat": lambda store: store.stat("key"),
    "delete": lambda store: store.delete("key"),
}
REFUSALS = [
    (403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (403, "AccessDenied"), (401, "Unauthorized"),
    (400, "ExpiredToken"), (400, "InvalidToken"), (400, "TokenRefreshRequired"),
]  # fmt: skip


def opened(bucket: str) -> tuple[Store, list[str]]:
    """A store, and the addresses of its reports that it goes on with other credentials."""
    reports: list[str] = []
    return open_store(f"s3://{bucket}", StorageOptions(timeout=5, on_renewal=reports.append)), reports


@pytest.mark.parametrize(
    ("operation", "status", "code"),
    [
        # Each operation, and each answer.
        pytest.param(
            operation, *refusal, marks=() if operation == "put" or refusal == REFUSALS[0] else pytest.mark.slow
        )
        for operation in OPERATIONS
        for refusal in REFUSALS
    ],
)
def test_rotated_credentials_are_read_again(
    operation: str, status: int, code: str, moto_s3: S3Server, bucket: str, tmp_path: Path, use: Use
) -> None:
    source = CredentialsFile(tmp_path)
    with Gate(moto_s3, status=status, code=code) as gate:
        use(gate, source)
        store, reports = opened(bucket)
        store.put("key", b"data")
        gate.rotate()
        source.rotate()
        OPERATIONS[operation](store)
        OPERATIONS[operation](store)
    assert reports == [f"s3://{bucket}/"]
    # A HEAD that is refused with 400 does not say why. botocore asks for the bucket's region, and then we list it.
    assert gate.refusals == (3 if (operation, status) == ("stat", 400) else 1)
    assert gate.used == {"KEY1", "KEY2"}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_that_rotates(
    kind: type[Source], moto_s3: S3Server, bucket: str, tmp_path: Path, use: Use
) -> None:
    source = kind(tmp_path)
    with Gate(moto_s3, code="ExpiredToken") as gate:
        use(gate, source)
        store, reports = opened(bucket)
        for round in range(1, 4):
            store.put("key", b"data")
            assert len(reports) == round - 1
            gate.rotate()
            source.rotate()
        assert store.stat("key").size == 4
    assert len(reports) == 3
    assert gate.refusals == 3


def test_the_same_credentials_are_refused_for_good(moto_s3: S3Server, bucket: str, tmp_path: Path, use: Use) -> None:
    source = CredentialProcess(tmp_path)
    with Gate(moto_s3) as gate:
        use(gate, source)
        store, reports = opened(bucket)
        store.put("key", b"data")
        gate.rotate()
        with pytest.raises(PermissionDenied, match=rf"^s3://{bucket}/key: storage refuses \(InvalidAccessKeyId"):
            store.put("key", b"data")
    assert (reports, gate.refusals, source.asked) == ([], 1, 2)


def test_other_credentials_that_are_refused_too(moto_s3: S3Server, bucket: str, tmp_path: Path, use: Use) -> None:
    source = CredentialsFile(tmp_path)
    with Gate(moto_s3) as gate:
        use(gate, source)
        store, reports = opened(bucket)
        store.put("key", b"data")
        gate.rotate()
        gate.refused |= {"KEY2"}
        source.rotate()
        with pytest.raises(PermissionDenied, match="InvalidAccessKeyId"):
            store.put("key", b"data")
        assert (reports, gate.refusals) == ([], 2)


@pytest.mark.parametrize("state", ["absent", "nonsense"])
def test_credentials_that_are_gone_when_they_are_read_again(
    state: str, moto_s3: S3Server, bucket: str, tmp_path: Path, use: Use
) -> None:
    """What storage said first is reported, as that came first."""
    source = CredentialsFile(tmp_path)
    with Gate(moto_s3) as gate:
        use(gate, source)
        store, reports = opened(bucket)
        store.put("key", b"data")
        gate.rotate()
        path = tmp_path / "credentials"
        path.unlink()
        if state == "nonsense":
            path.write_text("[[[\n")
        with pytest.raises(PermissionDenied, match="InvalidAccessKeyId"):
            store.put("key", b"data")
    assert reports == []


def test_threads_and_inner_stores_share_what_was_read_again(
    moto_s3: S3Server, bucket: str, tmp_path: Path, use: Use
) -> None:
    source, count = CredentialProcess(tmp_path), 12
    with Gate(moto_s3) as gate:
        use(gate, source)
        store, reports = opened(bucket)
        inner = [store.within(f"inner{number}") for number in range(count)]
        store.put("key", b"data")
        gate.rotate()
        source.rotate()
        together = threading.Barrier(count)

        def work(own: Store) -> None:
            together.wait()
            for number in range(5):
                own.put(f"{number}", b"data")

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(work, inner))
        assert len(reports) == 1
        assert source.asked == 2
        refusals = gate.refusals
        assert 1 <= refusals <= count
        store.within("later").put("key", b"data")
        assert gate.refusals == refusals


def test_the_broker_reports_it_where_it_is_waited_for(moto_s3: S3Server, bucket: str, tmp_path: Path, use: Use) -> None:
    source = CredentialsFile(tmp_path)
    with Gate(moto_s3) as gate:
        use(gate, source)
        with started(bucket) as (connection, _):
            reports: list[str] = []
            store = connection.store(f"s3://{bucket}/runs/mine", StorageOptions(on_renewal=reports.append))
            store.put("key", b"data")
            gate.rotate()
            source.rotate()
            assert store.stat("key").size == 4
            assert b"".join(store.stream("key", 0, 4, store.stat("key").etag)) == b"data"
    assert reports == [f"s3://{bucket}/runs/mine/"]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_job_whose_credentials_are_rotated_goes_on(
    workers: int, catsdogs: Catsdogs, moto_s3: S3Server, bucket: str, sample_archive: Path, tmp_path: Path
) -> None:
    """While the archive is read; with several workers, the storage process holds the credentials."""
    source = CredentialsFile(tmp_path)

    def rotate() -> None:
        gate.rotate()
        source.rotate()

    moto_s3.client().upload_file(str(sample_archive), bucket, "archive.zip")
    with Gate(moto_s3, Fault("call", "GET", "archive.zip", first=3, then=rotate)) as gate:
        listed = addresses(workers)

        def prepare(index: int) -> subprocess.CompletedProcess[str]:
            return catsdogs(
                "prepare", f"--archive=s3://{bucket}/archive.zip", f"--output=s3://{bucket}/runs", "--run-id=r",
                "--train-per-class=4", "--validation-per-class=2", "--test-per-class=2", "--batch-size=4",
                f"--volume={tmp_path / 'volume'}",
                *(options(index, 2, listed, tmp_path / "key") if workers == 2 else ()),
                env=variables(gate, source),
            )  # fmt: skip

        with ThreadPoolExecutor(workers) as pool:
            process, *others = pool.map(prepare, range(workers))
    assert (process.returncode, process.stderr) == (0, "")
    assert [(other.returncode, other.stderr) for other in others] == [(0, "")] * (workers - 1)
    assert gate.used == {"KEY1", "KEY2"}
    # Once for the archive's store, and once for the output's, if that was used before.
    said = re.findall(r"storage refused the credentials for (\S+); reading them again found others", process.stdout)
    assert said[0] == f"s3://{bucket}/"
    assert said[1:] in ([], [f"s3://{bucket}/runs/r/"])


class Names(NamedTuple):
    """Where a link of the AWS chain has the three credentials."""

    variable: str
    in_file: str
    in_answer: str


CREDENTIALS = {
    "access key": Names("AWS_ACCESS_KEY_ID", "aws_access_key_id", "AccessKeyId"),
    "secret key": Names("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key", "SecretAccessKey"),
    "token": Names("AWS_SESSION_TOKEN", "aws_session_token", "SessionToken"),
}
FAULTS = {
    "{}\n": "ends with a newline",
    "{}\r\n": "ends with a newline",
    "{} ": "ends with a space",
    "{}\t": "ends with a tab",
    "{}\u00a0": "ends with an unprintable character",
    " {}": "begins with a space",
    "\n{}": "begins with a newline",
    "\ufeff{}": "contains an unprintable character",
    "{0}\n{0}": "contains a newline",
    "{0}\x1b{0}": "contains an unprintable character",
}
VALUE = "AKIAIOSFODNN7EXAMPLE"


def from_variables(values: dict[str, str], directory: Path) -> dict[str, str]:
    return {CREDENTIALS[name].variable: value for name, value in values.items()}


def from_process(values: dict[str, str], directory: Path) -> dict[str, str]:
    answer = {"Version": 1, **{CREDENTIALS[name].in_answer: value for name, value in values.items()}}
    (directory / "answer.json").write_text(json.dumps(answer))
    (directory / "config").write_text(f"[default]\ncredential_process = cat {directory}/answer.json\n")
    return {"AWS_CONFIG_FILE": str(directory / "config")}


def from_role(values: dict[str, str], directory: Path) -> dict[str, str]:
    """They are not those of the requests, but of the one that asks for these."""
    variables = from_process(values, directory)
    with (directory / "config").open("a") as file:
        file.write("[profile trainer]\nrole_arn = arn:aws:iam::123456789012:role/trainer\nsource_profile = default\n")
    return {**variables, "AWS_PROFILE": "trainer"}


WAYS = {"variables": from_variables, "process": from_process, "role": from_role}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["newline", "every"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_character_that_does_not_belong_there_is_named_at_once(
    name: str, way: str, every: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    """Nothing is sent or printed of the credentials, and nothing is waited for: there is no server."""
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, os.devnull)
    for service in ("S3", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    reports: list[tuple[str, float]] = []
    in_header = {"{}\u00e9": "contains a character that is not ASCII"} if name != "secret key" else {}
    for pattern, fault in (FAULTS | in_header).items():
        if not every and fault != "ends with a newline":
            continue
        with subtests.test(pattern):
            values = dict.fromkeys(CREDENTIALS, VALUE) | {name: pattern.format(VALUE)}
            for variable, value in WAYS[way](values, tmp_path).items():
                monkeypatch.setenv(variable, value)
            store = open_store("s3://bucket", StorageOptions(on_retry=lambda *report: reports.append(report)))
            with pytest.raises(ConfigError) as caught:
                store.stat("key")
            names = CREDENTIALS[name]
            origin = {"process": "from custom-process", "role": "of the source of a role"}.get(way)
            shown = f"{names.in_file} ({origin})" if origin else names.variable
            assert str(caught.value).startswith(f"{shown} {fault}; write it without")
            assert VALUE not in str(caught.value)
            assert reports == []


def test_credentials_of_any_other_characters_are_used(
    moto_s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of storages other than AWS may be any text."""
    for name, value in moto_s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "trainer of cats@example.org")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "pass w\u00f6rd, with + / = \u732b")
    store = open_store(f"s3://{bucket}")
    store.put("key", b"data")
    assert store.stat("key").size == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_with_a_newline_in_a_secret_ends_at_once(workers: int, catsdogs: Catsdogs, tmp_path: Path) -> None:
    """As `echo secret | base64` makes it: one line, 78, without the time that an endpoint that is away is given."""
    several = options(0, 2, addresses(2), tmp_path / "key") if workers == 2 else ()
    env = {
        "AWS_ACCESS_KEY_ID": VALUE, "AWS_SECRET_ACCESS_KEY": f"{VALUE}/secret\n", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    }  # fmt: skip
    process = catsdogs(
        "prepare", "--archive=s3://bucket/archive.zip", "--output=s3://bucket/runs", "--run-id=r",
        f"--volume={tmp_path / 'volume'}", *several, env=env,
    )  # fmt: skip
    assert process.returncode == 78
    [line] = process.stderr.splitlines()
    assert line.startswith("catsdogs: AWS_SECRET_ACCESS_KEY ends with a newline; write it without")
    assert VALUE not in process.stdout + process.stderr
