"""The movies as columns by index, and which of them a request's filters allow."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from movierec_platform.domain.neighbourhood import Bools, Floats, Indexes, Ints, indexes_of, read_only
from movierec_platform.errors import ImpossibleFilter, NotFound

TRENDING_FROM = 0.5
"""A movie trends if its views of late add up to this: one view within a half-life."""


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """M movies in the order of their ids; read-only arrays, (M,) unless said otherwise.

    - movie_ids: int64, ascending. titles. years: int32, 0 where unknown.
    - viewers: int64, users who visibly saw the movie. rating_counts: int64. rating_means: float64, nan if unrated.
    - trend: float64, views of late, each halved for every half-life that it is old.
    - genres: bool (M, G), whether the movie is of each genre. genre_names: G of them, ascending.
    - popular: int32, indexes by viewers descending, then movie_id ascending.
    - trending: int32 (at most M,), indexes of the movies that trend, by trend descending, then movie_id ascending.
    """

    movie_ids: Ints
    titles: Sequence[str]
    years: Indexes
    viewers: Ints
    rating_counts: Ints
    rating_means: Floats
    trend: Floats
    genres: Bools
    genre_names: tuple[str, ...]
    popular: Indexes
    trending: Indexes

    def genres_of(self, index: int) -> tuple[str, ...]:
        return _names(self.genre_names, self.genres[index].tobytes())

    def year_of(self, index: int) -> int | None:
        return int(self.years[index]) or None

    def index_of(self, movie_id: int) -> int | None:
        """Where this movie stands; None: the catalogue lacks it."""
        index, known = indexes_of(self.movie_ids, np.array([movie_id], dtype=np.int64))
        return int(index[0]) if known[0] else None

    def known_index_of(self, movie_id: int) -> int:
        """Where this movie stands. NotFound if the catalogue lacks it."""
        index = self.index_of(movie_id)
        if index is None:
            raise NotFound(f"the catalogue has no movie {movie_id}")
        return index

    def described(self, index: int) -> tuple[int, str, int | None, tuple[str, ...]]:
        """Its id, title, year (None where unknown) and genres: what every answer that has a movie in it begins with."""
        return int(self.movie_ids[index]), self.titles[index], self.year_of(index), self.genres_of(index)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which movies may be answered; every filter that is given must let a movie pass."""

    genres: Collection[str] = ()
    """Of any of these; case does not matter."""
    exclude_genres: Collection[str] = ()
    """Of none of these."""
    year_from: int | None = None
    year_to: int | None = None
    """Both included. A movie whose year is unknown passes neither."""
    min_ratings: int = 0
    exclude_ids: Collection[int] = ()
    candidate_ids: Collection[int] | None = None
    """Only these; None: any."""

    def __post_init__(self) -> None:
        """ImpossibleFilter if no movie at all could pass."""
        if self.year_from is not None and self.year_to is not None and self.year_from > self.year_to:
            raise ImpossibleFilter(f"year_from {self.year_from} is after year_to {self.year_to}: no movie is from then")
        both = {name.casefold() for name in self.genres} & {name.casefold() for name in self.exclude_genres}
        if self.genres and both >= {name.casefold() for name in self.genres}:
            raise ImpossibleFilter(
                f"genres and exclude_genres both name {', '.join(sorted(both))}: no movie passes both"
            )


def catalogue(
    movie_ids: Ints,
    titles: Sequence[str],
    years: Sequence[int | None],
    viewers: Ints,
    rating_counts: Ints,
    rating_means: Floats,
    trend: Floats,
    genres: Sequence[Sequence[str] | None],
) -> Catalogue:
    """The catalogue of these columns, each (M,) by `movie_ids`, which are ascending and unique."""
    names = tuple(sorted({name for of_movie in genres for name in of_movie or ()}))
    column = {name: number for number, name in enumerate(names)}
    of_genre = np.zeros((len(movie_ids), len(names)), dtype=np.bool_)
    for index, of_movie in enumerate(genres):
        of_genre[index, [column[name] for name in of_movie or ()]] = True
    trending = np.lexsort((movie_ids, -trend))
    return Catalogue(
        movie_ids=read_only(movie_ids.astype(np.int64)),
        titles=titles,
        years=read_only(np.array([year or 0 for year in years], dtype=np.int32)),
        viewers=read_only(viewers.astype(np.int64)),
        rating_counts=read_only(rating_counts.astype(np.int64)),
        rating_means=read_only(rating_means.astype(np.float64)),
        trend=read_only(trend.astype(np.float64)),
        genres=read_only(of_genre),
        genre_names=names,
        popular=read_only(np.lexsort((movie_ids, -viewers)).astype(np.int32)),
        trending=read_only(trending[trend[trending] >= TRENDING_FROM].astype(np.int32)),
    )


def allowed(movies: Catalogue, filters: Filters) -> Bools | None:
    """Whether each movie passes the filters, (M,); None where there is nothing to filter by.

    Raises ImpossibleFilter for a genre that no movie has.
    """
    if filters == NO_FILTERS:
        return None
    passes = np.ones(len(movies.movie_ids), dtype=np.bool_)
    if filters.genres:
        passes &= movies.genres[:, genre_columns(movies, filters.genres)].any(axis=1)
    if filters.exclude_genres:
        passes &= ~movies.genres[:, genre_columns(movies, filters.exclude_genres)].any(axis=1)
    if filters.year_from is not None:
        passes &= (movies.years >= filters.year_from) & (movies.years > 0)
    if filters.year_to is not None:
        passes &= (movies.years <= filters.year_to) & (movies.years > 0)
    if filters.min_ratings:
        passes &= movies.rating_counts >= filters.min_ratings
    if filters.exclude_ids:
        passes[_known(movies, filters.exclude_ids)] = False
    if filters.candidate_ids is not None:
        only = np.zeros(len(passes), dtype=np.bool_)
        only[_known(movies, filters.candidate_ids)] = True
        passes &= only
    return passes


def blocked_by(passes: Bools | None, movies: Catalogue) -> Bools:
    """Whether each movie is kept out, (M,), in a new array: where it does not pass; nowhere, if `passes` is None."""
    return np.zeros(len(movies.movie_ids), dtype=np.bool_) if passes is None else ~passes


NO_FILTERS = Filters()


def genre_columns(movies: Catalogue, names: Collection[str]) -> Ints:
    """The columns of these genres, case aside. ImpossibleFilter for one that no movie has."""
    by_name: Mapping[str, int] = {name.casefold(): number for number, name in enumerate(movies.genre_names)}
    for name in names:
        if name.casefold() not in by_name:
            raise ImpossibleFilter(
                f"no movie is of the genre {name[:40]!r}; the genres are {', '.join(movies.genre_names)}"
            )
    return np.array([by_name[name.casefold()] for name in names], dtype=np.int64)


@lru_cache(maxsize=4096)
def _names(genre_names: tuple[str, ...], of_movie: bytes) -> tuple[str, ...]:
    """Those that the movie is of: there are far fewer such rows than movies."""
    return tuple(name for name, has in zip(genre_names, of_movie, strict=True) if has)


def _known(movies: Catalogue, ids: Collection[int]) -> Ints:
    index, known = indexes_of(movies.movie_ids, np.fromiter(ids, np.int64, len(ids)))
    return index[known]
