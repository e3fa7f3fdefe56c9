"""Moves refused events from the dlq queue into the quarantine table, where people find them."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from movierec_platform.adapters.queues import Message
from movierec_platform.adapters.state import QuarantineRow, State
from movierec_platform.domain.envelope import unpack, unpack_rejections


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The way from the dlq queue into the table."""

    state: State

    def hold(self, messages: Sequence[Message]) -> int:
        """Every refused event of these messages is a row; returns how many events there were.

        A row's id says where the event was landed, so a message that comes again adds nothing.
        """
        now_ms = time.time_ns() // 1_000_000
        rows = [row for message in messages for row in _rows(message, now_ms)]
        added = Counter(row.reason_code for row in self.state.quarantine(rows))
        self.state.add({("movierec_events_quarantined_total", (("reason", code),)): n for code, n in added.items()})
        return len(rows)


def _rows(message: Message, now_ms: int) -> Iterator[QuarantineRow]:
    """A row for each refused event; one for a whole message that SQS or the graph ingest gave up on."""
    rejections = unpack_rejections(message.body)
    if rejections is None:
        envelope = unpack(message.body)
        yield QuarantineRow(
            id=_id(message.body),
            reason_code="poison",
            field=None,
            detail="a whole message that could not be processed in five receives, or that no part of the platform sent",
            body=message.body,
            raw_key=envelope.raw_key if envelope else None,
            line=None,
            received_at_ms=envelope.received_at_ms if envelope else message.sent_at_ms,
            quarantined_at_ms=now_ms,
        )
        return
    for one in rejections.refused:
        yield QuarantineRow(
            id=_id(f"{rejections.raw_key}:{one.line}"),
            reason_code=one.rejection.reason_code,
            field=one.rejection.field,
            detail=one.rejection.detail,
            body=one.body,
            raw_key=rejections.raw_key,
            line=one.line,
            received_at_ms=rejections.received_at_ms,
            quarantined_at_ms=now_ms,
        )


def _id(origin: str) -> str:
    return hashlib.blake2b(origin.encode(), digest_size=8).hexdigest()
