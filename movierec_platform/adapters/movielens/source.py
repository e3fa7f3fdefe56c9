"""The archive's bytes, from a local path, an `https` or an `s3` URL.

A download goes into a temporary file that has no name, so that nothing is left of it however this process ends. It is
checked against the size that the server tells, and against the MD5 that GroupLens publishes beside its archives
(`ml-25m.zip.md5`). A connection waits 5 s for a server and 30 s for more bytes (S3: as adapters.aws). What is wrong
with the address is a UsageError; a server that fails, or stops halfway, is SourceUnavailable.
"""

import codecs
import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from botocore.exceptions import BotoCoreError, ClientError

from movierec_platform.adapters.aws import s3_client
from movierec_platform.adapters.http import http_session
from movierec_platform.adapters.movielens import Log
from movierec_platform.config import Settings, is_loopback
from movierec_platform.errors import NotFound, SourceUnavailable, UsageError

MAX_ARCHIVE_BYTES = 4 * 1024**3
"""Fifteen times ml-25m."""
_TIMEOUT_S = (5, 30)
_CHUNK_BYTES = 1024**2
_LOG_EVERY_BYTES = 32 * 1024**2
_MAX_REDIRECTS = 5
_MAX_CHECKSUM_BYTES = 4096
_ABSENT = (403, 404, 410)
"""403 is what S3 says of a key that is not there to those who may not list."""
_MD5 = re.compile(
    r"MD5 ?\((?P<bsd>[^)]+)\) ?= ?(?P<bsd_hex>[0-9a-fA-F]{32})|(?P<hex>[0-9a-fA-F]{32})(?: [ *](?P<name>.+))?"
)


@contextmanager
def archive_file(archive: str, settings: Settings, log: Log) -> Iterator[tuple[str, BinaryIO]]:
    """The archive's name and its bytes, as a file open for reading; `log` is told how far a download is."""
    if "://" not in archive:
        with _opened(archive_path(archive)) as file:
            yield Path(archive).name, file
        return
    try:
        url = urlsplit(archive)
    except ValueError as error:
        raise UsageError(f"{archive.partition('?')[0]} is no address: {error}") from error
    name = url.path.rpartition("/")[2]
    fetch = _fetch_s3 if url.scheme == "s3" else _fetch_http
    with tempfile.TemporaryFile() as file:
        published = fetch(url, file, settings, log)
        _check(name, file, published, log)
        file.seek(0)
        yield name, file


def published_md5(text: str, name: str) -> str | None:
    """The MD5 (lower case) of the archive of this name in a checksum file; None if it gives none.

    `MD5 (ml-25m.zip) = <hex>`, `<hex>  ml-25m.zip` or `<hex>`; of several lines, the one with the name.
    """
    found = [match for line in text.splitlines() if (match := _MD5.fullmatch(line.strip()))]
    if len(found) > 1:
        found = [match for match in found if name in (match["bsd"], match["name"])]
    return (found[0]["bsd_hex"] or found[0]["hex"]).lower() if found else None


def archive_path(archive: str) -> Path:
    """The file of this name. Raises UsageError where there is none, or a folder."""
    path = Path(archive).expanduser()
    if path.is_dir():
        raise UsageError(f"{path} is a folder, and a zip is what is read: pack it with `zip -r set.zip {path}`")
    if not path.exists():
        raise UsageError(f"there is no file {path}: give the path of a GroupLens zip, such as ml-latest-small.zip")
    return path


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _fetch_http(url: SplitResult, file: BinaryIO, _: Settings, log: Log) -> str | None:
    """The body of this URL is in the file; returns what its checksum file says, None if there is none."""
    with http_session() as session:
        with _answer(session, url) as answer:
            if answer.status_code in _ABSENT:
                raise NotFound(f"{_shown(url)}: the server says {answer.status_code} {answer.reason}")
            _refuse_unless_ok(url, answer)
            length = answer.headers.get("Content-Length", "")
            with _network(url):
                _copy(_shown(url), answer.iter_content(_CHUNK_BYTES), file, _number(length), log)
        beside = url._replace(path=f"{url.path}.md5")
        with _answer(session, beside) as answer:
            if answer.status_code in _ABSENT:
                return None
            _refuse_unless_ok(beside, answer)
            with _network(beside):
                return _text(next(answer.iter_content(_MAX_CHECKSUM_BYTES), b""))


def _answer(session: requests.Session, url: SplitResult) -> requests.Response:
    """The answer to a GET, its body not yet read; redirects are followed within the scheme."""
    target = url
    for _ in range(_MAX_REDIRECTS + 1):
        _refuse_scheme(target)
        with _network(target):
            # Without an encoding of its own the body is as long as the server says.
            answer = session.get(
                target.geturl(),
                stream=True,
                allow_redirects=False,
                timeout=_TIMEOUT_S,
                headers={"Accept-Encoding": "identity"},
            )
        if not answer.is_redirect:
            return answer
        answer.close()
        onward = urlsplit(urljoin(target.geturl(), answer.headers["Location"]))
        if onward.scheme != url.scheme:
            raise UsageError(f"{_shown(url)} redirects to {_shown(onward)}: not followed from {url.scheme}")
        target = onward
    raise UsageError(f"{_shown(url)} redirects more than {_MAX_REDIRECTS} times")


def _refuse_scheme(url: SplitResult) -> None:
    if not url.hostname:
        raise UsageError(f"{_shown(url)} names no server; give a path, or an https:// or s3://bucket/key URL")
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname)):
        return
    raise UsageError(f"{_shown(url)}: archives come from https:// and s3:// (http:// only from this machine)")


def _refuse_unless_ok(url: SplitResult, answer: requests.Response) -> None:
    said = f"{_shown(url)}: the server says {answer.status_code} {answer.reason}"
    if answer.status_code >= 500 or answer.status_code == 429:
        raise SourceUnavailable(said)
    if answer.status_code != 200:
        raise UsageError(said)


def _fetch_s3(url: SplitResult, file: BinaryIO, settings: Settings, log: Log) -> str | None:
    """The object is in the file; returns what its checksum object says, None if there is none."""
    bucket, key = url.netloc, url.path.removeprefix("/")
    if not bucket or not key:
        raise UsageError(f"{_shown(url)} is not s3://bucket/key")
    client = s3_client(settings)
    with _s3(url):
        found = client.get_object(Bucket=bucket, Key=key)
        chunks = found["Body"].iter_chunks(_CHUNK_BYTES)
        _copy(_shown(url), chunks, file, found["ContentLength"], log)
    try:
        with _s3(url):
            return _text(client.get_object(Bucket=bucket, Key=f"{key}.md5")["Body"].read(_MAX_CHECKSUM_BYTES))
    except NotFound:
        return None


def _copy(what: str, chunks: Iterable[bytes], file: BinaryIO, size: int | None, log: Log) -> None:
    """All chunks are in the file, and they are `size` bytes (None: unknown); within MAX_ARCHIVE_BYTES."""
    of = "" if size is None else f" of {_megabytes(size)}"
    log(f"{what}: downloading {'an unknown size' if size is None else _megabytes(size)}")
    copied, said = 0, 0
    too_large = f"{what} is larger than {MAX_ARCHIVE_BYTES:,} bytes, which no GroupLens archive is"
    if (size or 0) > MAX_ARCHIVE_BYTES:
        raise UsageError(too_large)
    for chunk in chunks:
        copied += len(chunk)
        if copied > MAX_ARCHIVE_BYTES:
            raise UsageError(too_large)
        try:
            file.write(chunk)
        except OSError as error:
            raise UsageError(f"{what} cannot be kept in {tempfile.gettempdir()}: {error.strerror}") from error
        if copied - said >= _LOG_EVERY_BYTES:
            said = copied
            log(f"{what}: {_megabytes(copied)}{of}")
    if size is not None and copied != size:
        raise SourceUnavailable(f"{what}: the download ended after {copied:,} of {size:,} bytes; try again")


def _check(name: str, file: BinaryIO, published: str | None, log: Log) -> None:
    """The file has the published MD5, if one is published."""
    wanted = None if published is None else published_md5(published, name)
    if wanted is None:
        log(f"{name}: no checksum is published beside it")
        return
    file.seek(0)
    seen = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(_CHUNK_BYTES):
        seen.update(chunk)
    if seen.hexdigest() != wanted:
        raise UsageError(f"{name} has the MD5 {seen.hexdigest()}, but {wanted} is published: download it again")
    log(f"{name}: its MD5 is the published one, {wanted}")


def _text(checksum_file: bytes) -> str:
    return checksum_file.removeprefix(codecs.BOM_UTF8).decode("latin-1")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _shown(url: SplitResult) -> str:
    """The address without what may be secret: user, password, query."""
    host = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{host}{url.path}"


@contextmanager
def _network(url: SplitResult) -> Iterator[None]:
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise UsageError(f"{_shown(url)} is no address: {type(error).__name__}") from error
    except requests.RequestException as error:
        # Not its text: that has the whole address, with what may be secret.
        raise SourceUnavailable(
            f"{_shown(url)}: the download failed or stopped halfway ({type(error).__name__}); nothing of it was kept"
        ) from error


@contextmanager
def _s3(url: SplitResult) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        said = f"{_shown(url)}: {error.response.get('Error', {}).get('Message', error)}"
        raise (NotFound(said) if code in _ABSENT else SourceUnavailable(said)) from error
    except BotoCoreError as error:
        raise SourceUnavailable(f"{_shown(url)}: {error}; nothing of it was kept") from error
