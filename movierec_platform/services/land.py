"""Lands posted events: one S3 object and packed queue messages, both durable before anybody is told so."""

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.adapters.queues import Queue, open_queue
from movierec_platform.adapters.traces import current_trace, span
from movierec_platform.config import Settings
from movierec_platform.domain.budget import LANDING_S
from movierec_platform.domain.envelope import Carried, pack, raw_key, raw_object, unpack
from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import judge
from movierec_platform.domain.json_text import NotLandable, landable
from movierec_platform.errors import LandingBusy, MessageRefused, TooLarge

COMMIT_EVENTS = 5_000
"""Events in one raw object, unless a single request brings more."""
MOST_WAIT_S = LANDING_S / 2
"""Of a request before its commit begins; the rest is for that."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was landed for one request. `event_ids[i]` is None where the gate will refuse event i and it has no id."""

    batch_id: str
    received_at_ms: int
    event_ids: list[str | None]


class _Request:
    """The encoded events of one request, and how its thread hears what became of them."""

    __slots__ = (
        "arrived_at_ms",
        "arrived_s",
        "batch_id",
        "encoded",
        "failure",
        "landed",
        "received_at_ms",
        "request_id",
        "size_bytes",
        "trace",
    )

    def __init__(self, encoded: list[bytes], arrived_at_ms: int, arrived_s: float, request_id: str | None) -> None:
        self.encoded = encoded
        self.request_id = request_id
        self.trace = current_trace()
        self.size_bytes = sum(map(len, encoded))
        self.arrived_at_ms = arrived_at_ms
        self.arrived_s = arrived_s  # of the monotonic clock
        self.batch_id = ""
        self.received_at_ms = 0
        self.failure: BaseException | None = None
        # A bare lock, released once: a Future for each request costs ten times as much.
        self.landed = threading.Lock()
        self.landed.acquire()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Lander:
    """Commits requests in groups: those that arrive while one commit is under way share the next.

    An idle lander commits at once. Under load it waits a few milliseconds for those who were just answered to return,
    so that one commit serves them all. Thread-safe; its thread starts with the first request.
    """

    def __init__(
        self,
        settings: Settings,
        source: str = "api",
        clock_ms: Callable[[], int] = _now_ms,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock_ms` gives the time received (epoch ms); it may jump either way."""
        self._clock_ms = clock_ms
        self._monotonic_s = monotonic_s
        self._objects: ObjectStore = open_objects(settings)
        self._raw: Queue = open_queue(settings, "raw")
        self._source = source
        self._most_events = settings.landing_pending_events
        self._most_bytes = settings.landing_pending_bytes
        self._gather_s = settings.landing_gather_ms / 1000
        self._pending: deque[_Request] = deque()
        self._held_events = 0
        self._held_bytes = 0
        self._wanted = 1
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self._committer: threading.Thread | None = None

    def land(self, events: Sequence[Any], request_id: str | None = None) -> Receipt:
        """The receipt, once the events are durable in S3 and in the raw queue; the request's id goes with them.

        Raises TooLarge for an event over 64 KiB or too deep, LandingBusy when too many events or bytes wait,
        QueueUnavailable or ObjectStoreUnavailable when either side failed: then nothing is promised, and posting again
        is harmless.
        """
        try:
            encoded = landable(events)
        except NotLandable as error:
            raise TooLarge(str(error)) from error
        request = _Request(encoded, self._clock_ms(), self._monotonic_s(), request_id)
        self._take(request)
        request.landed.acquire()
        if request.failure is not None:
            raise request.failure
        ids = [_event_id(event, request.received_at_ms) for event in events]
        return Receipt(request.batch_id, request.received_at_ms, ids)

    def close(self) -> None:
        """Everything that was taken is landed; later requests are refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._committer is not None:
            self._committer.join()

    def _take(self, request: _Request) -> None:
        """The request is among those that will be committed."""
        with self._changed:
            if self._closed:
                raise LandingBusy("the API is stopping; post the events again in a moment")
            events, size = self._held_events + len(request.encoded), self._held_bytes + request.size_bytes
            if events > self._most_events or size > self._most_bytes:
                raise LandingBusy(
                    f"{self._held_events} events of {self._held_bytes} bytes wait to be landed already;"
                    " post these again later"
                )
            self._held_events, self._held_bytes = events, size
            self._pending.append(request)
            if self._committer is None:
                self._committer = threading.Thread(target=self._commit_forever, name="lander", daemon=True)
                self._committer.start()
            if len(self._pending) == 1 or len(self._pending) == self._wanted:  # what the committer waits for
                self._changed.notify()

    def _commit_forever(self) -> None:
        while group := self._next_group():
            begun_s = self._monotonic_s()
            late = [request for request in group if begun_s - request.arrived_s > MOST_WAIT_S]
            self._release(late, LandingBusy("too many events wait to be landed; post these again later"))
            failure: BaseException | None = None
            rest = [request for request in group if request not in late]
            try:
                self._commit(rest)
            except Exception as error:  # the outermost edge of this thread: each waiting request gets the error
                failure = error
            self._release(rest, failure)

    def _next_group(self) -> list[_Request]:
        """The requests of the next commit; empty when the lander is closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            self._changed.wait_for(lambda: len(self._pending) >= self._wanted or self._closed, self._gather_s)
            group: list[_Request] = []
            size = 0
            while self._pending and (not group or size + len(self._pending[0].encoded) <= COMMIT_EVENTS):
                request = self._pending.popleft()
                group.append(request)
                size += len(request.encoded)
            return group

    def _commit(self, group: Sequence[_Request]) -> None:
        """The group's object and messages are durable.

        The object first: what is on the queue takes effect, and the lake has to have it even if this process is killed
        between the two, or S3 is down. An object without messages is only a replay away from the graph.
        """
        if not group:
            return
        ends_s = min(request.arrived_s for request in group) + LANDING_S
        received_at_ms = min(request.arrived_at_ms for request in group)
        batch_id = uuid.uuid4().hex
        key = raw_key(received_at_ms, batch_id)
        encoded = [event for request in group for event in request.encoded]
        with span("land", [request.trace for request in group], events=len(encoded), batch_id=batch_id):
            carried = Carried(tuple(one.request_id for one in group if one.request_id), current_trace())
            self._objects.put(key, raw_object(encoded, received_at_ms, self._source))
            try:
                self._raw.send(pack(key, received_at_ms, encoded, range(len(encoded)), carried), ends_s)
            except MessageRefused as refused:
                _blame(group, refused)
        for request in group:
            request.batch_id, request.received_at_ms = batch_id, received_at_ms

    def _release(self, group: Sequence[_Request], failure: BaseException | None) -> None:
        """Each request's thread goes on; the next commit would like to serve them and those that wait already."""
        with self._changed:
            self._held_events -= sum(len(request.encoded) for request in group)
            self._held_bytes -= sum(request.size_bytes for request in group)
            self._wanted = len(self._pending) + len(group)
        for request in group:
            request.failure = request.failure or failure
            request.landed.release()


def _blame(group: Sequence[_Request], refused: MessageRefused) -> None:
    """The requests whose events are in the refused messages have failed; the others have not."""
    opened = [unpack(body) for body in refused.bodies]
    lost = {line for envelope in opened if envelope for line in envelope.lines}
    start = 0
    for request in group:
        end = start + len(request.encoded)
        if not lost.isdisjoint(range(start, end)):
            request.failure = TooLarge(f"the queue takes no message with these events: {refused}")
        start = end


def _event_id(event: Any, received_at_ms: int) -> str | None:
    """The id that the gate will give this event."""
    if isinstance(event, dict) and isinstance(given := event.get("event_id"), str):
        return given
    verdict = judge(event, received_at_ms)
    return verdict.event_id if isinstance(verdict, Event) else None
