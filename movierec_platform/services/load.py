"""Load a MovieLens set into the lake: one reading of the archive becomes the tables movies and ratings."""

from dataclasses import dataclass

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.movielens import read_movielens


@dataclass(frozen=True)
class Loaded:
    """What a set held."""

    name: str
    movies: int
    ratings: int
    untitled_movies: int
    repeated_ratings: int


def load_archive(lake: Lake, archive: str) -> Loaded:
    """The lake's movies and ratings are those of this archive (a path; empty: the built-in set).

    Nothing is written unless all of the archive could be read. Raises UsageError with the file and line at fault.
    """
    read = read_movielens(archive)
    return Loaded(
        name=read.name,
        movies=lake.write("movies", read.movies),
        ratings=lake.write("ratings", read.ratings),
        untitled_movies=read.untitled_movies,
        repeated_ratings=read.repeated_ratings,
    )
