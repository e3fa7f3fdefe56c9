"""POST /ingest: events are landed durably, or nothing is promised."""

import time
from collections.abc import Callable
from typing import Any

import orjson
from flask import Blueprint, Response, request

from movierec_platform.api.arguments import flag
from movierec_platform.api.body import NDJSON_TYPES, Room, check_type, parse_events, read_body
from movierec_platform.config import Settings
from movierec_platform.domain.gate import Rejected, judge
from movierec_platform.services.land import Lander, Receipt


def blueprint(settings: Settings, lander: Lander, landed: Callable[[int], None]) -> Blueprint:
    """The route over this lander; `landed` is told how many events were made durable."""
    routes = Blueprint("ingest", __name__)
    room = Room(settings.landing_pending_bytes)

    @routes.post("/ingest")
    def ingest() -> Response:
        check_type(request.mimetype, request.mimetype_params.get("charset", ""))
        validated = flag("validate")
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        with room.hold() as hold:
            body = read_body(request.stream, encoding, settings.max_request_bytes, request.content_length, hold.take)
            events = parse_events(body, request.mimetype in NDJSON_TYPES, settings.max_request_events)
            refusals = _refusals(events) if validated else {}
            accepted = [event for index, event in enumerate(events) if index not in refusals]
            receipt = lander.land(accepted) if accepted else None
        landed(len(accepted))
        return Response(orjson.dumps(_answer(events, refusals, receipt)), 202, mimetype="application/json")

    return routes


def _refusals(events: list[Any]) -> dict[int, Rejected]:
    """The gate's refusals, by index of the event."""
    now_ms = time.time_ns() // 1_000_000
    verdicts = ((index, judge(event, now_ms)) for index, event in enumerate(events))
    return {index: verdict for index, verdict in verdicts if isinstance(verdict, Rejected)}


def _answer(events: list[Any], refusals: dict[int, Rejected], receipt: Receipt | None) -> dict[str, Any]:
    landed_ids = iter(receipt.event_ids if receipt else ())
    results = [
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


def _refused(index: int, event: Any, why: Rejected) -> dict[str, Any]:
    event_id = event.get("event_id") if isinstance(event, dict) else None
    return {
        "index": index,
        "event_id": event_id if isinstance(event_id, str) else None,
        "status": "rejected",
        "reason_code": why.reason_code,
        "detail": why.detail,
    }
