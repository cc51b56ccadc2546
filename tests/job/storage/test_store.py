"""The life of an object in every kind of store; then the failures of each kind."""

import functools
import json
import os
import re
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from catsdogs.runtime.errors import BadData, ConfigError, JobError, NotFound, PermissionDenied, Unavailable, VolumeError
from catsdogs.storage.address import open_store
from catsdogs.storage.folder import Folder
from catsdogs.storage.s3 import Bucket
from catsdogs.storage.s3_client import SharedClient
from catsdogs.storage.store import CHUNK, StorageOptions, Store, read
from tests.servers import S3Server

Use = Callable[[Store], object]
EVERY_USE: dict[str, Use] = {
    "stat": lambda store: store.stat("key"),
    "stream": lambda store: list(store.stream("key", 0, 1, '"etag"')),
    "list": lambda store: list(store.list()),
    "put": lambda store: put(store, "key", b"data"),
    "put_if_absent": lambda store: store.put_if("key", b"data", None),
    "delete": lambda store: store.delete("key"),
}
IMPATIENT = StorageOptions(timeout=0)
READING = ("stat", "stream")
WRITING = ("put", "put_if_absent", "delete")


def each_fails(
    subtests: pytest.Subtests, store: Store, kind: type[JobError], match: str, uses: Iterable[str] = EVERY_USE
) -> None:
    for name in uses:
        with subtests.test(use=name):
            with pytest.raises(kind, match=match) as caught:
                EVERY_USE[name](store)
            assert "\n" not in str(caught.value)


def put(store: Store, key: str, data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        store.put(key, Path(file.name))


def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted(key for key, _ in store.list(prefix))


def part(store: Store, key: str, start: int, stop: int) -> bytes:
    return b"".join(store.stream(key, start, stop, store.stat(key).etag))


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the machine's own AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)


def lead_to(server: S3Server, monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    for name, value in {**server.environment, **changes}.items():
        monkeypatch.setenv(name, value)


@functools.cache
def shared_client_of(server: S3Server) -> SharedClient:
    """A store's own, but one for many tests, as it takes a tenth of a second to make."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        lead_to(server, monkeypatch)
        client = SharedClient("auto")
        assert client.current
        return client


def client_of(server: S3Server) -> Any:
    return shared_client_of(server).current


def opened(address: str, server: S3Server | None) -> Store:
    store = open_store(address)
    if server is not None:
        assert isinstance(store, Bucket)
        store.shared_client = shared_client_of(server)
    return store


@pytest.fixture(params=["folder", "moto_s3", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> S3Server | None:
    """Each kind of store: None is a folder."""
    return None if request.param == "folder" else request.getfixturevalue(request.param)


def new_bucket(server: S3Server) -> str:
    name = f"test-{secrets.token_hex(6)}"
    client_of(server).create_bucket(Bucket=name)
    return name


@functools.cache
def shared_bucket(server: S3Server) -> str:
    """For stores with prefixes of their own: the first put into a new bucket takes SeaweedFS 0.2 s."""
    return new_bucket(server)


@pytest.fixture(params=["root", "prefix"])
def address(request: pytest.FixtureRequest, server: S3Server | None, tmp_path: Path) -> str:
    """Of an empty store."""
    prefixed = request.param == "prefix"
    if server is None:
        root = str(tmp_path / "store")
    else:
        root = f"s3://{shared_bucket(server) if prefixed else new_bucket(server)}"
    return f"{root}/a/{secrets.token_hex(6)}" if prefixed else root


@pytest.fixture
def store(address: str, server: S3Server | None) -> Store:
    return opened(address, server)


class TestEveryStore:
    def test_what_was_put_can_be_read_whole_and_in_parts(self, store: Store) -> None:
        data = secrets.token_bytes(3 * CHUNK + 7)
        put(store, "run/model.keras", data)
        assert store.stat("run/model.keras").size == len(data)
        assert read(store, "run/model.keras") == data
        for start, stop in ((0, 1), (CHUNK - 1, CHUNK + 1), (len(data) - 1, len(data)), (5, 5)):
            assert part(store, "run/model.keras", start, stop) == data[start:stop]

    def test_an_overwritten_object_has_another_etag(self, store: Store) -> None:
        put(store, "key", b"before")
        before = store.stat("key")
        assert store.stat("key") == before
        put(store, "key", b"afterwards")
        assert read(store, "key") == b"afterwards"
        assert store.stat("key").etag != before.etag

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        put(store, "empty", b"")
        assert store.stat("empty").size == 0
        assert read(store, "empty") == b""
        assert keys(store) == ["empty"]

    def test_a_key_may_hold_any_character(self, store: Store) -> None:
        odd = ["Kätzchen/кот.jpg", "a b/c d.jpg", "a+b&c=%41?#'!.jpg", "deep/er/and/deeper"]
        for key in odd:
            put(store, key, key.encode())
        assert keys(store) == odd
        for key in odd:
            assert read(store, key) == key.encode()
            assert store.uri(key).endswith(f"/{key}")
            store.delete(key)
        assert keys(store) == []

    def test_a_listing_has_the_keys_that_start_with_the_prefix_and_what_stat_says(self, store: Store) -> None:
        assert keys(store) == []
        everything = ["a", "a/b", "a/bc", "ab"] if isinstance(store, Bucket) else ["a/b", "a/bc", "ab"]
        for key in everything:
            put(store, key, key.encode())
        assert keys(store) == everything
        assert dict(store.list()) == {key: store.stat(key) for key in everything}
        assert keys(store, "a/") == ["a/b", "a/bc"]
        assert keys(store, "a/bc") == ["a/bc"]
        assert keys(store, "c") == keys(store, "c/d") == []

    def test_a_store_within_has_the_objects_under_its_name(self, store: Store) -> None:
        for key in ("a/b", "a/c/d", "ab/c"):
            put(store, key, key.encode())
        within = store.within("a")
        assert keys(within) == ["b", "c/d"]
        assert read(within, "c/d") == b"a/c/d"
        assert within.uri("b") == store.uri("a/b")
        put(within, "e", b"new")
        assert read(store, "a/e") == b"new"

    def test_a_folder_of_objects_is_no_object(self, store: Store) -> None:
        put(store, "folder/object", b"")
        with pytest.raises(NotFound):
            store.stat("folder")

    def test_a_deleted_object_is_gone_and_deleting_it_again_is_fine(self, store: Store) -> None:
        put(store, "kept", b"1")
        put(store, "deleted", b"2")
        for _ in range(2):
            store.delete("deleted")
            assert keys(store) == ["kept"]

    def test_put_if_absent_changes_no_existing_object(self, store: Store) -> None:
        assert store.put_if("run/run.json", b"first", None)
        assert not store.put_if("run/run.json", b"second", None)
        assert read(store, "run/run.json") == b"first"
        assert keys(store) == ["run/run.json"]
        store.delete("run/run.json")
        assert store.put_if("run/run.json", b"third", None)

    # With an address of one kind only, as SeaweedFS lets the losers wait for seconds.
    @pytest.mark.parametrize("address", ["root"], indirect=True)
    def test_of_sixteen_at_once_one_puts_what_is_absent(self, store: Store) -> None:
        together = threading.Barrier(16)

        def contend(number: int) -> bool:
            together.wait()
            return store.put_if("key", b"%d" % number, None) is not None

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(contend, range(16)))
        assert won.count(True) == 1
        assert read(store, "key") == b"%d" % won.index(True)
        assert keys(store) == ["key"]

    @pytest.mark.parametrize("now", [b"0123456789 and more", b"01"], ids=["longer", "shorter"])
    def test_an_object_that_changed_is_not_read_on(self, store: Store, now: bytes) -> None:
        put(store, "key", b"0123456789")
        stat = store.stat("key")
        put(store, "key", now)
        with pytest.raises(BadData, match=f"^{re.escape(store.uri('key'))}: changed"):
            list(store.stream("key", 5, stat.size, stat.etag))

    def test_a_read_past_the_end_is_no_shorter_read(self, store: Store) -> None:
        put(store, "key", b"0123456789")
        with pytest.raises(BadData, match="changed"):
            part(store, "key", 5, 11)

    def test_a_missing_object_is_named(self, subtests: pytest.Subtests, store: Store) -> None:
        put(store, "key too", b"")
        each_fails(subtests, store, NotFound, f"^{re.escape(store.uri('key'))}: no such", READING)

    def test_a_missing_source_is_the_volumes_fault(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(VolumeError, match="absent"):
            store.put("key", tmp_path / "absent")
        assert keys(store) == []


def test_a_store_keeps_to_its_prefix(address: str, server: S3Server | None) -> None:
    parent, store = opened(address, server), opened(f"{address}/run/", server)
    for key in ("run/inside", "run2/beside"):
        put(parent, key, b"")
    assert keys(store) == ["inside"]
    assert store.uri("inside") == parent.uri("run/inside") == f"{address}/run/inside"
    assert store.stat("inside") == parent.stat("run/inside")


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("s3://b", "s3://b/k"),
        ("s3://b/", "s3://b/k"),
        ("s3://b/p", "s3://b/p/k"),
        ("s3://b/p/q/", "s3://b/p/q/k"),
        ("folder", "folder/k"),
        ("/fol der/", "/fol der/k"),
        (".", "k"),
    ],
)
def test_an_address_is_a_bucket_or_a_folder(uri: str, key: str) -> None:
    store = open_store(uri)
    assert isinstance(store, Bucket if uri.startswith("s3://") else Folder)
    assert store.uri("k") == key


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "http://bucket/key", "gs://bucket", "://"])
def test_any_other_address_is_a_config_error(uri: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(uri)}: .*s3://bucket/key"):
        open_store(uri)


@pytest.fixture
def weed(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """SeaweedFS, and the environment leads to it."""
    lead_to(seaweedfs, monkeypatch)
    return seaweedfs


class TestBucket:
    @pytest.mark.parametrize(
        ("kind", "uses"),
        # SeaweedFS answers a read as if only the object were missing, and creates the bucket for a write.
        [("seaweedfs", ("stat", "list")), ("moto_s3", EVERY_USE)],
    )
    def test_a_missing_bucket_is_named(
        self, subtests: pytest.Subtests, request: pytest.FixtureRequest, kind: str, uses: Iterable[str]
    ) -> None:
        store = opened("s3://absent-bucket/prefix", request.getfixturevalue(kind))
        each_fails(subtests, store, NotFound, "^s3://absent-bucket: no such bucket", uses)

    def test_a_listing_of_many_pages_is_whole(self, weed: S3Server, bucket: str) -> None:
        store = Bucket(bucket, "", IMPATIENT)
        events: Any = store.client.meta.events
        events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 2})
        for number in range(5):
            put(store, f"{number}", b"")
        assert keys(store) == list("01234")

    def test_the_folders_that_a_console_makes_are_no_objects(self, weed: S3Server, bucket: str) -> None:
        for marker in ("run/", "run/checkpoint/"):
            client_of(weed).put_object(Bucket=bucket, Key=marker, Body=b"")
        assert keys(open_store(f"s3://{bucket}/run")) == []

    @pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
    def test_wrong_credentials_are_refused_and_no_secret_is_shown(
        self, subtests: pytest.Subtests, weed: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, wrong: str
    ) -> None:
        monkeypatch.setenv(wrong, "5ec2e7")
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
        match = rf"^s3://{bucket}/(?!.*{secret}).*check the credentials"
        each_fails(subtests, open_store(f"s3://{bucket}"), PermissionDenied, match)

    def test_credentials_that_may_only_read_are_refused_a_write(
        self, subtests: pytest.Subtests, weed: S3Server, bucket: str
    ) -> None:
        store = opened(f"s3://{bucket}", weed)
        put(store, "key", b"before")
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:PutObject", "s3:DeleteObject"],
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        client_of(weed).put_bucket_policy(Bucket=bucket, Policy=policy)
        each_fails(subtests, store, PermissionDenied, f"^s3://{bucket}/key: .*AccessDenied", WRITING)
        assert read(store, "key") == b"before"

    def test_no_credentials_at_all_are_asked_for(
        self, subtests: pytest.Subtests, weed: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        each_fails(subtests, open_store("s3://bucket"), PermissionDenied, "^s3://bucket/.*: .*set AWS_ACCESS_KEY_ID")

    def test_an_endpoint_that_nobody_listens_at_is_unavailable(
        self, subtests: pytest.Subtests, weed: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        match = f"^s3://bucket/.*{endpoint}.*check the endpoint"
        each_fails(subtests, open_store("s3://bucket", IMPATIENT), Unavailable, match)

    @pytest.mark.parametrize(
        ("uri", "changes", "named"),
        [
            ("s3://Bad_Bucket!/p", {}, "Bad_Bucket!"),
            ("s3://bucket", {"AWS_ENDPOINT_URL_S3": "nonsense"}, "nonsense"),
            ("s3://bucket", {"AWS_PROFILE": "nobodys"}, "nobodys"),
        ],
        ids=["bucket name", "endpoint", "profile"],
    )
    def test_settings_that_cannot_be_are_a_config_error(
        self,
        subtests: pytest.Subtests,
        weed: S3Server,
        monkeypatch: pytest.MonkeyPatch,
        uri: str,
        changes: dict[str, str],
        named: str,
    ) -> None:
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        each_fails(subtests, open_store(uri), ConfigError, f"^{uri}/.*: .*{named}.*; check", READING)


class Answer(NamedTuple):
    status: int = 206
    most: int | None = None
    """Bytes after which the connection ends, whatever was announced."""


class FaultyServer(ThreadingHTTPServer):
    """Just enough S3 to serve one object badly: gives its answers in turn, and the last one again and again."""

    def __init__(self, body: bytes, *answers: Answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body = body
        self.answers = list(answers)
        self.asked: list[tuple[str | None, str | None]] = []
        """Range and If-Match of each request."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append((self.headers["Range"], self.headers["If-Match"]))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        data = self.server.body if answer.status == 200 else b""
        if answer.status == 206:
            start, last = map(int, re.findall(r"\d+", self.headers["Range"]))
            data = self.server.body[start : last + 1]
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.send_header("ETag", '"etag"')
        self.end_headers()
        self.wfile.write(data[: answer.most])

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        """Log nothing."""


ServeBadly = Callable[..., FaultyServer]


@pytest.fixture
def serve_badly(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServeBadly]:
    """Starts a FaultyServer and leads to it. No pause before a retry."""
    servers = []

    def start(body: bytes, *answers: Answer) -> FaultyServer:
        servers.append(server := FaultyServer(body, *answers))
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        lead_to(S3Server(endpoint, "key", "secret"), monkeypatch)
        monkeypatch.setattr("catsdogs.storage.s3.random.uniform", lambda low, _: low)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class TestFaultyBucket:
    def test_a_read_that_breaks_off_goes_on_from_there(self, serve_badly: ServeBadly) -> None:
        body = secrets.token_bytes(1_000_000)
        server = serve_badly(body, Answer(most=500_000), Answer(most=0), Answer(most=7), Answer())
        assert b"".join(open_store("s3://bucket").stream("key", 10, 1_000_000, '"etag"')) == body[10:]
        assert server.asked == [(f"bytes={start}-999999", '"etag"') for start in (10, 500_010, 500_010, 500_017)]

    def test_breaks_between_bytes_do_not_add_up(self, serve_badly: ServeBadly, monkeypatch: pytest.MonkeyPatch) -> None:
        """The pauses together are longer than the time without a byte that is allowed."""
        monkeypatch.setattr("catsdogs.storage.s3.random.uniform", lambda *_: 0.05)
        serve_badly(b"cats and dogs", *[Answer(most=0), Answer(most=1)] * 13)
        store = open_store("s3://bucket", StorageOptions(timeout=0.3))
        assert b"".join(store.stream("key", 0, 13, '"etag"')) == b"cats and dogs"

    def test_a_read_that_gives_no_more_bytes_is_given_up(self, serve_badly: ServeBadly) -> None:
        server, waited = serve_badly(b"cats and dogs", Answer(most=4), Answer(most=0)), []
        storage_options = StorageOptions(timeout=0.2, on_retry=lambda reason, left: waited.append((reason, left)))
        with pytest.raises(Unavailable, match=r"^s3://bucket/key: read stopped at byte 4 .*try again later"):
            list(open_store("s3://bucket", storage_options).stream("key", 0, 13, '"etag"'))
        assert len(server.asked) > 2
        # Said once, however often it was tried.
        [(reason, left)] = waited
        assert "read stopped at byte 4" in reason
        assert 0 < left <= 0.2

    def test_an_empty_answer_is_no_success(self, serve_badly: ServeBadly) -> None:
        """Announced as complete: nothing tells that something is missing but the count."""
        serve_badly(b"", Answer())
        with pytest.raises(Unavailable, match=r"read stopped at byte 0 \(connection closed\)"):
            list(open_store("s3://bucket", IMPATIENT).stream("key", 0, 13, '"etag"'))

    def test_a_server_that_knows_no_ranges(self, serve_badly: ServeBadly) -> None:
        serve_badly(b"cats and dogs", Answer(200))
        with pytest.raises(ConfigError, match=r"^s3://bucket/key: storage ignores byte ranges"):
            list(open_store("s3://bucket", IMPATIENT).stream("key", 5, 8, '"etag"'))

    def test_an_object_that_changes_between_two_parts_is_not_read_on(self, serve_badly: ServeBadly) -> None:
        serve_badly(b"cats and dogs", Answer(most=4), Answer(412))
        with pytest.raises(BadData, match=r"^s3://bucket/key: changed"):
            list(open_store("s3://bucket").stream("key", 0, 13, '"etag"'))

    def test_a_status_gives_the_kind_of_failure(self, subtests: pytest.Subtests, serve_badly: ServeBadly) -> None:
        server, store = serve_badly(b"", Answer()), open_store("s3://bucket", IMPATIENT)
        for status, kind in {
            400: ConfigError,
            401: PermissionDenied,
            403: PermissionDenied,
            404: NotFound,
            412: BadData,
            416: BadData,
            429: Unavailable,
            500: Unavailable,
            503: Unavailable,
        }.items():
            server.answers = [Answer(status)]
            with subtests.test(status=status):
                each_fails(subtests, store, kind, "^s3://bucket/key: ", ["stream", "put"])

    @pytest.mark.parametrize("trouble", [Answer(429), Answer(500), Answer(503), Answer(206, most=0)])
    def test_a_short_trouble_goes_unnoticed(self, serve_badly: ServeBadly, trouble: Answer) -> None:
        serve_badly(b"cats", trouble, Answer())
        assert b"".join(open_store("s3://bucket").stream("key", 0, 4, '"etag"')) == b"cats"

    @pytest.mark.parametrize(("then", "won"), [(200, True), (412, False)])
    def test_a_conditional_put_that_met_another_is_tried_again(
        self, serve_badly: ServeBadly, then: int, won: bool
    ) -> None:
        serve_badly(b"", Answer(409), Answer(409), Answer(then))
        assert (open_store("s3://bucket").put_if("key", b"data", None) is not None) is won


class TestFolder:
    def test_a_file_where_the_folder_should_be(self, subtests: pytest.Subtests, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        store = open_store(f"{tmp_path}/file")
        each_fails(subtests, store, NotFound, f"^{tmp_path}/file/key: no such file", READING)
        each_fails(subtests, store, VolumeError, f"^{tmp_path}/file", WRITING)

    def test_writing_leaves_nothing_beside_the_object(self, tmp_path: Path) -> None:
        store = open_store(str(tmp_path))
        put(store, "put", b"")
        for _ in range(2):
            store.put_if("if_absent", b"", None)
        assert sorted(os.listdir(tmp_path)) == ["if_absent", "put"]

    def test_what_is_being_written_is_not_listed(self, tmp_path: Path) -> None:
        (tmp_path / ".model.keras.x1y2z3.part").write_bytes(b"")
        assert keys(open_store(str(tmp_path))) == []

    def test_a_full_volume_keeps_what_was_there(self, small_volume: Path) -> None:
        store = open_store(str(small_volume))
        put(store, "before", b"before")
        with pytest.raises(VolumeError, match=f"^{small_volume}/.*full"):
            put(store, "before", bytes(1 << 20))
        with pytest.raises(VolumeError, match=f"^{small_volume}/.*full"):
            store.put_if("after", bytes(1 << 20), None)
        assert os.listdir(small_volume) == ["before"]
        assert read(store, "before") == b"before"
