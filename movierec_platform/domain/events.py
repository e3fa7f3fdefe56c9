"""A rating, view or retract, once the gate has accepted it."""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, TypeAdapter
from pydantic import ValidationError as InvalidTime
from pydantic_core import PydanticCustomError

from movierec_platform.domain.moments import iso_moment

ID_MAX_LENGTH = 128
INT64_MAX = 2**63 - 1
EARLIEST_MS = 788_918_400_000
"""1995-01-01T00:00:00Z, when MovieLens had no users yet."""
RANK_AHEAD_MS = 5 * 60 * 1000
"""An event ranks no later than this after its receipt, whatever it claims: else a wrong clock, or another client, would
block what its user does next for as long as it claims to be ahead."""

EventType = Literal["rating", "view", "retract"]
EVENT_TYPES: tuple[EventType, ...] = ("rating", "view", "retract")

EventId = Annotated[str, Field(strict=True, min_length=1, max_length=ID_MAX_LENGTH)]
Id = Annotated[int, Field(strict=True, gt=0, le=INT64_MAX)]
Text = Annotated[str, Field(strict=True, max_length=ID_MAX_LENGTH)]


SECONDS_BELOW = 10**11
"""Epoch numbers below this are seconds (they reach the year 5138), those above are milliseconds."""
_Ms = Annotated[int, Field(strict=True, ge=SECONDS_BELOW)]
_USUAL_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def _epoch_ms(moment: Any) -> int:
    """Epoch milliseconds of epoch seconds, epoch milliseconds or ISO-8601 with a zone."""
    if isinstance(moment, bool) or not isinstance(moment, (int, float, str)):
        raise PydanticCustomError("wrong_type", "a time is epoch seconds, epoch milliseconds or ISO-8601 with a zone")
    if isinstance(moment, str):
        return _epoch_ms_of_text(moment)
    if isinstance(moment, float) and not math.isfinite(moment):
        raise PydanticCustomError("timestamp_out_of_range", "a time is a finite number")
    return int(moment * 1000) if abs(moment) < SECONDS_BELOW else int(moment)


def _epoch_ms_of_text(text: str) -> int:
    try:
        # A tenth of the other parser's time, for the usual form only: it takes "17000000000000000" for a number.
        moment: datetime | None = _USUAL_TIME.validate_python(text) if text[4:5] == "-" else iso_moment(text)
    except InvalidTime:
        moment = iso_moment(text)
    if moment is None or moment.tzinfo is None:
        raise PydanticCustomError("wrong_type", "a time in text is ISO-8601 with a zone, like 2024-05-01T12:00:00Z")
    return round(moment.timestamp() * 1000)


def epoch_ms(moment: Any) -> int | None:
    """Epoch milliseconds of whatever the contract takes for a time; None for anything else."""
    try:
        return _epoch_ms(moment)
    except PydanticCustomError:
        return None


Time = Annotated[int, BeforeValidator(_epoch_ms)]
"""Whatever the contract takes for a time, as epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted event. `timestamp_ms` (epoch ms) is when it happened, as `ranked`; `rating` is set for ratings only.

    The annotations are for pydantic, which makes events of parsed JSON in the contract's spelling, with an empty id
    where there is none, for `identified` to fill. Calling the class checks nothing.
    """

    event_id: Annotated[EventId, Field(default="")]
    event_type: Annotated[EventType, Field(default="rating")]
    user_id: Id
    movie_id: Id
    rating: Annotated[Annotated[float, Field(strict=True)] | None, Field(default=None)]
    timestamp_ms: Annotated[_Ms | Time, Field(alias="timestamp", union_mode="left_to_right")]
    session_id: Text | None = None
    recommendation_id: Text | None = None

    def to_json(self) -> bytes:
        """The event in the contract's own spelling, so that the gate accepts it again; absent fields are left out."""
        return _SERIALIZER.to_json(self, by_alias=True, exclude_none=True)


_SERIALIZER = TypeAdapter(Event).serializer


def identified(event: Event) -> Event:
    """The event; one that came without an id gets a hash of its other fields, so that a retry gets the same."""
    if event.event_id:
        return event
    fields = (
        event.event_type,
        event.user_id,
        event.movie_id,
        event.rating,
        event.timestamp_ms,
        event.session_id,
        event.recommendation_id,
    )
    return Event(hashlib.blake2b(json.dumps(fields).encode(), digest_size=16).hexdigest(), *fields)


def ranked(event: Event, received_at_ms: int) -> Event:
    """The event as its registers rank it: no later than RANK_AHEAD_MS after its receipt. Twice is as once."""
    latest_ms = received_at_ms + RANK_AHEAD_MS
    return event if event.timestamp_ms <= latest_ms else replace(event, timestamp_ms=latest_ms)
