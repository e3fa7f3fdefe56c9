"""The cosine edges against a brute-force dense product that applies the tie rule by plain sorting."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.similarity import Edges, cosine_neighbours

Row = tuple[int, int, float, int, int]  # source, target, score, rank, support


def rows(edges: Edges) -> list[Row]:
    columns = (edges.source, edges.target, edges.score, edges.rank, edges.support)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def neighbours(seen: list[tuple[int, int]], n: int, shrink: float, **options: int) -> Edges:
    users = np.array([user for user, _ in seen], np.int64)
    movies = np.array([movie for _, movie in seen], np.int64)
    return cosine_neighbours(users, movies, n, shrink, **options)


def brute_force(seen: list[tuple[int, int]], n: int, shrink: float) -> list[Row]:
    watchers: dict[int, set[int]] = {}
    for user, movie in seen:
        watchers.setdefault(movie, set()).add(user)
    found: list[Row] = []
    for target in sorted(watchers):
        scored = []
        for source, its_watchers in watchers.items():
            both = len(its_watchers & watchers[target])
            if source != target and both:
                root = math.sqrt(len(its_watchers) * len(watchers[target]))
                scored.append((-both / (root + shrink), source, both))
        for rank, (negative, source, both) in enumerate(sorted(scored)[:n], start=1):
            found.append((source, target, -negative, rank, both))
    return found


pairs = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 15).map(lambda movie: movie * 7)), max_size=90)


@given(seen=pairs, n=st.integers(1, 16), shrink=st.sampled_from([0.0, 1.0, 10.0]), block=st.integers(1, 60))
def test_edges_equal_the_brute_force_ones_bit_for_bit(
    seen: list[tuple[int, int]], n: int, shrink: float, block: int
) -> None:
    assert rows(neighbours(seen, n, shrink, max_block_pairs=block)) == brute_force(seen, n, shrink)


@given(seen=pairs, seed=st.integers(0, 9))
def test_order_and_repetition_of_the_input_do_not_matter(seen: list[tuple[int, int]], seed: int) -> None:
    shuffled = [(seen * 2)[k] for k in np.random.default_rng(seed).permutation(2 * len(seen))]
    assert neighbours(shuffled, 5, 10.0).digest() == neighbours(seen, 5, 10.0).digest()


def test_nobody_saw_anything() -> None:
    edges = neighbours([], 5, 10.0)
    assert len(edges) == 0
    assert (edges.source.dtype, edges.score.dtype, edges.rank.dtype) == (np.int64, np.float64, np.int32)


def test_one_user_ties_everything_and_the_lower_id_wins() -> None:
    assert rows(neighbours([(1, 30), (1, 10), (1, 20)], 1, 0.0)) == [
        (20, 10, 1.0, 1, 1),
        (10, 20, 1.0, 1, 1),
        (10, 30, 1.0, 1, 1),
    ]


def test_a_movie_seen_alone_has_no_edges() -> None:
    edges = neighbours([(1, 10), (1, 20), (2, 99)], 5, 0.0)
    assert 99 not in edges.source.tolist() + edges.target.tolist()


def test_a_movie_seen_by_all_is_shrunk_like_the_others() -> None:
    # 10 is seen by all three users; 20 by two of them; 30 by the third.
    seen = [(1, 10), (2, 10), (3, 10), (1, 20), (2, 20), (3, 30)]
    assert rows(neighbours(seen, 5, 10.0)) == [
        (20, 10, 2 / (math.sqrt(6) + 10), 1, 2),
        (30, 10, 1 / (math.sqrt(3) + 10), 2, 1),
        (10, 20, 2 / (math.sqrt(6) + 10), 1, 2),
        (10, 30, 1 / (math.sqrt(3) + 10), 1, 1),
    ]


def test_shrinkage_puts_the_better_supported_pair_first() -> None:
    # Movie 1 has six users; two of them are all who saw 2, five of them are among the thirteen who saw 3.
    seen = [(user, 1) for user in range(6)] + [(user, 2) for user in range(2)] + [(user, 3) for user in range(1, 14)]
    best = {shrink: rows(neighbours(seen, 1, shrink))[0][:2] for shrink in (0.0, 10.0)}
    assert best == {0.0: (2, 1), 10.0: (3, 1)}


def test_the_digest_notices_any_change() -> None:
    seen = [(1, 10), (1, 20), (2, 10), (2, 20), (2, 30)]
    digests = {neighbours(seen, n, shrink).digest() for n in (1, 5) for shrink in (0.0, 10.0)}
    assert len(digests) == 4


def test_arrays_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        cosine_neighbours(np.array([1, 2]), np.array([1]), 5, 10.0)
