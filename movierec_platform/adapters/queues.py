"""SQS: at-least-once, unordered. A message is gone only after `delete`; until then it comes back when its visibility
timeout ends. What makes it poison is counted by the drains; SQS's own count of receives is the last resort.

A call ends within CALL_S of `domain.budget`, a receive as much later as it waits; `send` begins none after `ends_s`.
Failures are QueueUnavailable, but for what SQS refuses because of the message itself: that is MessageRefused, once, and
concerns no other message.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import BotoCoreError, ClientError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from movierec_platform.adapters.aws import sqs_client, sqs_poller
from movierec_platform.config import Settings
from movierec_platform.domain.budget import LONG_POLL_S
from movierec_platform.errors import MessageRefused, QueueUnavailable, UsageError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef

QueueName = Literal["raw", "clean", "dlq"]
QUEUE_NAMES: tuple[QueueName, ...] = ("raw", "clean", "dlq")
BATCH_MESSAGES = 10
BATCH_BYTES = 250_000
"""SQS takes 256 KiB in one SendMessageBatch; the rest is left to attributes and ids."""
_NOT_OF_THE_MESSAGE = ("kms", "throttl", "accessdenied")
"""In codes that SQS may call the sender's fault and that are about the queue: they pass, for every message alike."""
_TOO_LONG = "BatchRequestTooLong"
"""Of a call that fails as a whole: batches are shorter, unless a single message is longer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One received message. `receipt` deletes this receive of it; id and time sent are the same on a redelivery."""

    body: str
    receipt: str
    message_id: str
    sent_at_ms: int
    receive_count: int


@dataclass(frozen=True, slots=True)
class Depth:
    """Approximate number of messages in a queue."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed


class Queue:
    """One SQS queue."""

    def __init__(self, client: "SQSClient", url: str, poller: "SQSClient | None" = None) -> None:
        """`poller` is the client for receives that wait; without one they must not."""
        self._client = client
        self._poller = poller or client
        self.url = url
        self.name = url.rpartition("/")[2]

    def send(self, bodies: Sequence[str], ends_s: float = inf) -> None:
        """Every body is in the queue, or QueueUnavailable: then any of them may be there (a retry duplicates).

        No call begins after `ends_s` of the monotonic clock. Raises MessageRefused for those that SQS never takes, once
        all others are in the queue.
        """
        refused: list[str] = []
        why = ""
        for batch in _batches(bodies):
            pending = {str(index): body for index, body in enumerate(batch)}
            faults: dict[str, str] = {}
            retry = Retrying(
                retry=retry_if_exception_type(_EntriesRefused),
                stop=stop_after_attempt(5),
                wait=wait_random_exponential(multiplier=0.1, max=1),
                reraise=True,
            )
            retry(self._send_pending, pending, faults, ends_s)
            refused += [batch[int(id_)] for id_ in faults]
            why = next(iter(faults.values()), why)
        if refused:
            raise MessageRefused(f"SQS queue {self.url} never takes {len(refused)} of {len(bodies)}: {why}", refused)

    def _send_pending(self, pending: dict[str, str], faults: dict[str, str], ends_s: float) -> None:
        """Sends these bodies by id; what SQS takes is taken out of `pending`, and what it never will goes to `faults`,
        with the reason. Raises _EntriesRefused for what is left."""
        if time.monotonic() >= ends_s:
            raise QueueUnavailable(f"SQS queue {self.url} did not take all messages in the time that there is")
        with _errors(self.url):
            try:
                answer = self._client.send_message_batch(
                    QueueUrl=self.url,
                    Entries=[{"Id": id_, "MessageBody": body} for id_, body in pending.items()],
                )
            except ClientError as error:
                if len(pending) > 1 or not error.response["Error"].get("Code", "").endswith(_TOO_LONG):
                    raise
                faults.update(dict.fromkeys(pending, str(error)))
                return
        failed = answer.get("Failed", [])
        faults.update({one["Id"]: f"{one['Code']}, {one.get('Message', '')}" for one in failed if _is_at_fault(one)})
        for id_ in [sent["Id"] for sent in answer.get("Successful", [])] + [id_ for id_ in faults if id_ in pending]:
            del pending[id_]
        if pending:
            codes = ", ".join(sorted({refused["Code"] for refused in failed if refused["Id"] in pending}))
            raise _EntriesRefused(f"SQS queue {self.url} refuses {len(pending)} messages of a batch: {codes}")

    def receive(self, max_messages: int = BATCH_MESSAGES, wait_s: int = 0) -> list[Message]:
        """Up to ten messages, waiting up to `wait_s` (20 at most) for the first; they stay hidden for a while."""
        with _errors(self.url):
            answer = self._poller.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(max_messages, BATCH_MESSAGES),
                WaitTimeSeconds=min(wait_s, LONG_POLL_S),
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        return [
            Message(
                body=message["Body"],
                receipt=message["ReceiptHandle"],
                message_id=message["MessageId"],
                sent_at_ms=int(message["Attributes"]["SentTimestamp"]),
                receive_count=int(message["Attributes"]["ApproximateReceiveCount"]),
            )
            for message in answer.get("Messages", [])
        ]

    def hide(self, messages: Sequence[Message], seconds: int) -> None:
        """These receives stay hidden for so long from now; 0 gives them back. One that has come back is left alone."""
        for start in range(0, len(messages), BATCH_MESSAGES):
            batch = messages[start : start + BATCH_MESSAGES]
            with _errors(self.url):
                self._client.change_message_visibility_batch(
                    QueueUrl=self.url,
                    Entries=[
                        {"Id": str(index), "ReceiptHandle": one.receipt, "VisibilityTimeout": seconds}
                        for index, one in enumerate(batch)
                    ],
                )

    def delete(self, messages: Sequence[Message]) -> int:
        """How many were deleted; one that was not comes again, and its effect is idempotent."""
        deleted = 0
        for start in range(0, len(messages), BATCH_MESSAGES):
            batch = messages[start : start + BATCH_MESSAGES]
            with _errors(self.url):
                answer = self._client.delete_message_batch(
                    QueueUrl=self.url,
                    Entries=[{"Id": str(index), "ReceiptHandle": one.receipt} for index, one in enumerate(batch)],
                )
            deleted += len(answer.get("Successful", []))
        return deleted

    def depth(self) -> Depth:
        """How many messages wait, are being worked on, or are delayed."""
        with _errors(self.url):
            answer = self._client.get_queue_attributes(
                QueueUrl=self.url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )
        counts = answer["Attributes"]
        return Depth(
            visible=int(counts["ApproximateNumberOfMessages"]),
            in_flight=int(counts["ApproximateNumberOfMessagesNotVisible"]),
            delayed=int(counts.get("ApproximateNumberOfMessagesDelayed", 0)),
        )


class _EntriesRefused(QueueUnavailable):
    """SQS answered, and did not take every entry of the batch."""


@dataclass(frozen=True, slots=True)
class Queues:
    """The three queues over one client."""

    raw: Queue
    clean: Queue
    dlq: Queue

    @classmethod
    def open(cls, settings: Settings) -> "Queues":
        return cls(*(open_queue(settings, name) for name in QUEUE_NAMES))

    def named(self, name: QueueName) -> Queue:
        queue: Queue = getattr(self, name)
        return queue


def open_queue(settings: Settings, name: QueueName) -> Queue:
    """One of the three queues."""
    return Queue(sqs_client(settings), _url(settings, name), sqs_poller(settings))


def _url(settings: Settings, name: QueueName) -> str:
    variable = {"raw": "MOVIEREC_RAW_QUEUE_URL", "clean": "MOVIEREC_CLEAN_QUEUE_URL", "dlq": "MOVIEREC_DLQ_URL"}[name]
    url = {"raw": settings.raw_queue_url, "clean": settings.clean_queue_url, "dlq": settings.dlq_url}[name]
    if not url:
        raise UsageError(f"{variable} is not set: start the stack with `movierec up`, or set it in .env")
    return url


def _is_at_fault(failed: "BatchResultErrorEntryTypeDef") -> bool:
    """Whether SQS will refuse this entry for ever, because of what it is."""
    code = failed["Code"].replace(".", "").lower()
    return failed["SenderFault"] and not any(other in code for other in _NOT_OF_THE_MESSAGE)


def _batches(bodies: Sequence[str]) -> Iterator[list[str]]:
    """Consecutive bodies, ten and 250,000 bytes at most a batch."""
    batch: list[str] = []
    size = 0
    for body in bodies:
        length = len(body.encode())
        if batch and (len(batch) == BATCH_MESSAGES or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += length
    if batch:
        yield batch


@contextmanager
def _errors(url: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise QueueUnavailable(f"SQS queue {url}: {error}") from error
