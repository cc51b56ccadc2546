"""A bucket whose listing or objects are made to hold a reader for ever, or to fill its memory: a server of its own."""

import http.server
import threading
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import Catsdogs

ETAG = '"0123456789abcdef0123456789abcdef"'
RUN = "runs/r/manifest.json"


def listing(*keys: str, before: str = "", name: str = "b", next_page: str = "") -> bytes:
    found = "".join(f"<Contents><Key>{key}</Key><ETag>{ETAG}</ETag><Size>3</Size></Contents>" for key in keys)
    following = f"<NextContinuationToken>{next_page}</NextContinuationToken>" if next_page else ""
    return (
        f'<?xml version="1.0"?>{before}<ListBucketResult><Name>{name}</Name>'
        f"<IsTruncated>{'true' if next_page else 'false'}</IsTruncated>{following}{found}</ListBucketResult>"
    ).encode()


def bomb() -> bytes:
    """A name of a billion characters, by entities."""
    entities = "".join(
        f'<!ENTITY {name} "{f"&{below};" * 10}">' for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    return listing(before=f'<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">{entities}]>', name="&i;")


class Storage(http.server.BaseHTTPRequestHandler):
    """Answers every listing with `page`, and every other request with an object of `size` bytes, as it claims."""

    protocol_version = "HTTP/1.1"
    page: Callable[[], bytes]
    size = 3
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        is_listing = "list-type" in parse_qs(urlsplit(self.path).query)
        body = type(self).page() if is_listing else b"{}\n"
        self.send_response(200 if is_listing else 206)
        self.send_header("ETag", ETAG)
        self.send_header("Last-Modified", "Sun, 29 Nov 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body) if is_listing else self.size))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            self.close_connection = not is_listing

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def storage() -> Iterator[tuple[type[Storage], dict[str, str]]]:
    """The class of the storage's answers, which may be changed, and the variables that lead to it."""
    answers = type("Answers", (Storage,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield answers, {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.server_address[1]}", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret",
        }  # fmt: skip
        server.shutdown()


@pytest.mark.timeout(30)
def test_a_listing_that_begins_again_is_not_followed(
    storage: tuple[type[Storage], dict[str, str]], catsdogs: Catsdogs
) -> None:
    answers, environment = storage
    answers.page = lambda: listing(RUN, next_page="the same")
    process = catsdogs("runs", "--output=s3://b/runs", "--storage-timeout=1s", env=environment)
    assert process.returncode == 69, process.stderr
    [line] = process.stderr.splitlines()
    assert line.startswith("catsdogs: s3://b/runs/: storage lists the same objects again and again; ")
    assert answers.requests == 2


@pytest.mark.timeout(30)
def test_a_listing_that_is_a_bomb(storage: tuple[type[Storage], dict[str, str]], catsdogs: Catsdogs) -> None:
    """Expat bounds what entities become."""
    answers, environment = storage
    answers.page = bomb
    process = catsdogs("runs", "--output=s3://b/runs", "--storage-timeout=1s", env=environment)
    assert process.returncode == 69, process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.timeout(30)
@pytest.mark.parametrize("size", [1 << 40, 1 << 62])
def test_an_object_that_claims_to_be_huge(
    size: int, storage: tuple[type[Storage], dict[str, str]], catsdogs: Catsdogs
) -> None:
    answers, environment = storage
    answers.page, answers.size = lambda: listing(RUN), size
    process = catsdogs("runs", "--output=s3://b/runs", "--storage-timeout=1s", env=environment)
    assert (process.returncode, process.stdout.count("damaged")) == (0, 1)
    assert "runs/r/manifest.json: not a manifest; " in process.stderr
    assert "larger than 4,194,304 bytes" in process.stderr


@pytest.mark.timeout(30)
def test_keys_that_are_no_names(storage: tuple[type[Storage], dict[str, str]], catsdogs: Catsdogs) -> None:
    answers, environment = storage
    odd = ("runs/../../x/run.json", "runs/a&#10;b/run.json", "runs/%2e%2e/run.json", "runs/&#x202e;x/run.json",
           "runs//run.json", "runs/..", f"runs/{'y' * 1000}/run.json")  # fmt: skip
    answers.page = lambda: listing(*odd, RUN)
    process = catsdogs("runs", "--output=s3://b/runs", "--storage-timeout=1s", env=environment)
    assert process.returncode == 0, process.stderr
    assert all(line.isprintable() for line in (process.stdout + process.stderr).splitlines())
