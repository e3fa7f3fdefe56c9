"""Passes raw messages through the quality gate: accepted events to the clean queue, refused ones to the dlq queue."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from movierec_platform.adapters.objects import ObjectStore
from movierec_platform.adapters.queues import Message, Queues
from movierec_platform.adapters.state import State, Tally
from movierec_platform.adapters.traces import record_span
from movierec_platform.domain.envelope import (
    Envelope,
    Refused,
    Rejections,
    batch_id_of,
    message_borders,
    newer_version,
    pack,
    pack_rejections,
    raw_key,
    raw_object,
    unpack,
    unpack_rejections,
)
from movierec_platform.domain.events import Event
from movierec_platform.domain.freshness import GATE, CounterKey, observe
from movierec_platform.domain.gate import KNOWN_FIELDS, Rejected, judge_all, parse_json
from movierec_platform.domain.json_text import NotLandable, encode, landable
from movierec_platform.domain.producers import MOST_WRAPS, carried_by
from movierec_platform.services.steps import Steps

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate between the raw queue, the clean queue and the dlq queue."""

    queues: Queues
    objects: ObjectStore
    state: State
    steps: Steps = field(default_factory=Steps)

    def pass_on(self, messages: Sequence[Message]) -> int:
        """Every event of these messages is in the clean or in the dlq queue; returns how many events there were.

        The caller deletes the messages afterwards: one that comes again is judged the same and changes nothing.
        Messages of a newer release, refused events that a redrive has sent here, and what cannot be landed go to the
        dlq queue whole. When a step fails, the next call with these messages goes on with that step.
        """
        began_at_ns = time.time_ns()
        whole: list[str] = []
        judged: list[tuple[Envelope, _Verdicts]] = []
        for message in messages:
            envelopes = self._landed(message)
            if envelopes is None:
                whole.append(message.body)
            else:
                judged += [(envelope, _judge_all(envelope)) for envelope in envelopes]
        with self.steps.of([message.receipt for message in messages]) as once:
            once("clean", self.queues.clean.send, [body for _, verdicts in judged for body in verdicts.accepted])
            once("dlq", self.queues.dlq.send, whole + [body for _, verdicts in judged for body in verdicts.refused])
            passed_at_ms = once("passed", lambda: time.time_ns() // 1_000_000)
            tallies = [
                _tally(envelope, verdicts.counts, passed_at_ms) for envelope, verdicts in judged if envelope.lines
            ]
            once("tally", self.state.add_once, tallies)
        for envelope, verdicts in judged:
            _tell(envelope, verdicts.counts["movierec_events_accepted_total", ()], began_at_ns, passed_at_ms)
        return sum(len(envelope.events) for envelope, _ in judged)

    def ready(self) -> None:
        """Raises Transient while something that `pass_on` needs does not answer."""
        self.state.ping()
        self.objects.answers()
        self.queues.clean.depth()
        self.queues.dlq.depth()

    def _landed(self, message: Message) -> list[Envelope] | None:
        """The events of this message, which are landed; None for a message that goes to the dlq queue whole."""
        envelope = unpack(message.body)
        if envelope is not None:
            return [envelope]
        if newer_version(message.body) or unpack_rejections(message.body):
            return None
        return self._land_bare(message)

    def _land_bare(self, message: Message) -> list[Envelope] | None:
        """The events that another producer put on the queue, landed as the API would have; the same again next time.

        In the pieces that a replay would send, so that those are counted once. None if they cannot be landed.
        """
        value = parse_json(message.body)
        if isinstance(value, Rejected):
            value = _NotJson(message.body, value)
        value = _opened(value)
        events = value if isinstance(value, list) else [value]
        try:
            encoded = landable([event.body if isinstance(event, _NotJson) else event for event in events])
        except NotLandable as error:
            log.warning("message %s cannot be landed: %s; it goes to the dlq queue whole", message.message_id, error)
            return None
        key = raw_key(message.sent_at_ms, message.message_id)
        self.objects.put(key, raw_object(encoded, message.sent_at_ms, source="queue"))
        return [
            Envelope(key, message.sent_at_ms, events[start:end], range(start, end))
            for start, end in message_borders(encoded)
        ]


def _opened(value: Any) -> Any:
    """What SNS and EventBridge, one in the other perhaps, have put their envelope around; anything else as it is."""
    for _ in range(MOST_WRAPS):
        carried = carried_by(value)
        carried = parse_json(carried) if isinstance(carried, str) else carried
        if carried is None or isinstance(carried, Rejected):
            break
        value = carried
    return value


@dataclass(frozen=True, slots=True)
class _NotJson:
    """A message body that is no JSON; it is landed as a JSON string."""

    body: str
    rejection: Rejected


@dataclass(frozen=True, slots=True)
class _Verdicts:
    accepted: list[str]
    refused: list[str]
    counts: Counter[CounterKey]


def _judge_all(envelope: Envelope) -> _Verdicts:
    """The messages for either queue, and what to count."""
    accepted: list[bytes] = []
    lines: list[int] = []
    refused: list[Refused] = []
    ignored = 0
    verdicts = judge_all(envelope.events, envelope.received_at_ms)
    for line, raw, verdict in zip(envelope.lines, envelope.events, verdicts, strict=True):
        if isinstance(verdict, Event):
            accepted.append(verdict.to_json())
            lines.append(line)
            if not KNOWN_FIELDS.issuperset(raw):
                ignored += len(raw.keys() - KNOWN_FIELDS)
        else:
            refused.append(Refused(line, raw.rejection if isinstance(raw, _NotJson) else verdict, _body(raw)))
    counts: Counter[CounterKey] = Counter(
        ("movierec_events_rejected_total", (("reason", one.rejection.reason_code),)) for one in refused
    )
    counts["movierec_events_landed_total", ()] = len(envelope.events)
    counts["movierec_events_accepted_total", ()] = len(accepted)
    counts["movierec_fields_ignored_total", ()] = ignored
    return _Verdicts(
        accepted=pack(envelope.raw_key, envelope.received_at_ms, accepted, lines, envelope.carried),
        refused=pack_rejections(Rejections(envelope.raw_key, envelope.received_at_ms, refused, envelope.carried)),
        counts=counts,
    )


def _tally(envelope: Envelope, counts: Counter[CounterKey], passed_at_ms: int) -> Tally:
    """What a message that passed the gate then adds to the counters."""
    counts.update(observe((passed_at_ms - envelope.received_at_ms) / 1000, len(envelope.events), GATE))
    return Tally("gate", envelope.raw_key, envelope.lines[0], envelope.received_at_ms, counts)


def _tell(envelope: Envelope, accepted: int, began_at_ns: int, passed_at_ms: int) -> None:
    """Log and traces say what became of a message."""
    batch_id, refused = batch_id_of(envelope.raw_key), len(envelope.events) - accepted
    log.info(
        {
            "message": "judged",
            "batch_id": batch_id,
            "request_ids": envelope.carried.requests,
            "accepted": accepted,
            "refused": refused,
            "since_received_ms": passed_at_ms - envelope.received_at_ms,
        }
    )
    record_span("gate", began_at_ns, envelope.carried.trace, batch_id=batch_id, accepted=accepted, refused=refused)


def _body(raw: object) -> str:
    """The event's JSON text for the quarantine."""
    return raw.body if isinstance(raw, _NotJson) else encode(raw).decode()
