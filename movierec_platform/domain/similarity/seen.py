"""Who has seen what as a sparse matrix, both ways, with the movies numbered by popularity."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd

from movierec_platform.domain.similarity.edges import Ints

Int32s = npt.NDArray[np.int32]
Uint32s = npt.NDArray[np.uint32]

ROWS_AT_ONCE = 1 << 20


class Rows(NamedTuple):
    """The arrays of `Seen` of the same names."""

    position: Int32s
    user_starts: Ints
    user_movies: Uint32s
    movie_starts: Ints
    movie_users: Int32s
    before: Int32s


@dataclass(frozen=True, eq=False)
class Seen:
    """Each (user, movie) pair once. A movie's number is its popularity rank: 0 was seen by most, ties by id descending.

    The rows by movie lie in the order of ids, so that numbering them by popularity copies nothing.
    """

    movie_ids: Ints
    """(n_movies,), ascending."""
    position: Int32s
    """(n_movies,), by number: where the movie stands in `movie_ids`, and its row among the rows by movie."""
    viewers: Ints
    """(n_movies,), by number: users who saw it; descending."""
    user_starts: Ints
    """(n_users + 1,): the movies of user u are user_movies[user_starts[u] : user_starts[u + 1]]."""
    user_movies: Uint32s
    """(n_pairs,), numbers, ascending within the user: the most popular first."""
    movie_starts: Ints
    """(n_movies + 1,), by position, as above."""
    movie_users: Int32s
    """(n_pairs,), ascending within the movie; users are numbered by id ascending."""
    before: Int32s
    """(n_pairs,), for each pair of `movie_users`: how many more popular movies that user has seen."""

    def rows(self) -> "Rows":
        """The arrays as compiled code takes them."""
        return Rows(self.position, self.user_starts, self.user_movies, self.movie_starts, self.movie_users, self.before)

    def pairs_walked(self) -> Ints:
        """(n_movies,), by number: how many more popular movies its viewers have seen, what its row costs."""
        walked = np.zeros(len(self.movie_ids), np.int64)
        _sums(self.movie_starts, self.before, self.position, walked)
        return walked


def seen_matrix(users: Ints, movies: Ints) -> Seen:
    """The matrix of these pairs (two (n_seen,) arrays of ids, in any order, repeated or not).

    Takes 16 bytes a pair beside what it returns.
    """
    if len(users) != len(movies):
        raise ValueError(f"users and movies must pair up, got {len(users)} and {len(movies)}")
    user_ids, movie_ids = (pd.Index(np.sort(pd.unique(np.asarray(ids, np.int64)))) for ids in (users, movies))
    row = _positions(user_ids, users)
    user_starts = starts_of(_counts(row, len(user_ids)))
    mixed = np.empty(len(row), np.uint32)
    free = user_starts[:-1].copy()
    for start in range(0, len(row), ROWS_AT_ONCE):
        stop = start + ROWS_AT_ONCE
        _fill(row[start:stop], _positions(movie_ids, movies[start:stop]), free, mixed)
    del row
    repeated_starts = starts_of(_counts(mixed, len(movie_ids)))
    movie_users = np.empty(len(mixed), np.int32)
    _transpose(user_starts, mixed, repeated_starts[:-1].copy(), movie_users)
    movie_starts = np.zeros(len(movie_ids) + 1, np.int64)
    movie_users = movie_users[: _keep_one_of_each(repeated_starts, movie_users, movie_starts)]

    viewers = np.diff(movie_starts)
    position = most_seen_first(viewers)
    user_starts = starts_of(_counts(movie_users, len(user_ids)))
    user_movies, before = mixed[: len(movie_users)], np.empty(len(movie_users), np.int32)
    _number(movie_starts, movie_users, position, user_starts, user_movies, before)
    return Seen(
        movie_ids.to_numpy(), position, viewers[position], user_starts, user_movies, movie_starts, movie_users, before
    )


def most_seen_first(viewers: Ints) -> Int32s:
    """The indexes of `viewers` (users who saw each movie, in order of ids) by movie number."""
    return np.argsort(viewers, kind="stable")[::-1].astype(np.int32)


def _positions(ids: "pd.Index[Any]", values: Ints) -> Int32s:
    """Where each of these values stands among the ids, some at a time."""
    found = np.empty(len(values), np.int32)
    for start in range(0, len(values), ROWS_AT_ONCE):
        found[start : start + ROWS_AT_ONCE] = ids.get_indexer(pd.Index(values[start : start + ROWS_AT_ONCE]))
    return found


def _counts(values: "Int32s | Uint32s", n: int) -> Ints:
    """How often each of 0, ..., n - 1 is among the values, some at a time: numpy counts a copy of 8 bytes a value."""
    counts = np.zeros(n, np.int64)
    for start in range(0, len(values), ROWS_AT_ONCE):
        counts += np.bincount(values[start : start + ROWS_AT_ONCE], minlength=n)
    return counts


def starts_of(counts: Ints) -> Ints:
    """Where each of consecutive runs of these lengths begins, and where the last ends, shape (n_runs + 1,)."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


@numba.njit(cache=True, nogil=True)
def _fill(rows, items, free, filled):  # type: ignore[no-untyped-def]
    for k in range(len(rows)):
        filled[free[rows[k]]] = items[k]
        free[rows[k]] += 1


@numba.njit(cache=True, nogil=True)
def _transpose(starts, items, free, filled):  # type: ignore[no-untyped-def]
    for row in range(len(starts) - 1):
        for k in range(starts[row], starts[row + 1]):
            filled[free[items[k]]] = row
            free[items[k]] += 1


@numba.njit(cache=True, nogil=True)
def _keep_one_of_each(starts, items, kept_starts):  # type: ignore[no-untyped-def]
    """How many of the items are left, moved to the front, when of equal neighbours in a row one is kept."""
    kept = 0
    for row in range(len(starts) - 1):
        for k in range(starts[row], starts[row + 1]):
            if k == starts[row] or items[k] != items[kept - 1]:
                items[kept] = items[k]
                kept += 1
        kept_starts[row + 1] = kept
    return kept


@numba.njit(cache=True, nogil=True)
def _number(movie_starts, movie_users, position, user_starts, user_movies, before):  # type: ignore[no-untyped-def]
    free = user_starts[:-1].copy()
    for movie in range(len(position)):
        for k in range(movie_starts[position[movie]], movie_starts[position[movie] + 1]):
            user = movie_users[k]
            user_movies[free[user]] = movie
            before[k] = free[user] - user_starts[user]
            free[user] += 1


@numba.njit(cache=True, nogil=True)
def _sums(starts, values, position, sums):  # type: ignore[no-untyped-def]
    for movie in range(len(position)):
        for k in range(starts[position[movie]], starts[position[movie] + 1]):
            sums[movie] += values[k]
