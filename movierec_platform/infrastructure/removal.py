"""What the platform's bucket and queues hold, and their end."""

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from movierec_platform.adapters.aws import s3_client, sqs_client
from movierec_platform.adapters.objects import DELETED_AT_ONCE
from movierec_platform.adapters.queues import Queue
from movierec_platform.config import Settings
from movierec_platform.errors import ObjectStoreUnavailable, QueueUnavailable
from movierec_platform.infrastructure.provision import Resources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef


def contents(settings: Settings, resources: Resources) -> list[str]:
    """A phrase for each of these that is not empty; a bucket that holds old versions only is not empty either."""
    held = []
    for url in _queues(resources):
        if count := Queue(sqs_client(settings), url).depth().total:
            held.append(f"queue {url.rpartition('/')[2]} holds about {count:,} messages")
    if resources.bucket and (first := next(_versions(settings, resources.bucket), None)) is not None:
        held.append(f"bucket {resources.bucket} holds objects, such as {first['Key']}")
    return held


def empty_bucket(settings: Settings, bucket: str, on_deleted: Callable[[int], None]) -> None:
    """The bucket holds no object, no old version and no mark of a deletion; told how many are gone so far."""
    versions, gone = _versions(settings, bucket), 0
    while batch := list(islice(versions, DELETED_AT_ONCE)):
        try:
            answer = s3_client(settings).delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        except (ClientError, BotoCoreError) as error:
            raise ObjectStoreUnavailable(f"s3://{bucket}: {error}") from error
        if failed := answer.get("Errors"):
            raise ObjectStoreUnavailable(f"s3://{bucket}/{failed[0].get('Key')}: {failed[0].get('Message')}")
        gone += len(batch)
        on_deleted(gone)


def remove(settings: Settings, resources: Resources) -> None:
    """These are gone; the bucket has to be empty. For an emulator: on AWS the stack takes them with it."""
    sqs, s3 = sqs_client(settings), s3_client(settings)
    try:
        for url in _queues(resources):
            sqs.delete_queue(QueueUrl=url)
    except (ClientError, BotoCoreError) as error:
        raise QueueUnavailable(f"SQS queue: {error}") from error
    try:
        if resources.bucket:
            s3.delete_bucket(Bucket=resources.bucket)
    except (ClientError, BotoCoreError) as error:
        raise ObjectStoreUnavailable(f"s3://{resources.bucket}: {error}") from error


def _queues(resources: Resources) -> list[str]:
    return [url for url in (resources.raw_queue_url, resources.clean_queue_url, resources.dlq_url) if url]


def _versions(settings: Settings, bucket: str) -> "Iterator[ObjectIdentifierTypeDef]":
    """Every version of every object of the bucket, and every mark of a deletion."""
    try:
        for page in s3_client(settings).get_paginator("list_object_versions").paginate(Bucket=bucket):
            for one in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
                yield {"Key": one["Key"], "VersionId": one["VersionId"]}
    except (ClientError, BotoCoreError) as error:
        raise ObjectStoreUnavailable(f"s3://{bucket}: {error}") from error
