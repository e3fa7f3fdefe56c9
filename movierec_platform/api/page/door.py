"""What needs no key: the page's own files, the reader's language and colours, and giving a key.

A key is kept in a cookie that scripts cannot read and other sites' requests do not carry. Whether it is good is seen
when it is used, as with any other way to give it.
"""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from flask import Flask, Response, redirect, request
from pydantic import Field, StringConstraints
from werkzeug.exceptions import HTTPException

from movierec_platform.api.access import KEY_COOKIE
from movierec_platform.api.arguments import Path, Query
from movierec_platform.api.errors import Problem, of_http_exception
from movierec_platform.api.front import hurry
from movierec_platform.api.page.rendering import LANGUAGE_COOKIE, PROBLEM, THEME_COOKIE, asset, show_problem
from movierec_platform.api.page.texts import Language
from movierec_platform.api.routes import Routes, read_form

KEPT_S = 365 * 86_400


class AssetPath(Path):
    """/static/<name>"""

    name: str


class ChoiceForm(Query):
    """What a reader prefers, and where they were."""

    lang: Language | None = None
    theme: Literal["auto", "light", "dark"] | None = None
    next: str = "/"


class KeyForm(Query):
    """An API key, or nothing to forget it, and where the reader was."""

    key: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[!-~]*$")] = Field(
        "", title="a key", description="mrk_..."
    )
    next: str = "/"


def show_the_lost(app: Flask) -> None:
    """From now on whoever opens an address that nothing has in a browser sees a page; programs are told as before."""

    @app.errorhandler(404)
    def lost(error: HTTPException) -> Response:
        told = of_http_exception(error)
        reads_pages = request.accept_mimetypes.best_match([PROBLEM, "text/html"]) == "text/html"
        return show_problem(told) if reads_pages else told


def blueprint() -> Routes:
    """The routes."""
    routes = Routes("page_door", "The page's own files and choices.", None)
    routes.before_request(lambda: hurry(request.environ))
    routes.after_request(show_problem)

    @routes.get("/static/<name>", doc_ui=False)
    def static(path: AssetPath) -> Response:
        found = asset(path.name)
        if found is None:
            raise Problem(404, "not-found", f"there is no file {path.name[:40]!r} here")
        content, kind = found
        return Response(content, mimetype=kind, headers={"Cache-Control": "public, max-age=31536000"})

    @routes.post("/preferences", doc_ui=False)
    def prefer() -> Response:
        given = read_form(ChoiceForm)
        response = back_to(given.next)
        for name, value in ((LANGUAGE_COOKIE, given.lang), (THEME_COOKIE, given.theme)):
            if value:
                response.set_cookie(name, value, KEPT_S, httponly=True, samesite="Lax", secure=request.is_secure)
        return response

    @routes.post("/key", doc_ui=False)
    def keep_key() -> Response:
        given = read_form(KeyForm)
        response = back_to(given.next)
        if given.key:
            response.set_cookie(KEY_COOKIE, given.key, httponly=True, samesite="Strict", secure=request.is_secure)
        else:
            response.delete_cookie(KEY_COOKIE, httponly=True, samesite="Strict", secure=request.is_secure)
        return response

    return routes


def back_to(where: str) -> Response:
    """The browser goes there next, with GET; to the first page if it is no address of ours."""
    return redirect(where if _is_ours(where) else "/", 303)  # type: ignore[return-value]


def _is_ours(where: str) -> bool:
    if not where.startswith("/") or where.startswith("//") or "\\" in where or not where.isprintable():
        return False
    try:
        parts = urlsplit(where)
    except ValueError:
        return False
    return not parts.scheme and not parts.netloc
