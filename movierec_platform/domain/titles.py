"""Titles and genres as GroupLens writes them, and as people do."""

import re

from movierec_platform.domain.texts import one_line

NO_GENRES = "(no genres listed)"
_YEAR = re.compile(r"\(\s*([0-9]{4})\s*(?:[-\u2013\u2014]\s*[0-9]{0,4}\s*)?\)$")
"""Of a film, or from when to when something ran; `(2009- )` runs on."""
FIRST_YEAR, LAST_YEAR = 1870, 2100
"""No film is older than the first, and none is announced for later than the last."""
_NO_GENRE = frozenset({"", "nan", "null", "none"})
"""What programs write where there is no value."""
_ARTICLES = "The|An|A|Les|Le|La|L'|Los|Las|El|Il|Lo|Gli|Der|Die|Das|Ein|Eine|Une|Un|Una|Uno|Det|Den"
_TRAILING_ARTICLE = re.compile(rf"(^|\((?:a\.k\.a\. )?)([^()]+), ({_ARTICLES})(?=\)|\s*$|\s+\()")


def title_and_year(text: str) -> tuple[str, int | None]:
    """A GroupLens title as people write it: `Matrix, The (1999)` is `The Matrix` of 1999; no year, None.

    Raises ValueError for a year in which there are no films.
    """
    text = one_line(text)
    year = _YEAR.search(text)
    if year is None or year.start() == 0:  # `(1999)` alone is a title
        return natural_title(text), None
    if not FIRST_YEAR <= int(year[1]) <= LAST_YEAR:
        raise ValueError(f"the year of a film is {FIRST_YEAR} to {LAST_YEAR}, not {year[1]}")
    return natural_title(text[: year.start()]), int(year[1])


def natural_title(title: str) -> str:
    """The title with its article in front: `Fly, The` is `The Fly`; so are the alternative titles in brackets."""
    return _TRAILING_ARTICLE.sub(_article_first, one_line(title))


def genres_of(text: str) -> list[str]:
    """`A|B` is [A, B]; `(no genres listed)` and nothing are []. Raises ValueError for a genre that is no name."""
    text = one_line(text)
    genres = [] if text in ("", NO_GENRES) else [genre.strip() for genre in text.split("|")]
    for genre in genres:
        if genre.casefold() in _NO_GENRE:
            raise ValueError(f"a genre is a name, not {genre!r}; a film without any has {NO_GENRES}")
    return genres


def _article_first(found: re.Match[str]) -> str:
    opening, words, article = found.groups()
    return f"{opening}{article}{'' if article.endswith(chr(39)) else ' '}{words}"
