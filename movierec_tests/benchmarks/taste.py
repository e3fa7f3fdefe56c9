"""Ratings that nobody gave, with the taste, the popularity and the activity of a real set: input of benchmarks.

Popularity falls with the rank as in Zipf's law (flattened at the head, as MovieLens is), users' numbers of ratings are
log-normal, and each movie belongs to one of some taste clusters, each user to a few: `TASTE` of a user's ratings are of
movies of his clusters, so that there is something to learn.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

USERS_OF_25M, MOVIES = 162_541, 59_047
CLUSTERS, CLUSTERS_OF_A_USER, TASTE = 60, 3, 0.6
MOST_OF_A_USER = 10_000
USERS_AT_ONCE = 2_000


def pairs(n_pairs: int, n_movies: int = MOVIES, seed: int = 0) -> tuple[Ints, Ints]:
    """About `n_pairs` different (user, movie) pairs, two arrays of shape (n,), by user and movie; the same for a seed.

    As many users as MovieLens 25M has for each rating; ids are spread over the numbers up to seven times as many.
    """
    chance = np.random.default_rng(seed)
    blocks = list(_blocks(chance, n_pairs, n_movies))
    users, movies = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return users * 7 + 1, movies * 7 + 1


def _blocks(chance: np.random.Generator, n_pairs: int, n_movies: int) -> Iterator[tuple[Ints, Ints]]:
    n_users = max(1, n_pairs * USERS_OF_25M // 25_000_000)
    activity = chance.lognormal(0, 1.25, n_users)
    wanted = np.minimum(np.maximum(activity / activity.mean() * n_pairs / n_users, 5), MOST_OF_A_USER)
    reach = 1 / (np.arange(n_movies) + 30) ** 1.1
    rank = chance.permutation(n_movies)
    cluster = chance.integers(0, CLUSTERS, n_movies)
    members = [np.flatnonzero(cluster == one) for one in range(CLUSTERS)]
    everywhere = np.cumsum(reach)
    inside = [np.cumsum(reach[one]) for one in members]
    for start in range(0, n_users, USERS_AT_ONCE):
        some = wanted[start : start + USERS_AT_ONCE]
        keys = np.zeros(0, np.int64)
        # Popular movies are drawn twice by the same user: what is missing then is drawn again.
        missing, tastes = some.copy(), chance.integers(0, CLUSTERS, (len(some), CLUSTERS_OF_A_USER))
        for _ in range(4):
            users = np.repeat(np.arange(len(some)), chance.poisson(np.maximum(missing, 0)))
            drawn = np.searchsorted(everywhere, chance.random(len(users)) * everywhere[-1])
            own = np.flatnonzero(chance.random(len(users)) < TASTE)
            chosen = tastes[users[own], chance.integers(0, CLUSTERS_OF_A_USER, len(own))]
            for one in range(CLUSTERS):
                hit = own[chosen == one]
                at = np.searchsorted(inside[one], chance.random(len(hit)) * inside[one][-1])
                drawn[hit] = members[one][at]
            keys = np.union1d(keys, users * n_movies + drawn)
            missing = some - np.bincount(keys // n_movies, minlength=len(some))
        yield start + keys // n_movies, rank[keys % n_movies]
