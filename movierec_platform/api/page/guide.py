"""/guide: the documentation that comes with the package, as pages. Links between its files lead from page to page."""

import re
from functools import cache
from itertools import pairwise

from flask import Response, redirect
from markdown_it import MarkdownIt
from markupsafe import Markup

from movierec_platform.api.arguments import Path
from movierec_platform.api.errors import Problem
from movierec_platform.api.page.rendering import page, show_problem
from movierec_platform.api.routes import Routes
from movierec_platform.services.guide import SUFFIX, pages, title_of


class GuidePath(Path):
    """/guide/<name>"""

    name: str


def blueprint() -> Routes:
    """The routes."""
    routes = Routes("page_guide", "The documentation.", None)
    routes.after_request(show_problem)

    @routes.get("/guide", doc_ui=False)
    def contents() -> Response:
        listed = [(name, title_of(text)) for name, text in pages().items()]
        return page("guide.html", title="", listed=listed, text="")

    @routes.get("/guide/<path:name>", doc_ui=False)
    def one(path: GuidePath) -> Response:
        name = path.name.removesuffix(SUFFIX)
        if name not in pages():
            raise Problem(404, "not-found", f"the documentation has no page {name!r}; /guide lists them")
        if name == path.name:  # links in the files are relative and name files
            return redirect(f"/guide/{name}{SUFFIX}")  # type: ignore[return-value]
        return page("guide.html", title=title_of(pages()[name]), listed=[], text=_html(name))

    return routes


@cache
def _html(name: str) -> Markup:
    """The page as HTML; each heading has the id by which links name it."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(re.sub(r"<!--.*?-->\n*", "", pages()[name]))
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            before.attrSet("id", anchor(token.content))
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))  # noqa: S704


def anchor(heading: str) -> str:
    """The id of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
