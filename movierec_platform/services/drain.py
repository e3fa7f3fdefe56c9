"""Drains a queue for as long as there is work: long-poll, do the work, delete; under a lease, with bounded runtime.

An outage is never poison: nothing is received until the dependencies answer, and what is in hand when one of them goes
down stays hidden and is tried again, then given back. Only defects count against a message, and are counted here.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tenacity import (
    RetryCallState,
    Retrying,
    before_sleep_log,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from movierec_platform.adapters.defects import DefectsTable
from movierec_platform.adapters.leases import Lease
from movierec_platform.adapters.queues import BATCH_MESSAGES, Message, Queue, QueueName, Queues
from movierec_platform.adapters.state import State
from movierec_platform.domain.drains import MOST_DEFECTS, DrainPolicy, is_suspect
from movierec_platform.errors import MessageRefused, MovierecError, QueueUnavailable, Transient

POLL_S = 10
MESSAGES_AT_ONCE = 40
"""With one event in each, a pass over forty takes the graph about as long as one over ten."""
HELD_S = 120
"""So long messages in hand stay hidden after each failure of a dependency: longer than one more try takes."""
LONGEST_KEPT_MS = 14 * 24 * 3600 * 1000
"""No queue keeps a message for longer."""

log = logging.getLogger(__name__)

Do = Callable[[Sequence[Message]], int]


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain run did."""

    events: int
    messages: int
    left_because: str


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with the messages of one queue."""

    do: Do
    """Returns how many events there were, once the messages may be deleted. The same again changes nothing."""
    ready: Callable[[], None]
    """Raises Transient while something that `do` needs does not answer."""
    defects: DefectsTable
    give_up: Callable[[Message], None] | None
    """Puts a message that keeps meeting a defect aside, whole; None: it stays in the queue."""


def work_on(name: QueueName, do: Do, ready: Callable[[], None], state: State, queues: Queues) -> Work:
    """What is given up goes to the dlq queue, whole; what that queue itself holds stays there."""

    def give_up(message: Message) -> None:
        queues.dlq.send([message.body])

    return Work(do, ready, state.defects, None if name == "dlq" else give_up)


def drain(queue: Queue, work: Work, lease: Lease, run_id: str, policy: DrainPolicy) -> DrainReport:
    """The report, after `linger_s` without work, or none while another waits for the lease, or `max_runtime_s` in all.

    Waits for the lease while a predecessor hands over, then until `work` is ready. A message is deleted only after the
    work on it has returned, so a killed run loses nothing. While a dependency is down the run retries in place with
    back-off, and raises Transient at its end. A message that meets a defect costs only itself.
    """
    started_s = time.monotonic()
    with lease.held(run_id, timeout_s=policy.overlap_s + policy.grace_s):
        ends_s = started_s + policy.max_runtime_s
        _retrying(ends_s)(work.ready)
        with suppress(Transient):  # the next run does it
            work.defects.forget_before(time.time_ns() // 1_000_000 - LONGEST_KEPT_MS)
        batches = _Batches(queue, work, ends_s)
        events = messages = 0
        last_work_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            if now_s >= ends_s:
                return DrainReport(events, messages, "max_runtime")
            if now_s - last_work_s >= policy.linger_s:
                return DrainReport(events, messages, "idle")
            wait_s = min(POLL_S, policy.linger_s - (now_s - last_work_s), ends_s - now_s)
            received = batches.receive(max(1, int(wait_s)))
            if received:
                lease.note_work()  # before the work too: who has lost the lease does not do another batch
                count, done = batches.do(received)
                _retrying(ends_s)(queue.delete, done)
                lease.note_work()
                events += count
                messages += len(done)
                last_work_s = time.monotonic()
            elif lease.is_wanted():
                return DrainReport(events, messages, "idle")


class _Defect(Exception):
    """The work on a message cannot be done, whenever it is tried."""


@dataclass(frozen=True)
class _Batches:
    """The work on one queue's messages until the run ends."""

    queue: Queue
    work: Work
    ends_s: float

    def receive(self, wait_s: int) -> list[Message]:
        """The messages of the next batch: the first few are waited for, more are taken while they are there."""
        received = part = _retrying(self.ends_s)(self.queue.receive, wait_s=wait_s)
        while len(part) == BATCH_MESSAGES and len(received) < MESSAGES_AT_ONCE:
            part = _retrying(self.ends_s)(self.queue.receive)
            received = received + part
        return received

    def do(self, messages: Sequence[Message]) -> tuple[int, list[Message]]:
        """(events, messages that are done). Where the work cannot go on, all are given back."""
        try:
            return self._do(messages)
        except MovierecError:
            self._hide(messages, 0)
            raise

    def _do(self, messages: Sequence[Message]) -> tuple[int, list[Message]]:
        """All at once, or one by one when one of them meets a defect; suspects by themselves in any case."""
        suspects = [message for message in messages if is_suspect(message.receive_count)]
        others = [message for message in messages if not is_suspect(message.receive_count)]
        try:
            count, done = (self._tried(others, messages), others) if others else (0, [])
        except MovierecError:
            raise
        except Exception:  # a defect: which message meets it is found out one by one
            log.warning("the work on %d messages met a defect: each is worked on by itself", len(others))
            suspects, count, done = list(messages), 0, []
        done = list(done)
        for message in suspects:
            events, is_done = self._do_alone(message, messages)
            count += events
            done += [message] if is_done else []
        return count, done

    def _do_alone(self, message: Message, in_hand: Sequence[Message]) -> tuple[int, bool]:
        """(events, whether the message is done). The attempt is counted unless a dependency's outage ends it."""
        defects, name = self.work.defects, (self.queue.name, message.message_id)
        attempts = self._retry(in_hand)(defects.begin, *name, message.sent_at_ms)
        if attempts > MOST_DEFECTS:  # the last one killed its process
            return 0, self._gave_up(message, in_hand)
        try:
            events = self._tried([message], in_hand)
        except MovierecError:
            with suppress(Transient):
                defects.take_back(*name)
            raise
        except Exception:  # the outermost edge of the work on this message
            log.exception("message %s met a defect, attempt %d", message.message_id, attempts)
            return 0, attempts == MOST_DEFECTS and self._gave_up(message, in_hand)
        self._retry(in_hand)(defects.forget, *name)
        return events, True

    def _gave_up(self, message: Message, in_hand: Sequence[Message]) -> bool:
        """Whether the message was put aside; else it stays in the queue."""
        if self.work.give_up is None:
            return False
        try:
            self._retry(in_hand)(self.work.give_up, message)
        except MessageRefused:
            log.exception("message %s stays in the queue", message.message_id)
            return False
        self._retry(in_hand)(self.work.defects.forget, self.queue.name, message.message_id)
        return True

    def _tried(self, messages: Sequence[Message], in_hand: Sequence[Message]) -> int:
        try:
            return self._retry(in_hand)(self.work.do, messages)
        except MessageRefused as error:  # what came of a message is at fault: it concerns no other
            raise _Defect(str(error)) from error

    def _retry(self, in_hand: Sequence[Message]) -> Retrying:
        """Tries again while a dependency is down; all that this run has in hand stays hidden meanwhile."""
        return _retrying(self.ends_s, lambda: self._hide(in_hand, HELD_S))

    def _hide(self, messages: Sequence[Message], seconds: int) -> None:
        try:
            self.queue.hide(messages, seconds)
        except QueueUnavailable as error:  # then they come back when their time is over: that costs a receive, no more
            log.warning("%d messages are not hidden for %d s: %s", len(messages), seconds, error)


def _retrying(ends_s: float, meanwhile: Callable[[], None] = lambda: None) -> Retrying:
    say = before_sleep_log(log, logging.WARNING)

    def before_sleep(state: RetryCallState) -> None:
        say(state)
        meanwhile()

    return Retrying(
        retry=retry_if_exception_type(Transient),
        wait=wait_random_exponential(multiplier=0.2, max=10),
        stop=stop_after_delay(max(0.0, ends_s - time.monotonic())),
        before_sleep=before_sleep,
        reraise=True,
    )
