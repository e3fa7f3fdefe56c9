"""/v1/quarantine: refused events, for those who run the platform: list, show, patch, redrive, discard."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from movierec_platform.api.arguments import flag, one_argument, user_id_of, whole_number
from movierec_platform.api.body import check_type, read_body
from movierec_platform.api.errors import Problem
from movierec_platform.domain.envelope import MESSAGE_BYTES
from movierec_platform.domain.events import INT64_MAX
from movierec_platform.domain.moments import epoch_ms
from movierec_platform.domain.quarantine import MAX_IDS, Filter, Selection, statuses_named
from movierec_platform.errors import Conflict, NotFound, TooLarge, UsageError
from movierec_platform.services.quarantine import Outcome, Quarantine
from movierec_platform.services.redrive import Redrive

ACTOR = "api"
MAX_ROWS = 100
"""Rows on a page, each with a body of up to 256 KiB."""
SELECTION_BYTES = 64 * 1024


class _Selected(BaseModel):
    """The body of a redrive or a discard."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ids: list[str] = Field([], max_length=MAX_IDS)
    reason: str | None = None
    since: str | None = None
    user: Annotated[int, Field(gt=0, le=INT64_MAX)] | None = None
    all: bool = False


def blueprint(redrive: Callable[[], Redrive]) -> Blueprint:
    """The routes over this redrive and its quarantine, asked for at each request."""
    routes = Blueprint("quarantine", __name__, url_prefix="/v1/quarantine")

    def quarantine() -> Quarantine:
        return Quarantine(redrive().state)

    @routes.get("")
    def page() -> Response:
        limit = whole_number("limit", one_argument("limit", "20"), 1, MAX_ROWS)
        user = one_argument("user", "")
        with _problems():
            where = _filter(
                one_argument("reason", "") or None, one_argument("since", ""), user_id_of(user) if user else None
            )
            statuses = statuses_named(one_argument("status", "held"))
            found = quarantine().page(where, statuses, limit, one_argument("cursor", "") or None)
        return _json(asdict(found))

    @routes.get("/<row_id>")
    def row(row_id: str) -> Response:
        with _problems():
            found = quarantine().row(row_id)
        return _json({**asdict(found), "history": [asdict(act) for act in quarantine().history(found)]})

    @routes.patch("/<row_id>")
    def patch(row_id: str) -> Response:
        force = flag("force")
        text = _body(MESSAGE_BYTES)
        with _problems():
            patched = quarantine().patch(row_id, text, ACTOR, force)
        if not patched.stored and patched.refusal:
            detail = f"the gate would refuse it still: {patched.refusal.reason_code}, {patched.refusal.detail}"
            raise Problem(422, "gate-refuses", f"{detail}; nothing was stored (force=true stores it)")
        return _json(asdict(patched))

    @routes.post("/redrive")
    def send_again() -> Response:
        return _outcome("redriven", redrive().redrive(_selection(quarantine()), ACTOR))

    @routes.post("/discard")
    def discard() -> Response:
        return _outcome("discarded", quarantine().discard(_selection(quarantine()), ACTOR))

    return routes


def _selection(quarantine: Quarantine) -> Selection:
    try:
        said = _Selected.model_validate_json(_body(SELECTION_BYTES))
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in error["loc"])
        raise Problem(400, "bad-selection", f"{where or 'the body'}: {error['msg']}") from None
    with _problems():
        return quarantine.selection(said.ids, _filter(said.reason, said.since, said.user), said.all)


def _filter(reason: str | None, since: str | None, user_id: int | None) -> Filter:
    return Filter(reason, epoch_ms(since) if since else None, user_id)


def _body(limit: int) -> str:
    check_type(request.mimetype, request.mimetype_params.get("charset", ""))
    try:
        return read_body(request.stream, request.headers.get("Content-Encoding", "").strip().lower(), limit).decode()
    except UnicodeDecodeError:
        raise Problem(400, "malformed-json", "the body is not UTF-8") from None


@contextmanager
def _problems() -> Iterator[None]:
    """What the caller got wrong is said as a problem; it is not a matter of our settings."""
    try:
        yield
    except (Problem, TooLarge):
        raise
    except NotFound as error:
        raise Problem(404, "no-such-row", str(error)) from None
    except Conflict as error:
        raise Problem(409, "not-held", str(error)) from None
    except UsageError as error:
        raise Problem(400, "bad-request", str(error)) from None


def _outcome(done: str, outcome: Outcome) -> Response:
    return _json({done: outcome.done, "skipped": outcome.skipped, "finished": outcome.finished})


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), mimetype="application/json")
