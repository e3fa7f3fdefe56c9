"""The steps of `neighbours` cut into blocks that share nothing, for an engine of many machines.

A row (see `cooccurrence`) needs, of each user who saw its movie, the more popular movies that he saw: a block of rows
needs of its users their movies up to its own last one, and nothing else. The steps, each a function here:

1. `block_parts` copies each user's movies to the blocks of rows that they lie in.
2. `strongest_of_rows` walks one block; the best of what all blocks found (`best_found`) are the best of all.
3. For slim, `products_of_rows` walks it again for the products that the supports need, and `weights_of_targets`
   descends for a run of targets, once their products have been brought together.

The arithmetic is that of the local engine, in the same order: the edges are the same, bit for bit.
"""

from dataclasses import dataclass

import numba
import numpy as np

from movierec_platform.domain.similarity.cooccurrence import walk_of, walk_scores
from movierec_platform.domain.similarity.edges import Edges, Floats, Ints
from movierec_platform.domain.similarity.engine import edges_of
from movierec_platform.domain.similarity.parameters import SimilarityParameters
from movierec_platform.domain.similarity.seen import Int32s, Seen, Uint32s, most_seen_first, starts_of
from movierec_platform.domain.similarity.slim import (
    Gram,
    Supports,
    count_products,
    descend,
    fewest_viewers,
    supports_of,
    uses_of,
)
from movierec_platform.domain.similarity.walks import Block, Heaps, empty_heaps

MOST_OF_32_BITS = 2**32 - 1

Span = tuple[int, int]
"""[first, last) of rows or targets, by number."""


@dataclass(frozen=True, eq=False)
class Movies:
    """The movies by number: 0 was seen by most, ties by id descending."""

    movie_ids: Ints
    """(n_movies,), ascending."""
    position: Int32s
    """(n_movies,), by number: where the movie stands in `movie_ids`."""
    viewers: Ints
    """(n_movies,), by number: users who saw it; descending."""

    def numbers_of(self, movie_ids: Ints) -> Int32s:
        """The numbers of these ids, all of which must be known."""
        number = np.empty(len(self.position), np.int32)
        number[self.position] = np.arange(len(self.position), dtype=np.int32)
        numbers: Int32s = number[np.searchsorted(self.movie_ids, movie_ids)]
        return numbers


@dataclass(frozen=True, eq=False)
class Parts:
    """What blocks of rows are sent of their users; an array position is one user in one block."""

    block: Int32s
    """(n_parts,)"""
    user: Ints
    """(n_parts,)"""
    starts: Ints
    """(n_parts + 1,): the movies of part k are movies[starts[k] : starts[k + 1]]."""
    movies: Int32s
    """Numbers, ascending within the part."""


@dataclass(frozen=True, eq=False)
class Found:
    """Sources that movies were offered, in no order; all (n_found,)."""

    target: Int32s
    """Movies by number."""
    source: Int32s
    """Places of movies among the ids."""
    score: Floats
    support: Uint32s


@dataclass(frozen=True, eq=False)
class Products:
    """Rows of the triangles of products that targets need (see `slim`), in no order."""

    target: Int32s
    """(n_rows,)"""
    place: Int32s
    """(n_rows,): of the movie within the target's support, at least 1."""
    starts: Ints
    """(n_rows + 1,): row k is counts[starts[k] : starts[k + 1]], as long as its place."""
    counts: Uint32s
    """Users who saw the movie and each of those before it in the support."""


def movies_of(movie_ids: Ints, viewers: Ints) -> Movies:
    """The movies of these ids (unique, in any order) that so many users saw, at least one."""
    order = np.argsort(movie_ids)
    viewers = viewers[order].astype(np.int64)
    position = most_seen_first(viewers)
    return Movies(movie_ids[order].astype(np.int64), position, viewers[position])


def row_work(starts: Ints, movies: Int32s, n_movies: int) -> Ints:
    """What these users add to the cost of each row: the more popular movies that each of its viewers saw; (n_movies,).

    The movies of user k, ascending, are movies[starts[k] : starts[k + 1]].
    """
    before = np.arange(len(movies)) - np.repeat(starts[:-1], np.diff(starts))
    return np.bincount(movies, weights=before, minlength=n_movies).astype(np.int64)


def equal_blocks(work: Ints, n_blocks: int) -> Int32s:
    """For each index of `work` (costs, shape (n,)) its block, 0, 1, ...: runs of about the same cost."""
    upto = np.cumsum(work + 1)
    blocks: Int32s = ((upto - work - 1) * n_blocks // max(1, upto[-1])).astype(np.int32)
    return blocks


def block_parts(user_ids: Ints, starts: Ints, movies: Int32s, block_of: Int32s, whole: bool) -> Parts:
    """Each user's movies, for every block that one of them lies in: up to the last of these, or all if `whole`.

    Users and their movies as in `row_work`.
    """
    user = np.repeat(np.arange(len(user_ids)), np.diff(starts))
    block = block_of[movies]
    last = np.ones(len(movies), np.bool_)
    last[:-1] = (block[1:] != block[:-1]) | (user[1:] != user[:-1])
    ends = np.flatnonzero(last) + 1
    owner = user[last]
    begins = starts[owner]
    if whole:
        ends = starts[owner + 1]
    part_starts = starts_of(ends - begins)
    return Parts(block[last], user_ids[owner], part_starts, movies[_places(begins, part_starts)])


def strongest_of_rows(movies: Movies, parts: Parts, rows: Span, parameters: SimilarityParameters, n_best: int) -> Found:
    """For every movie the best `n_best` among the pairs whose less popular end is one of these rows.

    `parts` are those of this block, by user ascending; whole ones for rp3beta, whose steps depend on how many movies a
    user saw.
    """
    n_movies, everything = len(movies.movie_ids), np.zeros(len(parts.user), np.int32)
    heaps = empty_heaps(n_movies, n_best)
    block = Block(0, n_movies, everything, everything)
    least = fewest_viewers(parameters.l1) if parameters.method == "slim" else 1
    walk, new_counts = walk_of(_seen(movies, parts, rows), parameters, block, least)
    walk(*rows, heaps, new_counts())
    return _found(heaps)


def best_found(movies: Movies, found: Found, n_best: int) -> Found:
    """For every movie the best `n_best` of these, by target ascending, best first, ties by source id."""
    order = np.lexsort((found.source, -found.score, found.target))
    target = found.target[order]
    rank = np.arange(len(order)) - np.searchsorted(target, target)
    kept = order[rank < n_best]
    return Found(found.target[kept], found.source[kept], found.score[kept], found.support[kept])


def supports_found(movies: Movies, best: Found) -> Supports:
    """For slim, the supports that these best sources by cosine give; in order within each target."""
    return supports_of(_heaps(movies, best), np.argsort(movies.position).astype(np.int32))


def products_of_rows(movies: Movies, parts: Parts, rows: Span, supports: Supports) -> Products:
    """The rows of products that belong to these rows of the walk; `parts` as in `strongest_of_rows`."""
    n_movies = len(movies.movie_ids)
    uses = uses_of(supports, 0, n_movies, np.zeros(n_movies + 1, np.int64), n_movies)
    own = slice(uses.starts[rows[0]], uses.starts[rows[1]])
    starts = starts_of(uses.places[own].astype(np.int64))
    uses.rows[own] = starts[:-1]
    counts = np.empty(starts[-1], np.uint32)
    seen = _seen(movies, parts, rows)
    no_popular = np.empty((0, 0), np.uint32)  # no count is too great for 32 bits
    count_products(
        *rows, seen.rows(), supports, uses, counts, MOST_OF_32_BITS, no_popular, np.zeros(n_movies, np.uint32)
    )
    return Products(uses.targets[own], uses.places[own], starts, counts)


def weights_of_targets(
    movies: Movies, supports: Supports, products: Products, targets: Span, parameters: SimilarityParameters
) -> Found:
    """The highest weights above 0 of these targets, of which all products are given."""
    first, last = targets
    order = np.lexsort((products.place, products.target))
    begins = products.starts[:-1][order]
    in_order = products.counts[_places(begins, starts_of(np.diff(products.starts)[order]))]
    sizes = np.diff(supports.starts[first : last + 1])
    gram = Gram(starts_of(sizes * (sizes - 1) // 2), in_order, np.empty((0, 0), np.uint32))
    best = empty_heaps(len(movies.movie_ids), min(parameters.neighbours, parameters.support_size))
    l1, l2 = parameters.l1, parameters.l2
    descend(first, last, first, supports, gram, movies.viewers, movies.position, l1, l2, best)
    return _found(best)


def edges_found(movies: Movies, found: Found, parameters: SimilarityParameters) -> Edges:
    """The edges of the best of these for every movie."""
    best = _heaps(movies, best_found(movies, found, parameters.neighbours))
    if parameters.method == "rp3beta":
        best = walk_scores(best, movies.position, movies.viewers, parameters)
    return edges_of(movies.movie_ids, movies.position, best)


def _seen(movies: Movies, parts: Parts, rows: Span) -> Seen:
    """The matrix of these parts, but of the rows by movie only those of the block."""
    first, last = rows
    own = parts.movies[(parts.movies >= first) & (parts.movies < last)]
    sizes = np.empty(len(movies.movie_ids), np.int64)
    sizes[movies.position] = np.bincount(own, minlength=len(sizes))
    movie_starts = starts_of(sizes)
    movie_users, before = np.empty(len(own), np.int32), np.empty(len(own), np.int32)
    _fill_rows(parts.starts, parts.movies, first, last, movie_starts[movies.position], movie_users, before)
    return Seen(
        movies.movie_ids,
        movies.position,
        movies.viewers,
        parts.starts,
        parts.movies.view(np.uint32),
        movie_starts,
        movie_users,
        before,
    )


def _heaps(movies: Movies, best: Found) -> Heaps:
    """Sources that are in order within each target, as the local engine has them."""
    by_target = np.argsort(best.target, kind="stable")
    size = np.bincount(best.target, minlength=len(movies.movie_ids)).astype(np.int32)
    n_best = max(1, int(size.max(initial=0)))
    heaps = empty_heaps(len(size), n_best)
    places = _places(np.arange(len(size)) * n_best, starts_of(size.astype(np.int64)))
    heaps.score[places], heaps.source[places] = best.score[by_target], best.source[by_target]
    heaps.support[places] = best.support[by_target]
    return heaps._replace(size=size)


def _found(heaps: Heaps) -> Found:
    n_best = len(heaps.score) // len(heaps.size)
    places = _places(np.arange(len(heaps.size)) * n_best, starts_of(heaps.size.astype(np.int64)))
    target = np.repeat(np.arange(len(heaps.size), dtype=np.int32), heaps.size)
    return Found(target, heaps.source[places], heaps.score[places], heaps.support[places])


def _places(begins: Ints, starts: Ints) -> Ints:
    """Indexes of runs laid end to end: run k begins at begins[k] and is starts[k + 1] - starts[k] long."""
    return np.arange(starts[-1]) + np.repeat(begins - starts[:-1], np.diff(starts))


@numba.njit(cache=True, nogil=True)
def _fill_rows(starts, movies, first, last, free, movie_users, before):  # type: ignore[no-untyped-def]
    for part in range(len(starts) - 1):
        for k in range(starts[part], starts[part + 1]):
            movie = movies[k]
            if first <= movie < last:
                movie_users[free[movie]] = part
                before[free[movie]] = k - starts[part]
                free[movie] += 1
