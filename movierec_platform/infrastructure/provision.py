"""The bucket and the queues that the platform needs. Safe to run again: what exists is kept, with its contents.

Raw objects are never deleted. Those that are large enough to gain by it move to colder storage after a month; they can
be read there as before. Reading costs more than it saves for whoever replays or verifies all history every day.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from movierec_platform.adapters.aws import s3_client, sqs_client
from movierec_platform.adapters.queues import QUEUE_NAMES
from movierec_platform.config import Settings
from movierec_platform.domain.envelope import RAW_PREFIX
from movierec_platform.errors import ObjectStoreUnavailable, QueueUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import LifecycleRuleTypeDef
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

PREFIX = "movierec"
MAX_RECEIVES = 1_000
"""Receives of one message without its deletion; then SQS moves it to the dead-letter queue. The most that SQS allows:
the drains count defects and make a message poison long before, and no outage costs a receive more than once a run."""
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
    {
        # On AWS the bucket keeps old versions: what the lake drops, and what is erased, has to go in the end.
        "ID": "movierec-old-versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    },
)


@dataclass(frozen=True)
class Resources:
    """What now exists, by the names of the settings that say where it is."""

    bucket: str
    raw_queue_url: str
    clean_queue_url: str
    dlq_url: str


@dataclass(frozen=True)
class Change:
    """What is done, or would be, to one resource."""

    act: Literal["create", "update", "replace", "delete"]
    what: str
    why: str = ""


def plan(settings: Settings, prefix: str = PREFIX) -> list[Change]:
    """What `provision` would change; nothing is. Raises as it does."""
    changes = []
    rules: list[LifecycleRuleTypeDef] = []
    if not _has_bucket(settings):
        changes.append(Change("create", f"bucket {settings.bucket}"))
    else:
        rules = _lifecycle(settings)
    if any(rule not in rules for rule in LIFECYCLE):
        changes.append(Change("update", f"lifecycle of bucket {settings.bucket}"))
    sqs = sqs_client(settings)
    dlq = _attributes_of(sqs, f"{prefix}-dlq")
    for name in QUEUE_NAMES:
        queue = f"{prefix}-{name}"
        found = _attributes_of(sqs, queue)
        if found is None:
            changes.append(Change("create", f"queue {queue}"))
            continue
        wanted = _wanted(settings, None if name == "dlq" or dlq is None else dlq["QueueArn"])
        if differing := [one for one in wanted if not _equal(found.get(one), wanted[one])]:
            changes.append(Change("update", f"queue {queue}", ", ".join(differing)))
    return changes


def provision(settings: Settings, prefix: str = PREFIX) -> Resources:
    """The bucket of the settings and the queues `<prefix>-raw`, `-clean` and `-dlq` exist, with redrive to the last.

    The bucket has the rules of LIFECYCLE beside those that it had.
    Raises ObjectStoreUnavailable or QueueUnavailable, also where the account does not allow it.
    """
    _make_bucket(settings)
    _set_lifecycle(settings)
    sqs = sqs_client(settings)
    dlq_url = _make_queue(sqs, f"{prefix}-dlq", _wanted(settings, None))
    with _queue_errors(dlq_url):
        arn = sqs.get_queue_attributes(QueueUrl=dlq_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    raw_url, clean_url = (_make_queue(sqs, f"{prefix}-{name}", _wanted(settings, arn)) for name in ("raw", "clean"))
    return Resources(
        bucket=settings.bucket,
        raw_queue_url=_reachable(raw_url, settings),
        clean_queue_url=_reachable(clean_url, settings),
        dlq_url=_reachable(dlq_url, settings),
    )


def existing(settings: Settings, prefix: str = PREFIX) -> Resources:
    """The same, of which some may not exist: they are empty."""
    sqs = sqs_client(settings)
    urls = {name: _url_of(sqs, f"{prefix}-{name}") or "" for name in QUEUE_NAMES}
    return Resources(
        bucket=settings.bucket if _has_bucket(settings) else "",
        raw_queue_url=urls["raw"],
        clean_queue_url=urls["clean"],
        dlq_url=urls["dlq"],
    )


def _has_bucket(settings: Settings) -> bool:
    try:
        s3_client(settings).head_bucket(Bucket=settings.bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise ObjectStoreUnavailable(f"s3://{settings.bucket}: {error}") from error
        return False
    except BotoCoreError as error:
        raise ObjectStoreUnavailable(f"s3://{settings.bucket}: {error}") from error
    return True


def _make_bucket(settings: Settings) -> None:
    if _has_bucket(settings):
        return
    s3 = s3_client(settings)
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


def _lifecycle(settings: Settings) -> "list[LifecycleRuleTypeDef]":
    """The rules that the bucket has."""
    try:
        rules = s3_client(settings).get_bucket_lifecycle_configuration(Bucket=settings.bucket)["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise ObjectStoreUnavailable(f"the lifecycle of s3://{settings.bucket}: {error}") from error
        return []
    return cast("list[LifecycleRuleTypeDef]", rules)


def _set_lifecycle(settings: Settings) -> None:
    ours = {rule["ID"] for rule in LIFECYCLE}
    kept = [rule for rule in _lifecycle(settings) if rule.get("ID") not in ours]
    try:
        s3_client(settings).put_bucket_lifecycle_configuration(
            Bucket=settings.bucket, LifecycleConfiguration={"Rules": [*kept, *LIFECYCLE]}
        )
    except (ClientError, BotoCoreError) as error:
        raise ObjectStoreUnavailable(f"the lifecycle of s3://{settings.bucket}: {error}") from error


def _wanted(settings: Settings, dlq_arn: str | None) -> "dict[QueueAttributeNameType, str]":
    """The attributes of a queue whose poison goes to that dlq; None for the dlq itself."""
    attributes: dict[QueueAttributeNameType, str] = {
        "MessageRetentionPeriod": str(RETENTION_S),
        "VisibilityTimeout": str(settings.visibility_timeout_s),
    }
    if dlq_arn is not None:
        attributes["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": dlq_arn, "maxReceiveCount": MAX_RECEIVES})
    return attributes


def _make_queue(sqs: "SQSClient", name: str, wanted: "dict[QueueAttributeNameType, str]") -> str:
    """The URL of the queue, which has these attributes whether it is new or not."""
    with _queue_errors(name):
        try:
            return sqs.create_queue(QueueName=name, Attributes=wanted)["QueueUrl"]
        except sqs.exceptions.QueueNameExists:
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            sqs.set_queue_attributes(QueueUrl=url, Attributes=wanted)
            return url


def _url_of(sqs: "SQSClient", name: str) -> str | None:
    """None where there is no such queue."""
    with _queue_errors(name):
        try:
            return sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except sqs.exceptions.QueueDoesNotExist:
            return None


def _attributes_of(sqs: "SQSClient", name: str) -> "dict[QueueAttributeNameType, str] | None":
    url = _url_of(sqs, name)
    if url is None:
        return None
    with _queue_errors(name):
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def _equal(found: str | None, wanted: str) -> bool:
    """As JSON, where it is that: services write it with other blanks, and numbers as text."""
    if found is None or not wanted.startswith("{"):
        return found == wanted
    return {name: str(one) for name, one in json.loads(found).items()} == {
        name: str(one) for name, one in json.loads(wanted).items()
    }


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
