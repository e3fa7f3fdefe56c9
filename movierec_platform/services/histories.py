"""What users have seen, as fresh as the graph's change feed: read once, kept until the graph says that it changed.

A thread follows the feed several times a second. While it does, a history that is held is what the graph has, at most
FOLLOWING_S old, and costs no question to the graph. While it cannot, every request asks the graph itself, and where
that does not answer either, what was held last is given as `degraded`. Turns are counted by the graph, so that what
changed while nobody listened is learnt afterwards: no clock takes part.

A history that was being read when its change was announced may be of before or after it: it is answered, not kept.
"""

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass
from typing import TypeVar

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_changes import Changes, Position
from movierec_platform.adapters.graph_pairs import Watched
from movierec_platform.domain.ranking import History, history_of
from movierec_platform.errors import GraphUnavailable, UsageError
from movierec_platform.services.circuit import Circuit

log = logging.getLogger(__name__)

HISTORY_TIMEOUT_S = 2.0
RETRY_GRAPH_AFTER_S = 2.0
FOLLOWING_S = 1.0
"""Nothing heard of the feed for so long: held histories are not taken for fresh."""
READ_AGAIN_S = 600.0
"""However quiet the feed: against what somebody changed in the graph by hand, which no feed tells."""
SLOW_USERS = 3
"""So many users in a row whose history does not come in time: then it is the graph that is slow."""
READS_OF_ONE = 4
"""Reads of one user's history at one time, so that nobody takes all readers."""
USER_PAIRS = 50
"""What a user takes beside his pairs, in pairs."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Known:
    """A user's history; None: the graph does not answer and nothing is held. `degraded`: it may be an old one."""

    history: History | None
    degraded: bool


@dataclass(slots=True)
class _Held:
    history: History
    read_at_s: float
    fresh: bool


class _Reading:
    """A read under way; `overtaken` once a change was announced that it may have missed."""

    __slots__ = ("overtaken",)

    def __init__(self) -> None:
        self.overtaken = False


class _TooLate(GraphUnavailable):
    """The graph may be well, and the question too much for the time that there is."""


class Histories:
    """The histories of one graph, `most_pairs` pairs of them held, least recently asked out first. Thread-safe.

    A graph that refuses, or is late with the histories of SLOW_USERS, is taken for down, and asked again every couple
    of seconds. A history that alone is late costs its own user's requests, and is not asked for again until it is there
    or has failed. What is older than `oldest_s` is not given even as degraded.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        poll_s: float,
        most_pairs: int,
        oldest_s: float,
        threads: int = 16,
        timeout_s: float = HISTORY_TIMEOUT_S,
        retry_graph_after_s: float = RETRY_GRAPH_AFTER_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._graph = graph
        self._poll_s = poll_s
        self._most_pairs = most_pairs
        self._oldest_s = oldest_s
        self._timeout_s = timeout_s
        self._monotonic_s = monotonic_s
        self._circuit = Circuit(retry_graph_after_s, monotonic_s, distinct=SLOW_USERS)
        # The driver has no read timeout: a graph that hangs would hold a request for ever. Here it holds one of these.
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="history")
        self._feed = ThreadPoolExecutor(1, thread_name_prefix="feed")  # slow histories do not hold up the feed
        self._lock = threading.Condition(threading.Lock())
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._pairs = 0
        self._reading: dict[int, list[_Reading]] = {}
        self._late: Counter[int] = Counter()
        """Reads that nobody waits for any more, by user."""
        self._position: Position | None = None
        self._heard_at_s = float("-inf")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="changes", daemon=True)

    def start(self) -> None:
        """The feed is followed from now on; without, every request asks the graph."""
        self._thread.start()

    def close(self) -> None:
        """No more histories; a call in flight is not waited for."""
        self._closing.set()
        for threads in (self._readers, self._feed):
            threads.shutdown(wait=False, cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join(self._timeout_s)

    def of(self, user_id: int) -> Known:
        """What the user has visibly seen; empty for an unknown user."""
        with self._lock:
            held = self._held.get(user_id)
            if held is not None:
                self._held.move_to_end(user_id)
                if held.fresh and self._follows() and self._age_s(held) < READ_AGAIN_S:
                    return Known(held.history, degraded=False)
        return self._read(user_id, held)

    def users_from(self, first: int, n: int) -> list[tuple[int, int]]:
        """(id, movies seen) of the first `n` users from this id on. GraphUnavailable: it cannot be known."""
        if not self._circuit.may_ask():
            raise GraphUnavailable("the graph does not answer")
        try:
            found = self._answer(self._readers.submit(self._graph.users_from, first, n))
        except GraphUnavailable as error:
            self._circuit.failed("users" if isinstance(error, _TooLate) else None)
            raise
        self._circuit.succeeded()
        return found

    def hear(self) -> None:
        """What changed since the last time is held no longer. GraphUnavailable and UsageError: it cannot be known."""
        asked_at_s = self._monotonic_s()
        changes = self._answer(self._feed.submit(self._graph.changes, self._position))
        with self._lock:
            self._apply(changes)
            self._heard_at_s = asked_at_s

    def _apply(self, changes: Changes) -> None:
        users = list(self._held.keys() | self._reading.keys()) if changes.users is None else changes.users
        for user_id in users:
            if (held := self._held.get(user_id)) is not None:
                held.fresh = False  # not dropped: it is what there is if the graph goes down now
            for reading in self._reading.get(user_id, ()):
                reading.overtaken = True
        self._position = changes.position

    def _read(self, user_id: int, held: _Held | None) -> Known:
        if user_id in self._late or not self._circuit.may_ask():
            return self._last(held)
        reading = _Reading()
        with self._lock:
            self._lock.wait_for(lambda: user_id in self._late or self._may_read(user_id), self._timeout_s)
            if user_id in self._late or not self._may_read(user_id):
                return self._last(held)
            self._reading.setdefault(user_id, []).append(reading)
        read_at_s = self._monotonic_s()
        try:
            watched = self._history(user_id)
            history = history_of([(one.movie_id, one.rating, one.seen_at_ms) for one in watched])
        except (GraphUnavailable, UsageError) as error:
            self._circuit.failed(user_id if isinstance(error, _TooLate) else None)
            log.warning("recommending from what is held, the graph does not answer: %s", error)
            return self._last(held)
        finally:
            with self._lock:
                self._reading[user_id].remove(reading)
                if not self._reading[user_id]:
                    del self._reading[user_id]
                self._lock.notify_all()
        self._circuit.succeeded()
        with self._lock:
            self._hold(user_id, _Held(history, read_at_s, fresh=not reading.overtaken))
        return Known(history, degraded=False)

    def _may_read(self, user_id: int) -> bool:
        return len(self._reading.get(user_id, ())) < READS_OF_ONE

    def _history(self, user_id: int) -> list[Watched]:
        """What the graph has of the user; if it is late, nobody asks again before it has come."""
        asked = self._readers.submit(self._graph.history, user_id)
        try:
            return self._answer(asked)
        except _TooLate:
            with self._lock:
                self._late[user_id] += 1
            asked.add_done_callback(lambda _: self._came(user_id))
            raise

    def _came(self, user_id: int) -> None:
        with self._lock:
            self._late[user_id] -= 1
            if not self._late[user_id]:
                del self._late[user_id]

    def _answer(self, asked: Future[Answer]) -> Answer:
        """The graph's answer. Raises GraphUnavailable if there is none in time."""
        try:
            return asked.result(self._timeout_s)
        except TooSlow:
            asked.cancel()
            raise _TooLate(f"no answer within {self._timeout_s:g} s") from None

    def _hold(self, user_id: int, held: _Held) -> None:
        before = self._held.get(user_id)
        if before is not None:
            if before.read_at_s > held.read_at_s and before.fresh:  # a later read was quicker
                return
            self._pairs -= _size(self._held.pop(user_id))
        self._held[user_id] = held
        self._pairs += _size(held)
        while self._pairs > self._most_pairs and self._held:
            self._pairs -= _size(self._held.popitem(last=False)[1])

    def _last(self, held: _Held | None) -> Known:
        """What is held, however it stands; None if that is too old or nothing."""
        usable = held is not None and self._age_s(held) < self._oldest_s
        return Known(held.history if held is not None and usable else None, degraded=True)

    def _age_s(self, held: _Held) -> float:
        return self._monotonic_s() - held.read_at_s

    def _follows(self) -> bool:
        return self._monotonic_s() - self._heard_at_s < FOLLOWING_S

    def _follow(self) -> None:
        while not self._closing.wait(self._poll_s):
            if not self._circuit.may_ask():
                continue
            try:
                self.hear()
                self._circuit.succeeded()
            except (GraphUnavailable, UsageError):
                self._circuit.failed()
            except RuntimeError:  # the readers are shut down
                return
            except Exception:  # the outermost edge of this thread: without it changes would go unnoticed
                log.exception("the change feed is not followed, by a defect")


def _size(held: _Held) -> int:
    return len(held.history.movie_ids) + USER_PAIRS
