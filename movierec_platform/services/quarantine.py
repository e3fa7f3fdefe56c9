"""The quarantine: refused events move into it from the dlq queue, and people look at them, mend them or let them go."""

import hashlib
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from movierec_platform.adapters.quarantine import QuarantineRow
from movierec_platform.adapters.quarantine_redrives import Chunk
from movierec_platform.adapters.quarantine_refusals import Refusal
from movierec_platform.adapters.quarantine_tables import Act
from movierec_platform.adapters.queues import Message
from movierec_platform.adapters.state import State
from movierec_platform.domain.drains import MOST_DEFECTS
from movierec_platform.domain.envelope import (
    MESSAGE_BYTES,
    VERSION,
    Rejections,
    batch_id_of,
    newer_version,
    unpack,
    unpack_rejections,
)
from movierec_platform.domain.gate import Rejected, parse_json
from movierec_platform.domain.json_text import EVENT_BYTES, encode
from movierec_platform.domain.quarantine import (
    POISON,
    Filter,
    Selection,
    Status,
    event_to_land,
    verdict_on,
    why_not_landable,
)
from movierec_platform.errors import Conflict, NotFound, TooLarge, UsageError

log = logging.getLogger(__name__)

DRAIN = "drain"
"""The actor of what the drain runs do."""
_ID = re.compile("[0-9a-f]{1,16}")


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, the latest first, and how many of all that were asked for there are by reason."""

    rows: Sequence[QuarantineRow]
    by_reason: dict[str, int]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Patched:
    """What came of a patch: the row, whether the new body is stored, and what the gate would refuse about it."""

    row: QuarantineRow
    stored: bool
    refusal: Rejected | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a redrive or a discard did, by reason, and what it left alone, by why.

    `finished` is what an earlier redrive had begun, by reason.
    """

    done: dict[str, int]
    skipped: dict[str, int]
    finished: dict[str, int]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The quarantine of one state database."""

    state: State

    def hold(self, messages: Sequence[Message]) -> int:
        """Every refused event of these messages is in quarantine; returns how many events there were.

        A row's id says where the event was landed, so a message that comes again adds nothing.
        """
        opened = [(message, unpack_rejections(message.body)) for message in messages]
        refusals = [one for message, rejections in opened for one in _refusals(message, rejections)]
        self.state.quarantine.hold(refusals, DRAIN, now_ms())
        for message, rejections in opened:
            _tell(message, rejections)
        return len(refusals)

    def ready(self) -> None:
        """Raises Transient while the state database does not answer."""
        self.state.ping()

    def page(self, where: Filter, statuses: Sequence[Status], limit: int, cursor: str | None = None) -> Page:
        """A page of rows; its `next_cursor` asks for the next, None at the end. UsageError for a strange cursor."""
        table = self.state.quarantine
        rows = table.rows(where, statuses, limit, _place(cursor) if cursor is not None else None)
        last = rows[-1] if len(rows) == limit else None
        return Page(
            rows=rows,
            by_reason=table.by_reason(where, statuses),
            next_cursor=f"{last.quarantined_at_ms}-{last.id}" if last else None,
        )

    def row(self, beginning: str) -> QuarantineRow:
        """The row whose id this is, or starts with this. Raises NotFound when none does, or more than one."""
        rows = self.state.quarantine.found(beginning) if _ID.fullmatch(beginning) else []
        if len(rows) != 1:
            many = "more than one row has" if rows else "no row has"
            raise NotFound(f"{many} an id that starts with {beginning[:40]!r}: see `movierec quarantine list`")
        return rows[0]

    def history(self, row: QuarantineRow) -> list[Act]:
        """All that was done to this row, in order."""
        return self.state.quarantine.history(row.id)

    def patch(self, beginning: str, text: str, actor: str, force: bool = False) -> Patched:
        """The row's body is this JSON text, unless the gate would refuse it still: then only by force.

        For a poison row it is a whole message: an event, an array of events, or an envelope. Raises UsageError for what
        is not JSON, TooLarge, NotFound, and Conflict unless the row is held.
        """
        row = self.row(beginning)
        body = _checked_body(row, text)
        refusal = verdict_on(body, row.reason_code, row.received_at_ms, now_ms())
        stored = force or refusal is None
        verdict = f"the gate would refuse it: {refusal.reason_code}" if refusal else "the gate would accept it"
        status = self.state.quarantine.patch(row.id, body, verdict, actor, now_ms()) if stored else row.status
        if status != "held":
            raise Conflict(f"row {row.id} is {status}, not held: {_NOT_HELD[status]}")
        return Patched(self.row(row.id), stored, refusal)

    def selection(self, ids: Sequence[str], where: Filter, everything: bool) -> Selection:
        """The rows that are meant; ids may be beginnings. Raises UsageError where nothing, or too much, was said."""
        said = Selection(ids, where, everything)
        return Selection([self.row(one).id for one in dict.fromkeys(ids)], where, everything) if ids else said

    def discard(self, selection: Selection, actor: str) -> Outcome:
        """Held rows of the selection are discarded for good; what is being redriven is left alone."""
        table = self.state.quarantine
        skipped = Counter(table.left_alone(selection, acted_on=("held",), capped=False))
        done: Counter[str] = Counter()
        for chunk in chunks(lambda after: table.discard(selection, after, actor, now_ms())):
            done.update(chunk.done)
        return Outcome(dict(done), dict(skipped), {})


def chunks(step: Callable[[str], Chunk]) -> Iterator[Chunk]:
    """What each step did; every step is told the id after which it goes on."""
    after: str | None = ""
    while after is not None:
        chunk = step(after)
        yield chunk
        after = chunk.after


def now_ms() -> int:
    return time.time_ns() // 1_000_000


_NOT_HELD: dict[Status, str] = {
    "redriving": "its redrive was begun; `movierec quarantine redrive` of the same row finishes it",
    "redriven": "it was sent to the gate again; post a new event instead",
    "discarded": "it was given up for good; post a new event instead",
}


def _checked_body(row: QuarantineRow, text: str) -> str:
    """The text as compact JSON."""
    value = parse_json(text)
    if isinstance(value, Rejected):
        raise UsageError(f"the new body is {value.detail}")
    encoded = encode(value)
    limit = MESSAGE_BYTES if row.reason_code == POISON else EVENT_BYTES
    if len(encoded) > limit:
        raise TooLarge(f"the new body has {len(encoded)} bytes; it has {limit} at most")
    body = encoded.decode()
    if row.reason_code != POISON and event_to_land(body, row.received_at_ms) is None:
        raise UsageError("the new body is too long or nested too deep for an event")
    return body


def _place(cursor: str) -> tuple[int, str]:
    at_ms, dash, row_id = cursor.partition("-")
    if not (dash and re.fullmatch("[0-9]{1,18}", at_ms) and _ID.fullmatch(row_id)):
        raise UsageError(f"{cursor[:40]!r} is no cursor: take `next_cursor` of the page before")
    return int(at_ms), row_id


def _refusals(message: Message, rejections: Rejections | None) -> Iterator[Refusal]:
    """Each refused event; the whole message where a drain run or SQS gave up on it."""
    if rejections is None:
        envelope = unpack(message.body)
        yield Refusal(
            id=_id(message.body),
            reason_code=POISON,
            field=None,
            detail=_why_whole(message.body),
            body=message.body,
            raw_key=envelope.raw_key if envelope else None,
            line=None,
            received_at_ms=envelope.received_at_ms if envelope else message.sent_at_ms,
            sent_at_ms=message.sent_at_ms,
        )
        return
    for one in rejections.refused:
        yield Refusal(
            id=_id(f"{rejections.raw_key}:{one.line}"),
            reason_code=one.rejection.reason_code,
            field=one.rejection.field,
            detail=one.rejection.detail,
            body=one.body,
            raw_key=rejections.raw_key,
            line=one.line,
            received_at_ms=rejections.received_at_ms,
            sent_at_ms=message.sent_at_ms,
        )


def _tell(message: Message, rejections: Rejections | None) -> None:
    """The log says what became of a message."""
    if rejections is None:
        log.warning("message %s is in quarantine whole: %s", message.message_id, _why_whole(message.body))
        return
    log.info(
        {
            "message": "quarantined",
            "batch_id": batch_id_of(rejections.raw_key),
            "request_ids": rejections.carried.requests,
            "events": len(rejections.refused),
            "reason_codes": sorted({one.rejection.reason_code for one in rejections.refused}),
        }
    )


def _why_whole(body: str) -> str:
    version = newer_version(body)
    if version is None:
        why = why_not_landable(body)
        if why is not None:
            return f"a whole message of another producer, of which nothing was landed: {why}"
        return f"a whole message that met a defect {MOST_DEFECTS} times, or that no part of the platform sent"
    return f"a message of version {version}; this release reads version {VERSION}: redrive it after the upgrade"


def _id(origin: str) -> str:
    return hashlib.blake2b(origin.encode(), digest_size=8).hexdigest()
