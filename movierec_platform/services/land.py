"""Lands posted events: one S3 object and packed queue messages, both durable before anybody is told so."""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.adapters.queues import Queue, open_queue
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.envelope import EVENT_BYTES, encode, pack, raw_key, raw_object
from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import judge
from movierec_platform.errors import LandingBusy, StateUnavailable, TooLarge

COMMIT_EVENTS = 5_000
"""Events in one raw object, unless a single request brings more."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was landed for one request. `event_ids[i]` is None where the gate will refuse event i and it has no id."""

    batch_id: str
    received_at_ms: int
    event_ids: list[str | None]


@dataclass(frozen=True, slots=True)
class _Request:
    events: Sequence[Any]
    encoded: list[bytes]
    arrived_at_ms: int
    receipt: "Future[Receipt]"


class Lander:
    """Commits requests in groups: those that arrive while one commit is under way share the next.

    An idle lander commits at once; under load the groups grow by themselves. Thread-safe; its thread starts with the
    first request.
    """

    def __init__(self, settings: Settings, source: str = "api") -> None:
        self._objects: ObjectStore = open_objects(settings)
        self._raw: Queue = open_queue(settings, "raw")
        self._state = State.open(settings)
        self._source = source
        self._limit = settings.landing_pending_events
        self._pending: deque[_Request] = deque()
        self._pending_events = 0
        self._uncounted = 0
        self._changed = threading.Condition()
        self._closed = False
        self._committer: threading.Thread | None = None
        self._writers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="land")

    def land(self, events: Sequence[Any]) -> Receipt:
        """The receipt, once the events are durable in S3 and in the raw queue.

        Raises TooLarge for an event over 64 KiB, LandingBusy when too many events wait, QueueUnavailable or
        ObjectStoreUnavailable when either side failed: then nothing is promised, and posting again is harmless.
        """
        encoded = [encode(event) for event in events]
        for index, one in enumerate(encoded):
            if len(one) > EVENT_BYTES:
                raise TooLarge(f"event {index} has {len(one)} bytes; an event has {EVENT_BYTES} at most")
        request = _Request(events, encoded, _now_ms(), Future())
        with self._changed:
            if self._closed:
                raise LandingBusy("the API is stopping; post the events again in a moment")
            if self._pending_events + len(events) > self._limit:
                raise LandingBusy(f"{self._pending_events} events wait to be landed already; post these again later")
            self._pending.append(request)
            self._pending_events += len(events)
            if self._committer is None:
                self._committer = threading.Thread(target=self._commit_forever, name="lander", daemon=True)
                self._committer.start()
            self._changed.notify()
        return request.receipt.result()

    def close(self) -> None:
        """Everything that was taken is landed; later requests are refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._committer is not None:
            self._committer.join()
        self._writers.shutdown()
        self._state.close()

    def _commit_forever(self) -> None:
        while group := self._next_group():
            try:
                self._commit(group)
            except Exception as error:  # the outermost edge of this thread: each waiting request gets the error
                for request in group:
                    request.receipt.set_exception(error)
            else:
                self._count(sum(len(request.events) for request in group))

    def _next_group(self) -> list[_Request]:
        """The requests of the next commit; empty when the lander is closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            group: list[_Request] = []
            size = 0
            while self._pending and (not group or size + len(self._pending[0].events) <= COMMIT_EVENTS):
                request = self._pending.popleft()
                group.append(request)
                size += len(request.events)
            self._pending_events -= size
            return group

    def _commit(self, group: Sequence[_Request]) -> None:
        """Writes the group's object and messages side by side, then hands out the receipts."""
        received_at_ms = min(request.arrived_at_ms for request in group)
        batch_id = uuid.uuid4().hex
        key = raw_key(received_at_ms, batch_id)
        encoded = [event for request in group for event in request.encoded]
        messages = pack(key, received_at_ms, encoded, range(len(encoded)))
        writes = [
            self._writers.submit(self._objects.put, key, raw_object(encoded, received_at_ms, self._source)),
            self._writers.submit(self._raw.send, messages),
        ]
        for error in [write.exception() for write in writes]:
            if error is not None:
                raise error
        ids = [[_event_id(event, received_at_ms) for event in request.events] for request in group]
        for request, event_ids in zip(group, ids, strict=True):
            request.receipt.set_result(Receipt(batch_id, received_at_ms, event_ids))

    def _count(self, landed: int) -> None:
        """Adds to the durable counter; while the state database is away the sum waits here."""
        self._uncounted += landed
        try:
            self._state.add({("movierec_events_landed_total", ()): self._uncounted})
            self._uncounted = 0
        except StateUnavailable as error:
            log.warning("%d landed events are not counted yet: %s", self._uncounted, error)


def _event_id(event: Any, received_at_ms: int) -> str | None:
    """The id that the gate will give this event."""
    if isinstance(event, dict) and isinstance(given := event.get("event_id"), str):
        return given
    verdict = judge(event, received_at_ms)
    return verdict.event_id if isinstance(verdict, Event) else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
