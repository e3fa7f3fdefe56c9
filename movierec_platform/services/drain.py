"""Drains a queue for as long as there is work: long-poll, do the work, delete; under a lease, with bounded runtime."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenacity import Retrying, before_sleep_log, retry_if_exception_type, stop_after_delay, wait_random_exponential

from movierec_platform.adapters.leases import Lease
from movierec_platform.adapters.queues import BATCH_MESSAGES, Message, Queue
from movierec_platform.domain.drains import DrainPolicy
from movierec_platform.errors import MovierecError, Transient

POLL_S = 10
MESSAGES_AT_ONCE = 40
"""With one event in each, a pass over forty takes the graph about as long as one over ten."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain run did."""

    events: int
    messages: int
    left_because: str


def drain(
    queue: Queue, work: Callable[[Sequence[Message]], int], lease: Lease, run_id: str, policy: DrainPolicy
) -> DrainReport:
    """The report, after `linger_s` without work or `max_runtime_s` in all.

    Waits for the lease while a predecessor hands over. A message is deleted only after `work` has returned, so a
    killed run loses nothing. While a dependency is down the run retries in place with back-off: receiving again would
    count towards the five receives that make a message poison. A message that `work` cannot do costs only itself.
    """
    started_s = time.monotonic()
    with lease.held(run_id, timeout_s=policy.overlap_s + policy.grace_s):
        events = messages = 0
        ends_s = started_s + policy.max_runtime_s
        last_work_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            if now_s >= ends_s:
                return DrainReport(events, messages, "max_runtime")
            if now_s - last_work_s >= policy.linger_s:
                return DrainReport(events, messages, "idle")
            wait_s = min(POLL_S, policy.linger_s - (now_s - last_work_s), ends_s - now_s)
            received = _receive(queue, max(1, int(wait_s)), ends_s)
            if received:
                lease.note_work()  # before the work too: who has lost the lease does not do another batch
                count, done = _do(work, received, ends_s)
                _retrying(ends_s)(queue.delete, done)
                lease.note_work()
                events += count
                messages += len(done)
                last_work_s = time.monotonic()


def _receive(queue: Queue, wait_s: int, ends_s: float) -> list[Message]:
    """The messages of the next batch: the first few are waited for, more are taken while they are there."""
    received = part = _retrying(ends_s)(queue.receive, wait_s=wait_s)
    while len(part) == BATCH_MESSAGES and len(received) < MESSAGES_AT_ONCE:
        part = _retrying(ends_s)(queue.receive)
        received = received + part
    return received


def _do(
    work: Callable[[Sequence[Message]], int], messages: Sequence[Message], ends_s: float
) -> tuple[int, list[Message]]:
    """(events, messages that are done): all at once, or one by one when one of them meets a defect.

    That one stays in the queue: SQS hands it out again, and moves it to the dead-letter queue after five receives.
    """
    try:
        return _retrying(ends_s)(work, messages), list(messages)
    except MovierecError:
        raise
    except Exception:  # a defect: without this one message would hold up, and in the end poison, all others
        if len(messages) == 1:
            log.exception(
                "message %s stays in the queue, receive %d", messages[0].message_id, messages[0].receive_count
            )
            return 0, []
    one_by_one = [_do(work, [message], ends_s) for message in messages]
    return sum(count for count, _ in one_by_one), [message for _, done in one_by_one for message in done]


def _retrying(ends_s: float) -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(Transient),
        wait=wait_random_exponential(multiplier=0.2, max=10),
        stop=stop_after_delay(max(0.0, ends_s - time.monotonic())),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
