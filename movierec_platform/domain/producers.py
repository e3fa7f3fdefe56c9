"""What AWS and others put around an event on its way to a queue. Pure."""

from typing import Any

MOST_WRAPS = 3
"""Around each other: EventBridge by way of SNS has two."""


def carried_by(value: Any) -> Any:
    """What an SNS notification (JSON text) or an event of EventBridge carries; None for anything else.

    Without raw message delivery SNS sends `{"Type": "Notification", "TopicArn", "Message", ...}`; EventBridge sends
    `{"detail-type", "source", "detail", ...}`, of which what services of AWS say about themselves is no event of ours.
    """
    if not isinstance(value, dict):
        return None
    if value.get("Type") == "Notification" and "TopicArn" in value:
        message = value.get("Message")
        return message if isinstance(message, str) else None
    if "detail-type" in value and not str(value.get("source", "")).startswith("aws."):
        return value.get("detail")
    return None


def envelope_name(value: dict[str, Any]) -> str | None:
    """What the object is if it is an envelope, with what to send instead; None for anything else."""
    records = value.get("Records")
    first = records[0] if isinstance(records, list) and records else None
    if value.get("Event") == "s3:TestEvent" or (isinstance(first, dict) and first.get("eventSource") == "aws:s3"):
        return "an S3 event notification, which names an object and has no event in it"
    if "specversion" in value and "source" in value:
        return "a CloudEvents envelope: send what it has in `data`"
    if "TopicArn" in value and "Message" in value:
        return "an SNS notification: on the queue it is opened if its Message is JSON, elsewhere send what is in it"
    if "detail-type" in value:
        return "an EventBridge event: on the queue it is opened if no AWS service sent it, elsewhere send its `detail`"
    return None
