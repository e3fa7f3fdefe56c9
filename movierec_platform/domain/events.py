"""A rating, view or retract, once the gate has accepted it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

EventType = Literal["rating", "view", "retract"]
EVENT_TYPES: tuple[EventType, ...] = ("rating", "view", "retract")


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted event. `timestamp_ms` is when it happened (epoch ms); `rating` is set for ratings only."""

    event_id: str
    event_type: EventType
    user_id: int
    movie_id: int
    rating: float | None
    timestamp_ms: int
    session_id: str | None = None
    recommendation_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The event in the contract's own spelling, so that the gate accepts it again; absent fields are left out."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        fields["timestamp"] = fields.pop("timestamp_ms")
        return fields


def derived_event_id(
    event_type: str,
    user_id: int,
    movie_id: int,
    rating: float | None,
    timestamp_ms: int,
    session_id: str | None,
    recommendation_id: str | None,
) -> str:
    """The id of an event that came without one: a hash of its other fields, so that a retry gets the same id."""
    fields = [event_type, user_id, movie_id, rating, timestamp_ms, session_id, recommendation_id]
    return hashlib.blake2b(json.dumps(fields).encode(), digest_size=16).hexdigest()
