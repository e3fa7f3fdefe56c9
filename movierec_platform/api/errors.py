"""Every failure as application/problem+json (RFC 9457) with a stable `type`; nothing of the inside leaks."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from flask import Flask, Response
from pydantic import BaseModel, Field
from werkzeug.exceptions import HTTPException

from movierec_platform.api.observed import request_id
from movierec_platform.errors import (
    GraphUnavailable,
    ImpossibleFilter,
    LakeUnavailable,
    LandingBusy,
    NotFound,
    NotPublished,
    ObjectStoreUnavailable,
    QueueUnavailable,
    StateUnavailable,
    TooLarge,
    Transient,
    UsageError,
)

log = logging.getLogger(__name__)

RETRY_AFTER_S = 2


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="stable name of the kind of problem, for programs")
    title: str
    status: int
    detail: str = Field(description="a sentence for people")
    request_id: str | None = Field(description="also in the header X-Request-ID, and in the log")


class Problem(UsageError):
    """A request that cannot be answered as it is; `slug` names the kind of problem for programs."""

    def __init__(self, status: int, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.headers = dict(headers or {})


def answer_errors(app: Flask) -> None:
    """Every error of this app is answered as a problem."""
    app.register_error_handler(Problem, _problem)
    app.register_error_handler(UsageError, _misconfigured)
    app.register_error_handler(ImpossibleFilter, lambda error: problem(400, "bad-parameter", str(error)))
    app.register_error_handler(NotFound, lambda error: problem(404, "not-found", str(error)))
    app.register_error_handler(TooLarge, lambda error: problem(413, "event-too-large", str(error)))
    app.register_error_handler(NotPublished, _not_published)
    app.register_error_handler(Transient, _dependency_down)
    app.register_error_handler(HTTPException, of_http_exception)
    app.register_error_handler(500, _defect)


def problem(status: int, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response that says so."""
    body = {
        "type": f"/problems/{slug}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id(),
    }
    return Response(orjson.dumps(body), status, dict(headers or {}), content_type="application/problem+json")


def _problem(error: Problem) -> Response:
    return problem(error.status, error.slug, str(error), error.headers)


def _misconfigured(error: UsageError) -> Response:
    """503: the caller's errors are Problems, so this one is about our settings (the graph refuses the password)."""
    log.error("%s", error)
    return problem(503, "misconfigured", "a part of the platform is misconfigured; its log has the request_id")


def _not_published(error: NotPublished) -> Response:
    return problem(503, "not-published", str(error), {"Retry-After": str(RETRY_AFTER_S)})


def _dependency_down(error: Transient) -> Response:
    """503. What exactly did not answer, and at which address, goes to the log only."""
    log.warning("%s: %s", type(error).__name__, error)
    slug, detail = _DOWN.get(type(error), ("unavailable", "a part of the platform does not answer; try again"))
    return problem(503, slug, detail, {"Retry-After": str(RETRY_AFTER_S)})


_DOWN: Mapping[type[Transient], tuple[str, str]] = {
    QueueUnavailable: ("queue-unavailable", "the queue does not answer; nothing was promised, send the request again"),
    ObjectStoreUnavailable: (
        "object-store-unavailable",
        "the object store does not answer; nothing was promised, send the request again",
    ),
    LandingBusy: ("landing-busy", "too many events wait to be landed; nothing was promised, send the request again"),
    StateUnavailable: ("state-unavailable", "the state database does not answer; try again"),
    GraphUnavailable: ("graph-unavailable", "the graph does not answer; try again"),
    LakeUnavailable: ("lake-unavailable", "the lake does not answer; try again"),
}


def of_http_exception(error: HTTPException) -> Response:
    """What Flask itself refuses: an unknown path, a method that the path does not have."""
    status = error.code or 500
    headers = {name: value for name, value in error.get_headers() if name not in ("Content-Type", "Content-Length")}
    slug = HTTPStatus(status).phrase.lower().replace(" ", "-")
    return problem(status, slug, error.description or HTTPStatus(status).description, headers)


def _defect(error: HTTPException) -> Response:
    """A defect of ours; Flask has logged its traceback beside the request id."""
    return problem(500, "internal-error", "the service failed on this request; its log has the request_id")
