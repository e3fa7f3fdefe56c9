"""The bucket and the queues that the platform needs. Safe to run again: what exists is kept, with its contents.

Raw objects are never deleted. Those that are large enough to gain by it move to colder storage after a month; they can
be read there as before. Reading costs more than it saves for whoever replays or verifies all history every day.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from movierec_platform.adapters.aws import s3_client, sqs_client
from movierec_platform.config import Settings
from movierec_platform.domain.envelope import RAW_PREFIX
from movierec_platform.errors import ObjectStoreUnavailable, QueueUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import LifecycleRuleTypeDef
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

PREFIX = "movierec"
MAX_RECEIVES = 5
"""Receives of one message without its deletion; then it is poison and moves to the dead-letter queue."""
RETENTION_S = 14 * 24 * 3600
"""How long SQS keeps a message: the longest that it offers."""
LIFECYCLE: "tuple[LifecycleRuleTypeDef, ...]" = (
    {
        "ID": "movierec-raw-to-colder-storage",
        "Status": "Enabled",
        # S3 bills a smaller object there as if it had 128 KiB.
        "Filter": {"And": {"Prefix": RAW_PREFIX, "ObjectSizeGreaterThan": 128 * 1024}},
        "Transitions": [{"Days": 30, "StorageClass": "GLACIER_IR"}],
    },
    {
        "ID": "movierec-unfinished-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    },
)


@dataclass(frozen=True)
class Resources:
    """What now exists, by the names of the settings that say where it is."""

    bucket: str
    raw_queue_url: str
    clean_queue_url: str
    dlq_url: str


def provision(settings: Settings, prefix: str = PREFIX) -> Resources:
    """The bucket of the settings and the queues `<prefix>-raw`, `-clean` and `-dlq` exist, with redrive to the last.

    The bucket has the rules of LIFECYCLE beside those that it had.
    Raises ObjectStoreUnavailable or QueueUnavailable, also where the account does not allow it.
    """
    _make_bucket(settings)
    _set_lifecycle(settings)
    sqs = sqs_client(settings)
    hidden: dict[QueueAttributeNameType, str] = {"VisibilityTimeout": str(settings.visibility_timeout_s)}
    dlq_url = _make_queue(sqs, f"{prefix}-dlq", hidden)
    with _queue_errors(dlq_url):
        arn = sqs.get_queue_attributes(QueueUrl=dlq_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
    raw_url, clean_url = (
        _make_queue(sqs, f"{prefix}-{name}", {**hidden, "RedrivePolicy": redrive}) for name in ("raw", "clean")
    )
    return Resources(
        bucket=settings.bucket,
        raw_queue_url=_reachable(raw_url, settings),
        clean_queue_url=_reachable(clean_url, settings),
        dlq_url=_reachable(dlq_url, settings),
    )


def _make_bucket(settings: Settings) -> None:
    s3 = s3_client(settings)
    try:
        s3.head_bucket(Bucket=settings.bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise ObjectStoreUnavailable(f"s3://{settings.bucket}: {error}") from error
    except BotoCoreError as error:
        raise ObjectStoreUnavailable(f"s3://{settings.bucket}: {error}") from error
    else:
        return
    try:
        if settings.aws_region == "us-east-1":  # the one region that S3 refuses as a constraint
            s3.create_bucket(Bucket=settings.bucket)
        else:
            region = cast("BucketLocationConstraintType", settings.aws_region)
            s3.create_bucket(Bucket=settings.bucket, CreateBucketConfiguration={"LocationConstraint": region})
    except s3.exceptions.BucketAlreadyOwnedByYou:
        return
    except (ClientError, BotoCoreError) as error:
        raise ObjectStoreUnavailable(f"s3://{settings.bucket} cannot be made: {error}") from error


def _set_lifecycle(settings: Settings) -> None:
    s3 = s3_client(settings)
    ours = {rule["ID"] for rule in LIFECYCLE}
    try:
        kept = [
            rule
            for rule in s3.get_bucket_lifecycle_configuration(Bucket=settings.bucket)["Rules"]
            if rule.get("ID") not in ours
        ]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise ObjectStoreUnavailable(f"the lifecycle of s3://{settings.bucket}: {error}") from error
        kept = []
    try:
        s3.put_bucket_lifecycle_configuration(
            Bucket=settings.bucket, LifecycleConfiguration={"Rules": [*kept, *LIFECYCLE]}
        )
    except (ClientError, BotoCoreError) as error:
        raise ObjectStoreUnavailable(f"the lifecycle of s3://{settings.bucket}: {error}") from error


def _make_queue(sqs: "SQSClient", name: str, attributes: "dict[QueueAttributeNameType, str]") -> str:
    """The URL of the queue, which has these attributes whether it is new or not."""
    wanted: dict[QueueAttributeNameType, str] = {"MessageRetentionPeriod": str(RETENTION_S), **attributes}
    with _queue_errors(name):
        try:
            return sqs.create_queue(QueueName=name, Attributes=wanted)["QueueUrl"]
        except sqs.exceptions.QueueNameExists:
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            sqs.set_queue_attributes(QueueUrl=url, Attributes=wanted)
            return url


def _reachable(url: str, settings: Settings) -> str:
    """The URL with the endpoint's own address, as emulators put a host name of theirs into it."""
    if not settings.aws_endpoint_url:
        return url
    endpoint = urlsplit(settings.aws_endpoint_url)
    return urlsplit(url)._replace(scheme=endpoint.scheme, netloc=endpoint.netloc).geturl()


@contextmanager
def _queue_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise QueueUnavailable(f"SQS queue {name}: {error}") from error
