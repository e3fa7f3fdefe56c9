"""The SNS topic of the alarms on an emulator; on AWS the CloudFormation stack has it.

No alarm of an emulator publishes to it: Alertmanager does, if its `api_url` names the emulator. Raises TopicUnavailable
if SNS does not answer or refuses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from movierec_platform.adapters.aws import sns_client
from movierec_platform.config import Settings
from movierec_platform.errors import TopicUnavailable, UsageError
from movierec_platform.infrastructure.provision import Change


def protocol_of(subscriber: str, secure: bool = True) -> str:
    """How SNS tells this subscriber. `secure`: not by http://. Raises UsageError if it is no e-mail address or URL."""
    address = urlsplit(subscriber)
    if address.scheme in (("https",) if secure else ("https", "http")) and address.hostname:
        return address.scheme
    name, _, domain = subscriber.partition("@")
    if name and domain and "@" not in domain and "://" not in subscriber and not any(map(str.isspace, subscriber)):
        return "email"
    raise UsageError(
        f"SNS cannot tell {subscriber!r} of alarms: give an e-mail address or {'an https' if secure else 'a'} URL"
    )


def topic_plan(settings: Settings, prefix: str, subscriber: str | None) -> list[Change]:
    """What `make_topic` would change; nothing is."""
    arn, name = existing_topic(settings, prefix), _name(prefix)
    changes = [] if arn else [Change("create", f"topic {name}")]
    if subscriber and not (arn and _is_subscribed(settings, arn, subscriber)):
        changes.append(Change("create", f"subscription of {subscriber} to topic {name}"))
    return changes


def make_topic(settings: Settings, prefix: str, subscriber: str | None) -> str:
    """ARN of the topic `<prefix>-alarms`, which exists, with this subscriber beside those that it had."""
    with _sns(settings) as sns:
        arn: str = sns.create_topic(Name=_name(prefix))["TopicArn"]
        if subscriber:
            sns.subscribe(TopicArn=arn, Protocol=protocol_of(subscriber, secure=False), Endpoint=subscriber)
    return arn


def existing_topic(settings: Settings, prefix: str) -> str:
    """ARN of the topic; empty if there is none."""
    with _sns(settings) as sns:
        pages = sns.get_paginator("list_topics").paginate()
        arns = [str(topic["TopicArn"]) for page in pages for topic in page["Topics"]]
    return next((arn for arn in arns if arn.rpartition(":")[2] == _name(prefix)), "")


def remove_topic(settings: Settings, arn: str) -> None:
    """The topic is gone, and its subscriptions with it."""
    with _sns(settings) as sns:
        sns.delete_topic(TopicArn=arn)


def _is_subscribed(settings: Settings, arn: str, subscriber: str) -> bool:
    with _sns(settings) as sns:
        pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
        return any(one["Endpoint"] == subscriber for page in pages for one in page["Subscriptions"])


def _name(prefix: str) -> str:
    return f"{prefix}-alarms"


@contextmanager
def _sns(settings: Settings) -> Iterator[Any]:
    try:
        yield sns_client(settings)
    except (ClientError, BotoCoreError) as error:
        raise TopicUnavailable(f"SNS at {settings.aws_endpoint_url}: {error}") from error
