"""Archives from URLs: whole, with the published checksum, or not at all."""

import hashlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from movierec_platform.adapters.aws import s3_client
from movierec_platform.adapters.movielens.source import MAX_ARCHIVE_BYTES, archive_file, published_md5
from movierec_platform.config import Settings, load_settings
from movierec_platform.errors import NotFound, SourceUnavailable, UsageError

BODY = bytes(range(256)) * 5_000
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """Whether the connection ends halfway through the body."""


class Web:
    """A web server on this machine that answers as it was told."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = web.answers.get(self.path.partition("?")[0], Answer(404))
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


def fetch(url: str, settings: Settings | None = None) -> tuple[str, bytes, list[str]]:
    """Name and bytes of the archive, and what was said meanwhile."""
    said: list[str] = []
    with archive_file(url, settings or load_settings(), said.append) as (name, file):
        return name, file.read(), said


@pytest.mark.parametrize("form", ["MD5 (ml-new.zip) = {}\n", "{}  ml-new.zip\n", "{}", "\ufeff{}", "{} *ml-new.zip"])
@pytest.mark.parametrize("md5", [MD5, MD5.upper()])
def test_a_download_with_its_checksum(web: Web, form: str, md5: str) -> None:
    checksum = Answer(body=form.format(md5).encode())
    web.answers = {"/sets/ml-new.zip": Answer(body=BODY), "/sets/ml-new.zip.md5": checksum}
    name, body, said = fetch(f"{web.url}/sets/ml-new.zip")
    assert (name, body) == ("ml-new.zip", BODY)
    assert said == [
        f"{web.url}/sets/ml-new.zip: downloading 1.3 MB",
        f"ml-new.zip: its MD5 is the published one, {MD5}",
    ]


def test_a_download_that_is_not_what_was_published(web: Web) -> None:
    web.answers = {"/a.zip": Answer(body=BODY[:-1]), "/a.zip.md5": Answer(body=f"{MD5}  a.zip".encode())}
    with pytest.raises(UsageError, match=rf"a\.zip has the MD5 \w+, but {MD5} is published: download it again"):
        fetch(f"{web.url}/a.zip")


@pytest.mark.parametrize("checksum", [None, Answer(403), Answer(410), Answer(body=b"<html>not found</html>")])
def test_a_download_without_a_checksum_says_so(web: Web, checksum: Answer | None) -> None:
    web.answers = {"/a.zip": Answer(body=BODY), **({"/a.zip.md5": checksum} if checksum else {})}
    name, body, said = fetch(f"{web.url}/a.zip")
    assert (name, body) == ("a.zip", BODY)
    assert said[-1] == "a.zip: no checksum is published beside it"


def test_a_checksum_that_cannot_be_fetched_fails_the_download(web: Web) -> None:
    web.answers = {"/a.zip": Answer(body=BODY), "/a.zip.md5": Answer(500)}
    with pytest.raises(SourceUnavailable, match=r"/a\.zip\.md5: the server says 500"):
        fetch(f"{web.url}/a.zip")


def test_a_download_of_unknown_size(web: Web) -> None:
    web.answers = {"/a.zip": Answer(body=BODY, headers={"Content-Length": ""})}
    _, body, said = fetch(f"{web.url}/a.zip")
    assert (body, said[0]) == (BODY, f"{web.url}/a.zip: downloading an unknown size")


def test_a_download_that_stops_halfway(web: Web) -> None:
    web.answers = {"/a.zip": Answer(body=BODY, cut=True)}
    with pytest.raises(SourceUnavailable, match=r"the download failed or stopped halfway \(.*\); nothing of it was"):
        fetch(f"{web.url}/a.zip")


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (Answer(404), NotFound, "the server says 404"),
        (Answer(401), UsageError, "the server says 401"),
        (Answer(503), SourceUnavailable, "the server says 503"),
        (
            Answer(302, headers={"Location": "ftp://example.org/a.zip"}),
            UsageError,
            "redirects to ftp://example.org/a.zip",
        ),
        (Answer(302, headers={"Location": "https://example.org/a"}), UsageError, "not followed from http"),
        (Answer(302, headers={"Location": "http://example.org/a"}), UsageError, "http:// only from this machine"),
        (Answer(302, headers={"Location": "/a.zip"}), UsageError, "redirects more than 5 times"),
        (
            Answer(headers={"Content-Length": str(MAX_ARCHIVE_BYTES + 1)}),
            UsageError,
            "is larger than 4,294,967,296 bytes",
        ),
    ],
)
def test_what_a_server_may_not_say(web: Web, answer: Answer, error: type[Exception], said: str) -> None:
    web.answers = {"/a.zip": answer}
    with pytest.raises(error, match=said) as refused:
        fetch(f"{web.url}/a.zip?signature=secret")
    assert "secret" not in str(refused.value)


def test_redirects_are_followed_within_the_scheme(web: Web) -> None:
    web.answers = {"/latest.zip": Answer(301, headers={"Location": "sets/a.zip"}), "/sets/a.zip": Answer(body=BODY)}
    assert fetch(f"{web.url}/latest.zip")[:2] == ("latest.zip", BODY)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/a.zip", r"http://example\.org/a\.zip: archives come from https:// and s3://"),
        ("ftp://127.0.0.1/a.zip", r"archives come from https:// and s3://"),
        ("https:///a.zip", r"names no server"),
        ("http://[127.0.0.1/a.zip", r"is no address"),
        ("s3://bucket", r"s3://bucket is not s3://bucket/key"),
    ],
)
def test_addresses_that_are_none(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fetch(url)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(SourceUnavailable, match=r"http://127\.0\.0\.1:9/a\.zip: the download failed"):
        fetch("http://user:secret@127.0.0.1:9/a.zip")


@pytest.fixture(scope="module")
def store(aws_settings: Settings) -> Settings:
    settings = aws_settings.model_copy(update={"bucket": f"test-{uuid.uuid4().hex[:12]}"})
    s3_client(settings).create_bucket(Bucket=settings.bucket)
    return settings


def test_an_object_in_s3(store: Settings) -> None:
    client, url = s3_client(store), f"s3://{store.bucket}/sets/a.zip"
    client.put_object(Bucket=store.bucket, Key="sets/a.zip", Body=BODY)
    assert fetch(url, store) == (
        "a.zip",
        BODY,
        [f"{url}: downloading 1.3 MB", "a.zip: no checksum is published beside it"],
    )
    client.put_object(Bucket=store.bucket, Key="sets/a.zip.md5", Body=f"{MD5}  a.zip\n".encode())
    assert fetch(url, store)[2][-1] == f"a.zip: its MD5 is the published one, {MD5}"
    for absent in (f"s3://{store.bucket}/absent.zip", "s3://absent-bucket/a.zip"):
        with pytest.raises(NotFound, match=absent):
            fetch(absent, store)


def test_an_s3_that_is_not_there(store: Settings) -> None:
    nowhere = store.model_copy(update={"aws_endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(SourceUnavailable, match=r"s3://sets/a\.zip: Could not connect"):
        fetch("s3://sets/a.zip", nowhere)


def test_a_checksum_file_of_several_lines() -> None:
    other = "0" * 32
    assert published_md5(f"{other}  b.zip\n{MD5}  a.zip\n", "a.zip") == MD5
    assert published_md5(f"MD5 (b.zip) = {other}\nMD5 (a.zip) = {MD5}\n", "a.zip") == MD5
    assert published_md5(f"{other}  b.zip\n{MD5}  c.zip\n", "a.zip") is None
    assert published_md5("", "a.zip") is None
