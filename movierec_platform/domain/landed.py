"""The gate's verdicts on the lines of raw objects, as columns: what `judge` says of each, in a tenth of its time.

A line that is plainly good is decoded straight to typed fields (msgspec; it is as strict as the gate where it does not
skip, and nothing is skipped: a line with a field that the contract does not know is not plain). Every other line, and
every one that breaks a rule between fields, is judged by `judge`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.domain.envelope import LATEST_RECEIVED_MS, NotLanded, landed_event
from movierec_platform.domain.events import EARLIEST_MS, ID_MAX_LENGTH, INT64_MAX, SECONDS_BELOW, Event
from movierec_platform.domain.gate import AHEAD_MS, judge
from movierec_platform.domain.interactions import ranked_times
from movierec_platform.domain.tables import EVENTS

_CONTENT = EVENTS.names[:-1]
_INSTANT = ("user_id", "movie_id", "timestamp_ms")
_ORDER = [*_INSTANT, "event_id", "event_type", "rating", "session_id", "recommendation_id", "received_at_ms"]
"""The order of events in a file: total, so that the same events are the same bytes."""
_HALF_STEPS = pa.array([step / 2 for step in range(1, 11)], pa.float64())


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on some lines."""

    accepted: pa.Table
    """Schema EVENTS, in no order."""
    rejected: Counter[str]
    """By reason code."""
    faults: dict[int, str]
    """The lines that neither the API nor the gate wrote, by their number, with what is wrong with each."""


def judge_lines(lines: Sequence[bytes]) -> Judged:
    """What the gate says of the events on these lines of raw objects."""
    plain, numbers, others = [], [], []
    for number, line in enumerate(lines):
        try:
            plain.append(_decode(line))
            numbers.append(number)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            others.append(number)
    accepted = _columns(plain)
    good = _keeps_the_rules(accepted)
    if not good.all():
        others = sorted([*others, *(np.asarray(numbers)[~good].tolist())])
        accepted = accepted.filter(pa.array(good))
    events = []
    rejected: Counter[str] = Counter()
    faults: dict[int, str] = {}
    for number in others:
        try:
            raw, received_at_ms = landed_event(lines[number])
        except NotLanded as fault:
            faults[number] = str(fault)
            continue
        verdict = judge(raw, received_at_ms)
        if isinstance(verdict, Event):
            events.append((verdict, received_at_ms))
        else:
            rejected[verdict.reason_code] += 1
    at = EVENTS.get_field_index("timestamp_ms")
    accepted = accepted.set_column(at, EVENTS.field(at), ranked_times(accepted))
    return Judged(pa.concat_tables([accepted, _rows(events)]) if events else accepted, rejected, faults)


def in_order(events: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The rows of the events in their order of a file, each content once: of duplicates the earliest received.

    Duplicates are equal in every field but `received_at_ms`. The order is by user, movie, time, id, then by the rest.
    """
    user, movie, at_ms = (events[name].to_numpy() for name in _INSTANT)
    order: np.ndarray[Any, np.dtype[np.int64]] = np.lexsort((at_ms, movie, user))
    tied = np.flatnonzero(_tied(user[order], movie[order], at_ms[order]))
    if not len(tied):
        return order
    # Only events of one pair at one instant need the long comparison; in order they stand where they stood together.
    some = events.take(pa.array(order[tied]))
    ranked = pc.sort_indices(some, sort_keys=[(name, "ascending") for name in _ORDER]).to_numpy()
    order[tied] = order[tied][ranked]
    repeated = same_as_before(some.take(pa.array(ranked)).select(_CONTENT))
    return np.delete(order, tied[repeated])


def ratings_fit(events: pa.Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the events have a rating of 0.5 to 5 in halves if they are ratings, and else none."""
    rating = events["rating"]
    fit = pc.if_else(
        pc.equal(events["event_type"], "rating"), pc.is_in(rating, value_set=_HALF_STEPS), pc.is_null(rating)
    )
    mask: np.ndarray[Any, np.dtype[np.bool_]] = fit.to_numpy()
    return mask


def tied_instants(events: pa.Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """For each row, whether the row before it or after it is of the same user, movie and time."""
    return _tied(*(events[name].to_numpy() for name in _INSTANT))


def same_as_before(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """For each row, whether it equals the one before it in every column; absent equals absent."""
    same = np.zeros(rows.num_rows, dtype=np.bool_)
    if rows.num_rows > 1:
        same[1:] = True
        for column in rows.itercolumns():
            whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
            before, after = whole[:-1], whole[1:]
            equal = pc.fill_null(pc.equal(before, after), False)
            absent = pc.and_(pc.is_null(before), pc.is_null(after))
            same[1:] &= pc.or_(equal, absent).to_numpy(zero_copy_only=False)
    return same


def _tied(*keys: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    tied = np.zeros(len(keys[0]), dtype=np.bool_)
    same = np.logical_and.reduce([key[1:] == key[:-1] for key in keys])
    tied[1:] |= same
    tied[:-1] |= same
    return tied


_Count = Annotated[int, msgspec.Meta(ge=0, le=LATEST_RECEIVED_MS)]
_Id = Annotated[int, msgspec.Meta(ge=1, le=INT64_MAX)]
_EventId = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_MAX_LENGTH)]
_Text = Annotated[str, msgspec.Meta(max_length=ID_MAX_LENGTH)]


class _PlainEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    event_id: _EventId
    user_id: _Id
    movie_id: _Id
    event_type: Literal["rating", "view", "retract"] = "rating"
    rating: float | None = None
    timestamp: _Count | None = None
    session_id: _Text | None = None
    recommendation_id: _Text | None = None


class _PlainLine(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    received_at_ms: _Count
    source: str
    event: _PlainEvent


_decode = msgspec.json.Decoder(_PlainLine).decode


def _columns(lines: Sequence[_PlainLine]) -> pa.Table:
    """The events as they were posted, their times in milliseconds; whether they keep the rules is not known yet."""
    events = [line.event for line in lines]
    received_at_ms = pa.array([line.received_at_ms for line in lines], pa.int64())
    posted = pa.array([event.timestamp for event in events], pa.int64())
    in_seconds = pc.less(posted, SECONDS_BELOW)
    timestamp_ms = pc.if_else(in_seconds, pc.multiply(pc.if_else(in_seconds, posted, 0), 1000), posted)
    columns = [
        pa.array([event.event_id for event in events], pa.string()),
        pa.array([event.event_type for event in events], pa.string()),
        pa.array([event.user_id for event in events], pa.int64()),
        pa.array([event.movie_id for event in events], pa.int64()),
        pa.array([event.rating for event in events], pa.float64()),
        pc.coalesce(timestamp_ms, received_at_ms),
        pa.array([event.session_id for event in events], pa.string()),
        pa.array([event.recommendation_id for event in events], pa.string()),
        received_at_ms,
    ]
    return pa.table(columns, schema=EVENTS)


def _keeps_the_rules(events: pa.Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of the events have a time in range, and a rating in half steps if they are ratings, else none."""
    at_ms, received_at_ms = events["timestamp_ms"].to_numpy(), events["received_at_ms"].to_numpy()
    good: np.ndarray[Any, np.dtype[np.bool_]] = (
        (at_ms >= EARLIEST_MS) & (at_ms <= received_at_ms + AHEAD_MS) & ratings_fit(events)
    )
    return good


def _rows(events: Sequence[tuple[Event, int]]) -> pa.Table:
    names = EVENTS.names[:-1]
    rows = [{**{name: getattr(event, name) for name in names}, "received_at_ms": at_ms} for event, at_ms in events]
    return pa.Table.from_pylist(rows, schema=EVENTS)
