"""The quality gate's verdict on one event: accepted, or rejected with a reason code. Pure.

The pydantic model says what an event must look like; its errors are turned into the reason codes of the contract.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic import ValidationError as InvalidEvent
from pydantic_core import PydanticCustomError

from movierec_platform.domain.events import (
    EARLIEST_MS,
    EVENT_TYPES,
    Event,
    EventId,
    EventType,
    Id,
    Text,
    Time,
    identified,
    ranked,
)
from movierec_platform.domain.json_text import NotJson, read_json
from movierec_platform.domain.producers import envelope_name

AHEAD_MS = 24 * 60 * 60 * 1000
"""What claims a time further after its receipt is refused; see RANK_AHEAD_MS for how it ranks below that."""

REASONS: Mapping[str, str] = {
    "not_json": "the message or line is not JSON",
    "not_an_object": "it is JSON, but not an object",
    "missing_field": "a required field is absent",
    "wrong_type": "a field has the wrong type or form",
    "unknown_event_type": "its `event_type` is none of the known ones",
    "rating_out_of_range": "its rating is below 0.5 or above 5.0",
    "rating_not_half_step": "its rating is not a multiple of 0.5",
    "rating_forbidden": "only an event of type `rating` has a rating",
    "timestamp_out_of_range": "its time is before 1995 or more than 24 hours ahead",
    "id_too_long": "an id has more than 128 characters",
    "unknown_movie": "the graph has no such movie (found by the graph ingest)",
    "erased_user": "its user was erased",
    "poison": "no run could work on its message; the message is held whole",
}
"""Why an event is refused, by the code that programs count."""
REASON_CODES = frozenset(REASONS)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why an event was refused: a code that programs count, the field at fault, and a sentence for a person."""

    reason_code: str
    field: str | None
    detail: str

    @classmethod
    def unknown_movie(cls, movie_id: int) -> "Rejected":
        """Of an event whose movie the graph lacks."""
        return cls("unknown_movie", "movie_id", f"movie {movie_id} is not in the catalogue")


def _half_steps(rating: float) -> float:
    if not 0.5 <= rating <= 5.0:  # also false for NaN
        raise PydanticCustomError("rating_out_of_range", "a rating lies between 0.5 and 5.0")
    if not (rating * 2).is_integer():
        raise PydanticCustomError("rating_not_half_step", "a rating moves in steps of 0.5")
    return rating


def _known_type(name: Any) -> Any:
    if isinstance(name, str) and name not in EVENT_TYPES:
        raise PydanticCustomError("unknown_event_type", "an event is one of rating, view, retract")
    return name


class _Submitted(BaseModel):
    """An event as a client may post it; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    event_id: EventId | None = None
    event_type: Annotated[EventType, BeforeValidator(_known_type)] = "rating"
    user_id: Id
    movie_id: Id
    rating: Annotated[float, Field(strict=True), AfterValidator(_half_steps)] | None = None
    timestamp: Time | None = None
    session_id: Text | None = None
    recommendation_id: Text | None = None


KNOWN_FIELDS = frozenset(_Submitted.model_fields) | {"item_id"}
_RATINGS = frozenset(step / 2 for step in range(1, 11))
_READY: TypeAdapter[list[Event | Any]] = TypeAdapter(list[Annotated[Event | Any, Field(union_mode="left_to_right")]])

_REASON_OF_ERROR = {"missing": "missing_field", "string_too_long": "id_too_long"}


def judge(raw: Any, received_at_ms: int) -> Event | Rejected:
    """The verdict on one parsed JSON value that was received at this time (epoch ms).

    The same value and time always get the same verdict, so replaying landed events changes nothing.
    """
    if not isinstance(raw, dict):
        return Rejected("not_an_object", None, f"an event is a JSON object, not {_json_type(raw)}")
    if "item_id" in raw and raw.get("movie_id") is None:
        raw = {**raw, "movie_id": raw["item_id"]}
    try:
        submitted = _Submitted.model_validate(raw)
    except InvalidEvent as error:
        return _rejection(error, raw)
    return _accepted(submitted, received_at_ms)


def judge_all(raws: Sequence[Any], received_at_ms: int) -> list[Event | Rejected]:
    """What `judge` says of each of these values, in a fraction of its time.

    One pass makes events of those that have the fields they need, each of its type; the others, and those that break a
    rule which the pass does not know, are judged one by one.
    """
    latest_ms = received_at_ms + AHEAD_MS
    return [
        ranked(identified(ready), received_at_ms)
        if isinstance(ready, Event)
        and EARLIEST_MS <= ready.timestamp_ms <= latest_ms
        and (ready.rating in _RATINGS if ready.event_type == "rating" else ready.rating is None)
        else judge(raw, received_at_ms)
        for raw, ready in zip(raws, _READY.validate_python(raws), strict=True)
    ]


def parse_json(body: str | bytes) -> Any | Rejected:
    """The JSON value in this text, or the rejection `not_json`, as `read_json` has it."""
    try:
        return read_json(body)
    except NotJson as error:
        place = f" at line {error.line} column {error.column}" if error.line else ""
        return Rejected("not_json", None, f"not JSON: {error}{place}")


def _accepted(submitted: _Submitted, received_at_ms: int) -> Event | Rejected:
    if submitted.event_type == "rating" and submitted.rating is None:
        return Rejected("missing_field", "rating", "an event of type rating has a rating")
    if submitted.event_type != "rating" and submitted.rating is not None:
        return Rejected("rating_forbidden", "rating", f"an event of type {submitted.event_type} has no rating")
    timestamp_ms = received_at_ms if submitted.timestamp is None else submitted.timestamp
    if not EARLIEST_MS <= timestamp_ms <= received_at_ms + AHEAD_MS:
        detail = f"a time lies between 1995 and 24 hours ahead; this one is {_shown(timestamp_ms)} ms"
        return Rejected("timestamp_out_of_range", "timestamp", detail)
    event = Event(
        submitted.event_id or "",
        submitted.event_type,
        submitted.user_id,
        submitted.movie_id,
        submitted.rating,
        timestamp_ms,
        submitted.session_id,
        submitted.recommendation_id,
    )
    return ranked(identified(event), received_at_ms)  # the id is of what was posted: a retry gets the same one


def _rejection(invalid: InvalidEvent, raw: dict[str, Any]) -> Rejected:
    """The first error in the order of the model's fields; of an envelope around an event, that it is one."""
    error = invalid.errors(include_url=False, include_context=False)[0]
    field = str(error["loc"][0]) if error["loc"] else None
    code = error["type"] if error["type"] in REASON_CODES else _REASON_OF_ERROR.get(error["type"], "wrong_type")
    if code == "missing_field":
        envelope = envelope_name(raw)
        return Rejected(code, field, f"{field} is required{f'; this is {envelope}' if envelope else ''}")
    return Rejected(code, field, f"{field}: {error['msg']}; got {_shown(error['input'])}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json_type(value: Any) -> str:
    names = {str: "a string", list: "an array", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
