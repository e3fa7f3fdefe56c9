"""POST /ingest: events are landed durably, or nothing is promised."""

import time
from collections.abc import Callable, Collection
from typing import Any, Literal

from flask import Response, request
from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from movierec_platform.api.arguments import Flag, Query
from movierec_platform.api.body import NDJSON, NDJSON_TYPES, Room, check_type, parse_events, read_body
from movierec_platform.api.observed import request_id, tell
from movierec_platform.api.routes import Routes, answer, json_body
from movierec_platform.config import Settings
from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import Rejected, judge
from movierec_platform.services.land import Lander, Receipt

_EVENT = {
    "type": "object",
    "properties": {
        "event_id": {"type": "string", "maxLength": 128, "description": "else a hash of the other fields"},
        "event_type": {"enum": ["rating", "view", "retract"], "default": "rating"},
        "user_id": {"type": "integer", "minimum": 1},
        "movie_id": {"type": "integer", "minimum": 1, "description": "item_id means the same"},
        "rating": {
            "type": "number",
            "minimum": 0.5,
            "maximum": 5,
            "multipleOf": 0.5,
            "description": "of a rating only",
        },
        "timestamp": {"description": "epoch seconds, epoch milliseconds or ISO-8601 with zone; else when received"},
    },
}
_ANY = {"not": {"type": "array", "maxItems": 0}, "description": "whatever else is JSON is for the gate to refuse"}
_BODY = {"anyOf": [_EVENT, {"type": "array", "items": _EVENT, "minItems": 1}, _ANY]}


class IngestQuery(Query):
    """How to take the events."""

    validate_: Flag = Field(False, alias="validate", description="refuse at once what the gate would refuse")


class Result(TypedDict):
    """What became of one event."""

    index: int
    event_id: str | None
    status: Literal["accepted", "rejected"]
    reason_code: NotRequired[str]
    detail: NotRequired[str]


class Landed(TypedDict):
    """The receipt: what is accepted is durable."""

    batch_id: str | None
    accepted: int
    rejected: int
    results: list[Result]


def blueprint(
    settings: Settings,
    lander: Lander,
    unknown_movies: Callable[[Collection[int]], Collection[int]],
    landed: Callable[[int], None],
) -> Routes:
    """The route over this lander; `unknown_movies` are those of some that the graph ingest would refuse, `landed` is
    told how many events were made durable."""
    routes = Routes("ingest", "Ratings, views and retracts of users.", "ingest")
    room = Room(settings.landing_pending_bytes)

    @routes.post(
        "/ingest",
        responses=routes.answers(Landed, 413, 415, status=202),
        openapi_extensions=json_body("An event, an array of events, or NDJSON; gzip is taken.", _BODY, NDJSON),
    )
    def ingest(query: IngestQuery) -> Response:
        """The events are durable in S3 and in the queue (202), or nothing is promised (503).

        Whatever is JSON is taken, and the gate judges it later; with `validate` the receipt says what it, or the graph,
        would refuse, and that is not landed.
        """
        check_type(request.mimetype, request.mimetype_params.get("charset", ""))
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        with room.hold() as hold:
            body = read_body(request.stream, encoding, settings.max_request_bytes, request.content_length, hold.take)
            events = parse_events(body, request.mimetype in NDJSON_TYPES, settings.max_request_events)
            refusals = _refusals(events, unknown_movies) if query.validate_ else {}
            accepted = [event for index, event in enumerate(events) if index not in refusals]
            receipt = lander.land(accepted, request_id()) if accepted else None
        landed(len(accepted))
        tell(batch_id=receipt.batch_id if receipt else None, accepted=len(accepted), rejected=len(refusals))
        return answer(_receipt(events, refusals, receipt), 202)

    return routes


def _refusals(events: list[Any], unknown_movies: Callable[[Collection[int]], Collection[int]]) -> dict[int, Rejected]:
    """The refusals of the gate, and of the graph for movies that it lacks, by index of the event."""
    now_ms = time.time_ns() // 1_000_000
    verdicts = {index: judge(event, now_ms) for index, event in enumerate(events)}
    unknown = unknown_movies({one.movie_id for one in verdicts.values() if isinstance(one, Event)})
    refused = {
        index: Rejected.unknown_movie(one.movie_id) if isinstance(one, Event) and one.movie_id in unknown else one
        for index, one in verdicts.items()
    }
    return {index: one for index, one in refused.items() if isinstance(one, Rejected)}


def _receipt(events: list[Any], refusals: dict[int, Rejected], receipt: Receipt | None) -> Landed:
    landed_ids = iter(receipt.event_ids if receipt else ())
    results: list[Result] = [
        _refused(index, event, refusals[index])
        if index in refusals
        else {"index": index, "event_id": next(landed_ids), "status": "accepted"}
        for index, event in enumerate(events)
    ]
    return {
        "batch_id": receipt.batch_id if receipt else None,
        "accepted": len(events) - len(refusals),
        "rejected": len(refusals),
        "results": results,
    }


def _refused(index: int, event: Any, why: Rejected) -> Result:
    event_id = event.get("event_id") if isinstance(event, dict) else None
    return {
        "index": index,
        "event_id": event_id if isinstance(event_id, str) else None,
        "status": "rejected",
        "reason_code": why.reason_code,
        "detail": why.detail,
    }
