"""The forms in which GroupLens publishes a set, known by the files that lie side by side in the archive."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from movierec_platform.errors import UsageError


@dataclass(frozen=True)
class Form:
    """How one family of archives spells its files."""

    ratings: str
    movies: str
    separator: bytes
    """Between the fields of a rating."""
    ratings_header: str | None
    encodings: Sequence[str]
    """Of the movies; the first that fits."""
    genres: str | None = None
    """A file that names the genre flags; it may be missing."""


CSV = Form("ratings.csv", "movies.csv", b",", "userId,movieId,rating,timestamp", ("utf-8-sig",))
"""ml-latest-small, ml-latest, ml-20m, ml-25m, ml-32m"""
DAT = Form("ratings.dat", "movies.dat", b"::", None, ("utf-8-sig", "latin-1"))
"""ml-1m (latin-1) and ml-10m (utf-8)"""
FLAGS = Form("u.data", "u.item", b"\t", None, ("utf-8-sig", "latin-1"), "u.genre")
"""ml-100k (latin-1)"""
FORMS = (CSV, DAT, FLAGS)


@dataclass(frozen=True)
class Layout:
    """Where an archive has what; member names."""

    form: Form
    ratings: str
    movies: str
    genres: str | None

    @property
    def members(self) -> list[str]:
        """All that the tables are made from."""
        return [name for name in (self.ratings, self.movies, self.genres) if name is not None]


def recognised(archive: str, members: Collection[str]) -> Layout:
    """The layout of the one set among these members, in whatever folder; UsageError if there is none, or more."""
    names = {PurePosixPath(name): name for name in members}
    folders = sorted({path.parent for path in names})
    found = [layout for folder in folders for form in FORMS if (layout := _layout(form, folder, names))]
    if len(found) == 1:
        return found[0]
    if found:
        sets = ", ".join(layout.ratings for layout in found)
        raise UsageError(f"{archive} holds several sets ({sets}); load them one by one")
    wanted = " or ".join(f"{form.ratings} with {form.movies}" for form in FORMS)
    held = ", ".join(sorted(path.name for path in names)[:8]) or "nothing"
    raise UsageError(f"{archive} is not a GroupLens archive that this version reads: it holds {held}, not {wanted}")


def _layout(form: Form, folder: PurePosixPath, members: Mapping[PurePosixPath, str]) -> Layout | None:
    ratings, movies = (members.get(folder / name) for name in (form.ratings, form.movies))
    if ratings is None or movies is None:
        return None
    return Layout(form, ratings, movies, members.get(folder / form.genres) if form.genres else None)
