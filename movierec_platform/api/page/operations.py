"""/operations: how the platform stands, and what waits in quarantine, for those who run it."""

from collections.abc import Callable
from typing import Literal
from urllib.parse import urlencode

from flask import Response
from pydantic import Field

from movierec_platform.api.access import actor
from movierec_platform.api.arguments import Path, Query, Whole
from movierec_platform.api.page.door import back_to
from movierec_platform.api.page.plots import ages_plot, quality_plot
from movierec_platform.api.page.rendering import page, show_problem
from movierec_platform.api.quarantine import problems_of
from movierec_platform.api.routes import Routes, read_form
from movierec_platform.domain.quarantine import EVERYTHING, HELD_NOW, Filter
from movierec_platform.services.operations import Operations
from movierec_platform.services.quarantine import Quarantine
from movierec_platform.services.redrive import Redrive

ROWS_SHOWN = 20
VERSIONS_SHOWN = 20

Act = Literal["redrive", "discard"]


class DoneQuery(Query):
    """What was just done in the quarantine."""

    act: Act | None = None
    done: Whole = 0
    skipped: Whole = 0


class ReasonPath(Path):
    """/operations/quarantine/<reason>"""

    reason: str


class RowsQuery(DoneQuery):
    """Which rows."""

    cursor: str = ""


class ActForm(Query):
    """What to do with which rows: one, or all of a reason."""

    act: Act
    reason: str = Field(title="the reason")
    row: str = ""
    next: str = "/operations"


def blueprint(operations: Operations, redrive: Callable[[], Redrive]) -> Routes:
    """The pages over these services; `redrive` is asked for at each request."""
    routes = Routes("page_operations", "Pages for those who run the platform.", "admin")
    routes.after_request(show_problem)

    @routes.get("/operations", doc_ui=False)
    def overview(query: DoneQuery) -> Response:
        now = operations.overview()
        judged = (now.evaluations or ())[-VERSIONS_SHOWN:]
        return page(
            "operations.html",
            now=now,
            judged=judged,
            quality=quality_plot(judged, now.publication.version if now.publication else None),
            ages=ages_plot(now.freshness.buckets) if now.freshness else None,
            acted=query,
        )

    @routes.get("/operations/quarantine/<reason>", doc_ui=False)
    def rows(path: ReasonPath, query: RowsQuery) -> Response:
        with problems_of():
            where = Filter(path.reason)
            found = Quarantine(redrive().state).page(where, HELD_NOW, ROWS_SHOWN, query.cursor or None)
        return page("quarantine.html", reason=path.reason, found=found, acted=query)

    @routes.post("/operations/quarantine", doc_ui=False)
    def act() -> Response:
        given = read_form(ActForm)
        way = redrive()
        quarantine = Quarantine(way.state)
        with problems_of():
            ids = [given.row] if given.row else []
            selection = quarantine.selection(ids, EVERYTHING if ids else Filter(given.reason), everything=False)
        do = way.redrive if given.act == "redrive" else quarantine.discard
        outcome = do(selection, actor())
        told = {"act": given.act, "done": sum(outcome.done.values()), "skipped": sum(outcome.skipped.values())}
        return back_to(f"{given.next.partition('?')[0]}?{urlencode(told)}")

    return routes
