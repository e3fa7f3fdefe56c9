"""Writes accepted events into the graph; events of unknown movies go to the dlq queue."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.queues import Message, Queues
from movierec_platform.adapters.state import State
from movierec_platform.domain.envelope import Refused, Rejections, pack_rejections, unpack
from movierec_platform.domain.events import Event
from movierec_platform.domain.freshness import CounterKey, observe
from movierec_platform.domain.gate import Rejected, judge_all
from movierec_platform.domain.registers import fold


@dataclass(frozen=True, slots=True)
class _Incoming:
    """One accepted event and where it was landed."""

    event: Event
    raw_key: str
    received_at_ms: int
    line: int


@dataclass(frozen=True, slots=True)
class GraphIngest:
    """The one writer of ratings between the clean queue and the graph."""

    queues: Queues
    graph: Graph
    state: State
    batch_events: int

    def write(self, messages: Sequence[Message]) -> int:
        """Every event of these messages is in the graph or in the dlq queue; returns how many were written.

        One transaction a batch. A message that the gate cannot have sent goes to the dlq queue whole, as poison. The
        caller deletes the messages afterwards: one that comes again changes nothing.
        """
        written = 0
        opened = [(message, _incoming(message)) for message in messages]
        self.queues.dlq.send([message.body for message, events in opened if events is None])
        incoming = iter([one for _, events in opened for one in events or ()])
        while batch := list(islice(incoming, self.batch_events)):
            unknown = self.graph.apply_pairs(fold(one.event for one in batch))
            committed_at_ms = time.time_ns() // 1_000_000
            lost = [one for one in batch if one.event.movie_id in unknown]
            kept = [one for one in batch if one.event.movie_id not in unknown]
            self.queues.dlq.send([body for rejections in _unknown_movies(lost) for body in pack_rejections(rejections)])
            counts: Counter[CounterKey] = Counter(
                {
                    ("movierec_events_ingested_total", ()): len(kept),
                    ("movierec_events_rejected_total", (("reason", "unknown_movie"),)): len(lost),
                }
            )
            counts.update(observe((committed_at_ms - one.received_at_ms) / 1000 for one in kept))
            self.state.add(counts)
            written += len(batch)
        return written


def _incoming(message: Message) -> list[_Incoming] | None:
    """The events of a clean message; None when the gate cannot have sent it."""
    envelope = unpack(message.body)
    if envelope is None:
        return None
    incoming = []
    verdicts = judge_all(envelope.events, envelope.received_at_ms)
    for line, event in zip(envelope.lines, verdicts, strict=True):
        if isinstance(event, Rejected):
            return None
        incoming.append(_Incoming(event, envelope.raw_key, envelope.received_at_ms, line))
    return incoming


def _unknown_movies(lost: Sequence[_Incoming]) -> list[Rejections]:
    """The rejections of these events, by the raw object that each was landed in."""
    refused: dict[tuple[str, int], list[Refused]] = {}
    for one in lost:
        movie_id = one.event.movie_id
        rejection = Rejected("unknown_movie", "movie_id", f"movie {movie_id} is not in the catalogue")
        body = one.event.to_json().decode()
        refused.setdefault((one.raw_key, one.received_at_ms), []).append(Refused(one.line, rejection, body))
    return [Rejections(key, received_at_ms, tuple(ones)) for (key, received_at_ms), ones in refused.items()]
