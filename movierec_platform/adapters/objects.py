"""S3: a put is durable when it returns, and a later get or list sees it. Failures are ObjectStoreUnavailable.

A call ends within CALL_S of `domain.budget`, and of a body every piece comes within READ_S.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from movierec_platform.adapters.aws import object_store_options, s3_client
from movierec_platform.config import Settings
from movierec_platform.errors import ObjectStoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


GETS_AT_ONCE = 8
DELETED_AT_ONCE = 1_000
"""Keys in one call: the most that S3 takes."""
PIECE_BYTES = 1024 * 1024
_GETS_AHEAD = 4 * GETS_AT_ONCE


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it; it is another object once the size or the etag is another."""

    key: str
    size: int
    etag: str


class ObjectStore:
    """One S3 bucket."""

    def __init__(self, client: "S3Client", bucket: str, options: Mapping[str, str]) -> None:
        """`options` are those of `object_store_options`, for `get_all`."""
        self._client = client
        self.bucket = bucket
        self._options = dict(options)

    def put(self, key: str, body: bytes) -> None:
        """The object is stored, whole."""
        with _errors(self.bucket, key):
            self._client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        """The object's bytes."""
        with _errors(self.bucket, key):
            return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def get_file(self, key: str, path: Path) -> bool:
        """The file has the object's bytes, which memory holds a piece at a time; False: there is no such object."""
        try:
            with _errors(self.bucket, key):
                body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
                with path.open("wb") as file:
                    for piece in body.iter_chunks(PIECE_BYTES):
                        file.write(piece)
        except ObjectStoreUnavailable as error:
            if isinstance(error.__cause__, ClientError) and error.__cause__.response["Error"]["Code"] == "NoSuchKey":
                return False
            raise
        return True

    def put_file(self, key: str, path: Path) -> None:
        """The object has the file's bytes; whole, so that its etag is that of any other put of them."""
        with _errors(self.bucket, key), path.open("rb") as file:
            self._client.put_object(Bucket=self.bucket, Key=key, Body=file)

    def delete(self, keys: Sequence[str]) -> None:
        """There are no objects of these keys."""
        for start in range(0, len(keys), DELETED_AT_ONCE):
            batch = keys[start : start + DELETED_AT_ONCE]
            with _errors(self.bucket, batch[0]):
                answer = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            if failed := answer.get("Errors"):
                raise ObjectStoreUnavailable(f"s3://{self.bucket}/{failed[0].get('Key')}: {failed[0].get('Message')}")

    def get_all(self, keys: Iterable[str]) -> Iterator[bytes]:
        """The bytes of each of these objects, in their order; those of 32 at most are held at once."""
        # Both imports take a second and 100 MB: the stream's processes, which get one object at a time, never pay.
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import PyFileSystem

        files = PyFileSystem(DeltaStorageHandler(f"s3://{self.bucket}/", self._options))

        def get(key: str) -> bytes:
            # A third of the processor time of boto3, and outside the interpreter's lock. It does not take every key.
            try:
                with files.open_input_stream(key, compression=None) as stream:
                    body: bytes = stream.read()
                    return body
            except OSError:
                return self.get(key)

        with ThreadPoolExecutor(GETS_AT_ONCE, thread_name_prefix="s3-get") as threads:
            ahead: deque[Future[bytes]] = deque()
            try:
                for key in keys:
                    ahead.append(threads.submit(get, key))
                    if len(ahead) == _GETS_AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                threads.shutdown(cancel_futures=True)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys that start with `prefix` and sort after `after`, in order."""
        return (one.key for one in self.listing(prefix, after))

    def listing(self, prefix: str, after: str = "") -> Iterator[Listed]:
        """What starts with `prefix` and sorts after `after`, in order of the keys; a call for each 1,000."""
        with _errors(self.bucket, prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, StartAfter=after
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    yield Listed(entry["Key"], entry["Size"], entry["ETag"].strip('"'))

    def folders(self, prefix: str) -> tuple[list[str], list[str]]:
        """What stands between `prefix` and the next `/` of the keys, and the keys that have no such; in order."""
        parts: list[str] = []
        keys: list[str] = []
        with _errors(self.bucket, prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                parts += [one["Prefix"][len(prefix) :].rstrip("/") for one in page.get("CommonPrefixes", [])]
                keys += [one["Key"] for one in page.get("Contents", [])]
        return parts, keys

    def answers(self) -> None:
        """Raises ObjectStoreUnavailable unless S3 answers for this bucket, be it that listing it is not allowed."""
        try:
            self.ping()
        except ObjectStoreUnavailable as error:
            cause = error.__cause__
            if not (isinstance(cause, ClientError) and cause.response["Error"]["Code"] == "403"):
                raise

    def ping(self) -> None:
        """Nothing, if the bucket is there."""
        with _errors(self.bucket, ""):
            self._client.head_bucket(Bucket=self.bucket)


def open_objects(settings: Settings) -> ObjectStore:
    """The bucket of the raw objects and the lake."""
    return ObjectStore(s3_client(settings), settings.bucket, object_store_options(settings))


@contextmanager
def _errors(bucket: str, key: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise ObjectStoreUnavailable(f"s3://{bucket}/{key}: {error}") from error
