"""S3: a put is durable when it returns, and a later get or list sees it. Failures are ObjectStoreUnavailable.

Calls end within 25 s (three attempts each).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from movierec_platform.adapters.aws import s3_client
from movierec_platform.config import Settings
from movierec_platform.errors import ObjectStoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ObjectStore:
    """One S3 bucket."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self.bucket = bucket

    def put(self, key: str, body: bytes) -> None:
        """The object is stored, whole."""
        with _errors(self.bucket, key):
            self._client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        """The object's bytes."""
        with _errors(self.bucket, key):
            return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Keys that start with `prefix` and sort after `after`, in order."""
        with _errors(self.bucket, prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, StartAfter=after
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"]

    def ping(self) -> None:
        """Nothing, if the bucket is there."""
        with _errors(self.bucket, ""):
            self._client.head_bucket(Bucket=self.bucket)


def open_objects(settings: Settings) -> ObjectStore:
    """The bucket of the raw objects and the lake."""
    return ObjectStore(s3_client(settings), settings.bucket)


@contextmanager
def _errors(bucket: str, key: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise ObjectStoreUnavailable(f"s3://{bucket}/{key}: {error}") from error
