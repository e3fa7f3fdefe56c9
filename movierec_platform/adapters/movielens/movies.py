"""Movies out of an archive; a set has tens of thousands of them, and they are read whole."""

import csv
import io
import re
from collections.abc import Iterator

from movierec_platform.adapters.movielens import Movie
from movierec_platform.adapters.movielens.forms import CSV, FLAGS, Form, Layout
from movierec_platform.adapters.movielens.members import Members
from movierec_platform.adapters.movielens.ratings import shown
from movierec_platform.domain.events import INT64_MAX
from movierec_platform.domain.texts import one_line
from movierec_platform.domain.titles import genres_of, title_and_year
from movierec_platform.errors import UsageError

GENRES_100K = genres_of(
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|"
    "Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
"""What the flags of ml-100k mean where u.genre is missing; `unknown` is no genre."""
_HEADER = "movieId,title,genres"
_BEFORE_FLAGS = 5
"""Id, title, two dates and an address."""
_INT = re.compile(r"[0-9]{1,19}")


def read_movies(archive: Members, layout: Layout) -> dict[int, Movie]:
    """Every movie by its id; UsageError at the first line that is none, or that gives an id again."""
    member, form = layout.movies, layout.form
    text = _decoded(member, archive.whole(member), form)
    if form is FLAGS:
        rows = _rows_with_flags(member, text, _genre_names(archive, layout))
    else:
        rows = _csv_rows(member, text) if form is CSV else _separated_rows(text, form.separator.decode())
    movies: dict[int, Movie] = {}
    for line, fields in rows:
        if len(fields) != 3 or not _INT.fullmatch(fields[0]) or not 0 < int(fields[0]) <= INT64_MAX:
            raise UsageError(
                f"{member} line {line}: a movie is an id above 0, a title and genres, not {shown(' '.join(fields))}"
            )
        movie_id, title = int(fields[0]), one_line(fields[1])
        if movie_id in movies:
            raise UsageError(f"{member} line {line}: movie {movie_id} was already given in an earlier line")
        if not title:
            raise UsageError(f"{member} line {line}: movie {movie_id} has no title")
        try:
            movies[movie_id] = (*title_and_year(title), genres_of(fields[2]))
        except ValueError as error:
            raise UsageError(f"{member} line {line}: {error}") from None
    return movies


def _decoded(member: str, body: bytes, form: Form) -> str:
    for encoding in form.encodings:
        try:
            return body.decode(encoding)
        except UnicodeDecodeError as error:
            line = body.count(b"\n", 0, error.start) + 1
    raise UsageError(f"{member} line {line}: not {form.encodings[0].removesuffix('-sig')}")


def _csv_rows(member: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Number of the line on which the row begins, and its three fields."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        header = ",".join(next(reader, []))
        if header != _HEADER:
            raise UsageError(f"{member} line 1: the header is {_HEADER}, not {shown(header)}")
        line = reader.line_num + 1
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{member} line {line}: {error}") from error


def _separated_rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    # Not splitlines: a byte 0x85 in latin-1 would end a line for it.
    for number, line in enumerate(text.split("\n"), start=1):
        bare = line.removesuffix("\r")
        if bare:
            yield number, bare.split(separator)


def _rows_with_flags(member: str, text: str, genres: list[str]) -> Iterator[tuple[int, list[str]]]:
    wanted = _BEFORE_FLAGS + len(genres)
    for number, fields in _separated_rows(text, "|"):
        flags = fields[_BEFORE_FLAGS:]
        if len(fields) != wanted or not set(flags) <= {"0", "1"}:
            raise UsageError(
                f"{member} line {number}: a movie is {_BEFORE_FLAGS} fields and {len(genres)} flags of 0 or 1, "
                f"not {shown('|'.join(fields))}"
            )
        named = [name for name, flag in zip(genres, flags, strict=True) if flag == "1" and name != "unknown"]
        yield number, [*fields[:2], "|".join(named)]


def _genre_names(archive: Members, layout: Layout) -> list[str]:
    """The genres in the order of their flags, as the archive says, else as they are known to be."""
    member = layout.genres
    if member is None:
        return GENRES_100K
    names: dict[int, str] = {}
    for number, fields in _separated_rows(_decoded(member, archive.whole(member), layout.form), "|"):
        if len(fields) != 2 or not _INT.fullmatch(fields[1]) or int(fields[1]) in names:
            raise UsageError(f"{member} line {number}: a genre is a name and its number, not {shown('|'.join(fields))}")
        names[int(fields[1])] = fields[0]
    if not names or sorted(names) != list(range(len(names))):
        raise UsageError(f"{member}: the genres are not numbered 0, 1, 2, ...")
    return [names[number] for number in range(len(names))]
