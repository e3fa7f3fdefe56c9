"""Writes accepted events into the graph; events of unknown movies go to the dlq queue."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.queues import Message, Queues
from movierec_platform.adapters.state import State, Tally
from movierec_platform.adapters.traces import record_span
from movierec_platform.domain.envelope import Carried, Refused, Rejections, batch_id_of, pack_rejections, unpack
from movierec_platform.domain.events import Event
from movierec_platform.domain.freshness import CounterKey, observe
from movierec_platform.domain.gate import Rejected, judge_all
from movierec_platform.domain.registers import fold
from movierec_platform.services.steps import Once, Steps

log = logging.getLogger(__name__)


class _Origin(NamedTuple):
    """The message that an event came in: which of those at hand, its raw object, when that was received, and the line
    of its first event."""

    number: int
    """SQS may hand a message out twice at once: each is counted by itself, and the state takes one of the two."""
    raw_key: str
    received_at_ms: int
    first_line: int
    carried: Carried


@dataclass(frozen=True, slots=True)
class _Incoming:
    """One accepted event, the message that it came in, and the line of the raw object that it stands on."""

    event: Event
    origin: _Origin
    line: int


@dataclass(frozen=True, slots=True)
class GraphIngest:
    """The one writer of ratings between the clean queue and the graph."""

    queues: Queues
    graph: Graph
    state: State
    batch_events: int
    steps: Steps = field(default_factory=Steps)

    def write(self, messages: Sequence[Message]) -> int:
        """Every event of these messages is in the graph or in the dlq queue; returns how many were written.

        One transaction a batch. A message that the gate cannot have sent goes to the dlq queue whole, as poison. The
        caller deletes the messages afterwards: one that comes again changes nothing. When a step fails, the next call
        with these messages goes on with that step.
        """
        began_at_ns = time.time_ns()
        counts: dict[_Origin, Counter[CounterKey]] = defaultdict(Counter)
        opened = [(message, _incoming(number, message)) for number, message in enumerate(messages)]
        events = [one for _, events in opened for one in events or ()]
        with self.steps.of([message.receipt for message in messages]) as once:
            once("poison", self.queues.dlq.send, [message.body for message, events in opened if events is None])
            for start in range(0, len(events), self.batch_events):
                self._write(events[start : start + self.batch_events], start, once, counts)
            tallies = [
                Tally("graph", origin.raw_key, origin.first_line, origin.received_at_ms, counted)
                for origin, counted in counts.items()
            ]
            once("tally", self.state.add_once, tallies)
        for origin, counted in counts.items():
            _tell(origin, counted, began_at_ns)
        return len(events)

    def ready(self) -> None:
        """Raises Transient while something that `write` needs does not answer, and UsageError as the graph does."""
        self.graph.ping()
        self.state.ping()
        self.queues.dlq.depth()

    def _write(
        self, batch: Sequence[_Incoming], start: int, once: Once, counts: MutableMapping[_Origin, Counter[CounterKey]]
    ) -> None:
        """The events of a batch, the first of which is number `start`, are in the graph or in the dlq queue."""
        unknown, committed_at_ms = once(f"graph from {start}", self._commit, batch)
        lost = [one for one in batch if one.event.movie_id in unknown]
        refused = [body for rejections in _unknown_movies(lost) for body in pack_rejections(rejections)]
        once(f"dlq from {start}", self.queues.dlq.send, refused)
        for origin, ones in groupby(batch, key=lambda one: one.origin):
            known = Counter(one.event.movie_id not in unknown for one in ones)
            counts[origin] += _counts(known, (committed_at_ms - origin.received_at_ms) / 1000)

    def _commit(self, batch: Sequence[_Incoming]) -> tuple[Collection[int], int]:
        """(the movies that the graph lacks, when the rest was committed)"""
        unknown = self.graph.apply_pairs(fold(one.event for one in batch))
        return unknown, time.time_ns() // 1_000_000


def _counts(known: Mapping[bool, int], seconds: float) -> Counter[CounterKey]:
    """What so many events of known movies, and of unknown ones, add to the counters `seconds` after they came."""
    counts = observe(seconds, known[True])
    counts["movierec_events_ingested_total", ()] += known[True]
    counts["movierec_events_rejected_total", (("reason", "unknown_movie"),)] += known[False]
    return counts


def _tell(origin: _Origin, counted: Mapping[CounterKey, float], began_at_ns: int) -> None:
    """Log and traces say what became of a message."""
    batch_id = batch_id_of(origin.raw_key)
    written = int(counted["movierec_events_ingested_total", ()])
    unknown = int(counted["movierec_events_rejected_total", (("reason", "unknown_movie"),)])
    log.info(
        {
            "message": "written to the graph",
            "batch_id": batch_id,
            "request_ids": origin.carried.requests,
            "written": written,
            "unknown_movie": unknown,
            "since_received_ms": time.time_ns() // 1_000_000 - origin.received_at_ms,
        }
    )
    record_span("ingest_graph", began_at_ns, origin.carried.trace, batch_id=batch_id, written=written)


def _incoming(number: int, message: Message) -> list[_Incoming] | None:
    """The events of a clean message; None when the gate cannot have sent it."""
    envelope = unpack(message.body)
    if envelope is None:
        return None
    first_line = envelope.lines[0] if envelope.lines else 0
    origin = _Origin(number, envelope.raw_key, envelope.received_at_ms, first_line, envelope.carried)
    incoming = []
    verdicts = judge_all(envelope.events, envelope.received_at_ms)
    for line, event in zip(envelope.lines, verdicts, strict=True):
        if isinstance(event, Rejected):
            return None
        incoming.append(_Incoming(event, origin, line))
    return incoming


def _unknown_movies(lost: Sequence[_Incoming]) -> list[Rejections]:
    """The rejections of these events, by the raw object that each was landed in."""
    refused: dict[tuple[str, int, Carried], list[Refused]] = {}
    for one in lost:
        movie_id = one.event.movie_id
        rejection = Rejected.unknown_movie(movie_id)
        body = one.event.to_json().decode()
        origin = (one.origin.raw_key, one.origin.received_at_ms, one.origin.carried)
        refused.setdefault(origin, []).append(Refused(one.line, rejection, body))
    return [
        Rejections(key, received_at_ms, tuple(ones), carried)
        for (key, received_at_ms, carried), ones in refused.items()
    ]
