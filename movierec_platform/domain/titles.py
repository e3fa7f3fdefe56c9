"""Titles and genres as GroupLens writes them, and as people do."""

import re

NO_GENRES = "(no genres listed)"
_YEAR = re.compile(r"\s*\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*$", re.ASCII)
_ARTICLES = "The|An|A|Les|Le|La|L'|Los|Las|El|Il|Lo|Gli|Der|Die|Das|Ein|Eine|Une|Un|Una|Uno|Det|Den"
_TRAILING_ARTICLE = re.compile(rf"(^|\((?:a\.k\.a\. )?)([^()]+), ({_ARTICLES})(?=\)|\s*$|\s+\()")


def title_and_year(text: str) -> tuple[str, int | None]:
    """A GroupLens title as people write it: `Matrix, The (1999)` is `The Matrix` of 1999; no year, None."""
    year = _YEAR.search(text)
    if year is None or year.start() == 0:  # `(1999)` alone is a title
        return natural_title(text), None
    return natural_title(text[: year.start()]), int(year.group(1))


def natural_title(title: str) -> str:
    """The title with its article in front: `Fly, The` is `The Fly`; so are the alternative titles in brackets."""
    return _TRAILING_ARTICLE.sub(_article_first, title).strip()


def genres_of(text: str) -> list[str]:
    """`A|B` is [A, B]; `(no genres listed)` and nothing are []."""
    return [] if text in ("", NO_GENRES) else text.split("|")


def _article_first(found: re.Match[str]) -> str:
    opening, words, article = found.groups()
    return f"{opening}{article}{'' if article.endswith(chr(39)) else ' '}{words}"
