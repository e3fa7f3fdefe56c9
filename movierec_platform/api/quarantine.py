"""/v1/quarantine: refused events, for those who run the platform: list, show, patch, redrive, discard."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar

from flask import Response
from pydantic import Field

from movierec_platform.adapters.quarantine import QuarantineRow
from movierec_platform.adapters.quarantine_tables import Act
from movierec_platform.api.access import actor
from movierec_platform.api.arguments import Body, Flag, Id, Path, Query, Whole
from movierec_platform.api.errors import Problem
from movierec_platform.api.routes import Routes, answer, json_body, read_text
from movierec_platform.domain.envelope import MESSAGE_BYTES
from movierec_platform.domain.events import INT64_MAX
from movierec_platform.domain.gate import REASON_CODES
from movierec_platform.domain.moments import epoch_ms
from movierec_platform.domain.quarantine import MAX_IDS, STATUSES, Filter, Selection, statuses_named
from movierec_platform.errors import Conflict, NotFound, TooLarge, UsageError
from movierec_platform.services.quarantine import Page, Patched, Quarantine
from movierec_platform.services.redrive import Redrive

MAX_ROWS = 100
"""Rows on a page, each with a body of up to 256 KiB."""
_REASONS = sorted(REASON_CODES)


class RowsQuery(Query):
    """Which rows."""

    reason: str = Field("", description="only this reason code", json_schema_extra={"enum": ["", *_REASONS]})
    since: str = Field("", description="only events first received since then (ISO-8601)")
    user: Id | None = Field(None, title="the user id", description="only events of this user")
    status: str = Field(
        "held",
        description="held includes those whose redrive has begun",
        json_schema_extra={"enum": [*STATUSES, "all"]},
    )
    limit: Whole = Field(20, ge=1, le=MAX_ROWS, description="rows on the page")
    cursor: str = Field("", description="next_cursor of the page before")


class RowPath(Path):
    """One row."""

    row_id: str = Field(description="id of a row, or the beginning of one")


class PatchQuery(Query):
    """How to patch."""

    force: Flag = Field(False, description="store it although the gate would refuse it still")


class Selected(Body):
    """The rows that are meant: ids (or their beginnings), or filters, or all."""

    problem: ClassVar[str] = "bad-selection"

    ids: list[str] = Field([], max_length=MAX_IDS)
    reason: str | None = None
    since: str | None = None
    user: Annotated[int, Field(gt=0, le=INT64_MAX)] | None = None
    all: bool = False


@dataclass(frozen=True, slots=True)
class RowAndHistory(QuarantineRow):
    """An event in quarantine, and all that was done to it."""

    history: Sequence[Act]


@dataclass(frozen=True, slots=True)
class Redriven:
    """Counts by reason of what was sent to the gate again; `finished` is what an earlier redrive had begun."""

    redriven: dict[str, int]
    skipped: dict[str, int]
    finished: dict[str, int]


@dataclass(frozen=True, slots=True)
class Discarded:
    """Counts by reason of what was given up for good."""

    discarded: dict[str, int]
    skipped: dict[str, int]
    finished: dict[str, int]


def blueprint(redrive: Callable[[], Redrive]) -> Routes:
    """The routes over this redrive and its quarantine, asked for at each request."""
    routes = Routes("quarantine", "Events that the gate or the graph refused.", "admin", url_prefix="/v1/quarantine")

    def quarantine() -> Quarantine:
        return Quarantine(redrive().state)

    @routes.get("", responses=routes.answers(Page))
    def page(query: RowsQuery) -> Response:
        """Refused events, the latest first, with their standing, and counts by reason."""
        with problems_of():
            where = _filter(query.reason or None, query.since, query.user)
            statuses = statuses_named(query.status)
            return answer(quarantine().page(where, statuses, query.limit, query.cursor or None))

    @routes.get("/<row_id>", responses=routes.answers(RowAndHistory, 404))
    def row(path: RowPath) -> Response:
        """One refused event whole, and all that was done to it."""
        with problems_of():
            found = quarantine().row(path.row_id)
        return answer(RowAndHistory(**asdict(found), history=quarantine().history(found)))

    @routes.patch(
        "/<row_id>",
        responses=routes.answers(Patched, 404, 409, 413, 415, 422),
        openapi_extensions=json_body("The event as it should have been; a whole message for a poison row."),
    )
    def patch(path: RowPath, query: PatchQuery) -> Response:
        """The held event is mended, unless the gate would refuse it still (422)."""
        text = read_text(MESSAGE_BYTES)
        with problems_of():
            patched = quarantine().patch(path.row_id, text, actor(), query.force)
        if not patched.stored and patched.refusal:
            detail = f"the gate would refuse it still: {patched.refusal.reason_code}, {patched.refusal.detail}"
            raise Problem(422, "gate-refuses", f"{detail}; nothing was stored (force=true stores it)")
        return answer(patched)

    @routes.post("/redrive", responses=routes.answers(Redriven, 404, 413, 415))
    def send_again(body: Selected) -> Response:
        """Held events are sent to the gate again, each five times at most."""
        outcome = redrive().redrive(_selection(quarantine(), body), actor())
        return answer(Redriven(outcome.done, outcome.skipped, outcome.finished))

    @routes.post("/discard", responses=routes.answers(Discarded, 404, 413, 415))
    def discard(body: Selected) -> Response:
        """Held events are given up for good."""
        outcome = quarantine().discard(_selection(quarantine(), body), actor())
        return answer(Discarded(outcome.done, outcome.skipped, outcome.finished))

    return routes


def _selection(quarantine: Quarantine, said: Selected) -> Selection:
    with problems_of():
        return quarantine.selection(said.ids, _filter(said.reason, said.since, said.user), said.all)


def _filter(reason: str | None, since: str | None, user_id: int | None) -> Filter:
    return Filter(reason, epoch_ms(since) if since else None, user_id)


@contextmanager
def problems_of() -> Iterator[None]:
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
