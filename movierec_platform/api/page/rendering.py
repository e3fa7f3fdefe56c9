"""Pages out of templates, in the language and colours that the reader chose; problems as pages too."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode
from zlib import crc32

import orjson
from flask import Response, request
from jinja2 import Environment, PackageLoader, StrictUndefined

from movierec_platform import api
from movierec_platform.api.access import KEY_COOKIE
from movierec_platform.api.observed import request_id
from movierec_platform.api.page.texts import LANGUAGES, NAMES, TEXTS, Language, text

LANGUAGE_COOKIE, THEME_COOKIE = "movierec_lang", "movierec_theme"
THEMES = ("auto", "light", "dark")
HUES = 12
"""Colours of covers in page.css: classes hue-0 to hue-11."""
PROBLEM = "application/problem+json"
NOTICES = ("rated", "act", "done", "skipped")
"""Arguments that tell what was just done: not a part of where the reader is."""

_WORDS = re.compile(r"\w+")
_ARTICLES = frozenset({"the", "a", "an", "of", "and", "el", "la", "los", "las", "le", "les", "die", "der", "das", "il"})
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_KNOWN_PROBLEMS = frozenset(key.removeprefix("problem.") for key in TEXTS["en"] if key.startswith("problem."))
_FOLDER = files(api) / "static"
_PAGES = Environment(
    loader=PackageLoader("movierec_platform.api", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, *, status: int = 200, **shown: Any) -> Response:
    """This template's page of what is shown; nobody but the reader's browser keeps it."""
    language = language_of_request()
    common = {
        "lang": language,
        "languages": LANGUAGES,
        "language_names": NAMES,
        "theme": theme_of_request(),
        "themes": THEMES,
        "here": _here(),
        "has_key": bool(request.cookies.get(KEY_COOKIE)),
        "user": None,
        "asset": asset_path,
        "hue": hue,
        "monogram": monogram,
        "t": lambda key, **said: text(language, key, **said),
        "number": lambda value, digits=0: number(language, value, digits),
        "moment": moment,
        "ago": lambda at_ms: ago(language, at_ms),
        "genre": lambda name: text(language, f"genre.{name}", default=name),
    }
    html = _PAGES.get_template(template).render({**common, **shown})
    headers = {"Cache-Control": "private, no-cache", "Vary": "Accept-Language, Cookie"}
    return Response(html, status, headers, mimetype="text/html")


def show_problem(response: Response) -> Response:
    """A problem document as a page for people, with the same status and headers."""
    if response.mimetype != PROBLEM:
        return response
    said: Mapping[str, Any] = orjson.loads(response.get_data())
    shown = page(
        "problem.html",
        status=response.status_code,
        slug=str(said["type"]).rpartition("/")[2],
        detail=said["detail"],
        request_id=request_id(),
        known_problems=_KNOWN_PROBLEMS,
    )
    kept = [(name, value) for name, value in response.headers if name not in ("Content-Type", "Content-Length")]
    shown.headers.extend(kept)
    return shown


def _here() -> str:
    """Where the reader is, to come back to."""
    if request.method != "GET":
        return "/"
    asked = urlencode([(name, value) for name, value in request.args.items(multi=True) if name not in NOTICES])
    return f"{request.path}?{asked}" if asked else request.path


def language_of_request() -> Language:
    """The one that was chosen, else the best that the browser accepts, else English."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    accepted = request.accept_languages.best_match(LANGUAGES)
    return next((one for wish in (chosen, accepted) for one in LANGUAGES if one == wish), "en")


def theme_of_request() -> str:
    """The one that was chosen; `auto` is as the browser is set."""
    chosen = request.cookies.get(THEME_COOKIE)
    return chosen if chosen in THEMES else "auto"


def asset(name: str) -> tuple[bytes, str] | None:
    """The file of this name among ours, and its type; None when there is none."""
    kind = _TYPES.get(name.rpartition(".")[2])
    if kind is None or name not in _asset_names():
        return None
    return (_FOLDER / name).read_bytes(), kind


@cache
def _asset_names() -> frozenset[str]:
    return frozenset(file.name for file in _FOLDER.iterdir())


@cache
def asset_path(name: str) -> str:
    """Where browsers find it; a changed file has another address, so that it may be kept for long."""
    digest = blake2b((_FOLDER / name).read_bytes(), digest_size=6).hexdigest()
    return f"/static/{name}?v={digest}"


def hue(genres: Sequence[str], title: str) -> int:
    """The colour of a cover: by the movie's first genre, or its title where it has none."""
    return crc32((genres[0] if genres else title).encode()) % HUES


def monogram(title: str) -> str:
    """What stands on a cover: the first letters of the title's first two words that begin with one."""
    words = [word for word in _WORDS.findall(title) if word.casefold() not in _ARTICLES]
    return "".join(word[0].upper() for word in (words or _WORDS.findall(title))[:2]) or "·"


def number(language: Language, value: float, digits: int = 0) -> str:
    """The number as it is written in this language, with so many decimals."""
    written = f"{value:,.{digits}f}"
    return written if language == "en" else written.translate(str.maketrans(",.", ".,"))


def moment(at_ms: int) -> str:
    """A time to the minute, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def ago(language: Language, at_ms: int) -> str:
    """How long ago that was, in the largest unit of which there was one."""
    seconds = max(0, int(time.time() - at_ms / 1000))
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= length:
            return text(language, f"ago.{unit}", n=seconds // length)
    return text(language, "ago.seconds", n=seconds)
