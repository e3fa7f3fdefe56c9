"""The edges of each method against an oracle: a plain loop over all pairs, or the conditions that a minimum fulfils."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.similarity import Edges, Method, SimilarityParameters, neighbours

Seen = list[tuple[int, int]]  # user, movie
Row = tuple[int, int, float, int, int]  # source, target, score, rank, support
METHODS: tuple[Method, ...] = ("slim", "cosine", "rp3beta")


def rows(edges: Edges) -> list[Row]:
    columns = (edges.source, edges.target, edges.score, edges.rank, edges.support)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def learned(seen: Seen, method: Method, threads: int = 1, work_bytes: int = 1 << 20, **parameters: float) -> Edges:
    users, movies = (np.array(ids, np.int64) for ids in (zip(*seen, strict=True) if seen else ([], [])))
    given = SimilarityParameters(method=method, **parameters)  # type: ignore[arg-type]
    return neighbours(users, movies, given, n_threads=threads, work_bytes=work_bytes)


Score = Callable[[set[int], set[int], dict[int, int]], float]


def brute_force(seen: Seen, n: int, score: Score, chosen_by: Score | None = None) -> list[Row]:
    """Every pair of movies scored from who saw them, (source's, target's, movies by user), and sorted.

    The best n are chosen by the score, or by what is given for that.
    """
    viewers: dict[int, set[int]] = {}
    for user, movie in seen:
        viewers.setdefault(movie, set()).add(user)
    activity = {user: sum(user in some for some in viewers.values()) for user, _ in seen}
    found: list[Row] = []
    for target in sorted(viewers):
        scored = []
        for source in viewers:
            both = len(viewers[source] & viewers[target])
            if source != target and both:
                ends = viewers[source], viewers[target], activity
                scored.append((-(chosen_by or score)(*ends), source, both, -score(*ends)))
        best = sorted((negative, source, both) for _, source, both, negative in sorted(scored)[:n])
        for rank, (negative, source, both) in enumerate(best, start=1):
            found.append((source, target, -negative, rank, both))
    return found


pairs = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 15).map(lambda movie: movie * 7)), max_size=90)


@given(seen=pairs, n=st.integers(1, 16), shrink=st.sampled_from([0.0, 1.0, 10.0]))
def test_cosine_equals_brute_force_bit_for_bit(seen: Seen, n: int, shrink: float) -> None:
    def cosine(source: set[int], target: set[int], _: dict[int, int]) -> float:
        return len(source & target) / (math.sqrt(len(source) * len(target)) + shrink)

    assert rows(learned(seen, "cosine", neighbours=n, shrink=shrink)) == brute_force(seen, n, cosine)


@given(seen=pairs, n=st.integers(1, 16), alpha=st.sampled_from([0.0, 0.5, 1.0]), beta=st.sampled_from([0.0, 0.6]))
def test_rp3beta_equals_brute_force_bit_for_bit(seen: Seen, n: int, alpha: float, beta: float) -> None:
    def walk(source: set[int], target: set[int], activity: dict[int, int]) -> float:
        total = 0.0
        for user in sorted(source & target):
            total += float(np.array([activity[user]], np.float64)[0] ** -alpha)
        return total

    def score(source: set[int], target: set[int], activity: dict[int, int]) -> float:
        ends = float(np.float64(len(source)) ** -alpha), float(np.float64(len(target)) ** -beta)
        return walk(source, target, activity) * ends[0] * ends[1]

    assert rows(learned(seen, "rp3beta", neighbours=n, alpha=alpha, beta=beta)) == brute_force(seen, n, score, walk)


@given(
    seen=pairs, support=st.sampled_from([3, 20]), l1=st.sampled_from([0.0, 0.5, 1.0]), l2=st.sampled_from([1.0, 50.0])
)
def test_slim_is_at_the_minimum_of_its_objective(seen: Seen, support: int, l1: float, l2: float) -> None:
    """The Karush-Kuhn-Tucker conditions: no gradient where the weight is above 0, none that is below 0 elsewhere."""
    dense = np.zeros((13, 110))
    for user, movie in seen:
        dense[user, movie] = 1
    nearest = learned(seen, "cosine", neighbours=1_000)
    edges = learned(seen, "slim", neighbours=1_000, support_size=support, l1=l1, l2=l2)
    for target in {movie for _, movie in seen}:
        own = edges.target == target
        support_of_target = nearest.source[(nearest.target == target) & (nearest.support > l1)][:support]
        assert set(edges.source[own].tolist()) <= set(support_of_target.tolist())
        weights = np.zeros(110)
        weights[edges.source[own]] = edges.score[own]
        gradient = dense.T @ (dense @ weights - dense[:, target]) + l1 + l2 * weights
        above = weights > 0
        assert np.abs(gradient[above]).max(initial=0) < 2e-3
        assert gradient[support_of_target].min(initial=0) > -2e-3
        ranked = list(zip(-edges.score[own], edges.source[own], strict=True))
        assert ranked == sorted(ranked)
        assert edges.support[own].tolist() == (dense[:, edges.source[own]].T @ dense[:, target]).tolist()


@pytest.mark.parametrize("method", METHODS)
@given(seen=pairs, seed=st.integers(0, 9), threads=st.integers(1, 3), work=st.integers(1, 2_000))
def test_nothing_but_the_pairs_matters(method: Method, seen: Seen, seed: int, threads: int, work: int) -> None:
    shuffled = [(seen * 2)[k] for k in np.random.default_rng(seed).permutation(2 * len(seen))]
    cut = learned(shuffled, method, threads, work, neighbours=3, support_size=6)
    assert cut.digest() == learned(seen, method, neighbours=3, support_size=6).digest()


def test_blocks_of_many_chunks_find_what_one_block_finds() -> None:
    """Popular movies have nothing nearer than movies of a clique, whose own heaps are full of each other."""
    chance = np.random.default_rng(5)
    viewers = [chance.choice(400, 40, replace=False) for _ in range(200)]
    for _ in range(30):
        clique = chance.choice(viewers[chance.integers(200)], 10, replace=False)
        viewers += [clique] * 8
    users = np.concatenate(viewers)
    movies = np.repeat(np.arange(len(viewers)), [len(one) for one in viewers])
    parameters = SimilarityParameters(method="cosine", neighbours=5)
    whole = neighbours(users, movies, parameters, n_threads=1)
    for movies_of_a_block in (90, 150, 333):
        cut = neighbours(users, movies, parameters, n_threads=1, work_bytes=movies_of_a_block * (5 + 1) * 16)
        assert cut.digest() == whole.digest()


@pytest.mark.parametrize("method", METHODS)
def test_a_checkerboard_falls_into_its_two_colours(method: Method) -> None:
    board = [(user, movie) for user in range(40) for movie in range(20) if (user + movie) % 2 == 0]
    edges = learned(board, method)
    assert set(zip(edges.source.tolist(), edges.target.tolist(), strict=True)) == {
        (a, b) for a in range(20) for b in range(20) if a != b and (a + b) % 2 == 0
    }
    assert set(edges.support.tolist()) == {20}
    assert np.allclose(edges.score, edges.score[0], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_nobody_saw_anything(method: Method) -> None:
    edges = learned([], method)
    assert len(edges) == 0
    kinds = [array.dtype for array in (edges.source, edges.target, edges.score, edges.rank, edges.support)]
    assert kinds == [np.int64, np.int64, np.float64, np.int32, np.int64]


def test_one_user_ties_everything_and_the_lower_id_wins() -> None:
    one_user = [(1, 30), (1, 10), (1, 20)]
    assert rows(learned(one_user, "cosine", neighbours=1, shrink=0.0)) == [
        (20, 10, 1.0, 1, 1),
        (10, 20, 1.0, 1, 1),
        (10, 30, 1.0, 1, 1),
    ]
    assert [row[:2] for row in rows(learned(one_user, "rp3beta", neighbours=1))] == [(20, 10), (10, 20), (10, 30)]


def test_slim_takes_nothing_from_movies_that_no_more_than_l1_users_saw_too() -> None:
    one_user, two_users = [(1, 10), (1, 20)], [(user, movie) for user in (1, 2) for movie in (10, 20)]
    assert len(learned(one_user, "slim")) == 0
    assert rows(learned(two_users, "slim")) == [(20, 10, 1 / 52, 1, 2), (10, 20, 1 / 52, 1, 2)]
    assert rows(learned(one_user, "slim", l1=0.0)) == [(20, 10, 1 / 51, 1, 1), (10, 20, 1 / 51, 1, 1)]


@pytest.mark.parametrize("method", METHODS)
def test_a_movie_seen_alone_has_no_edges(method: Method) -> None:
    edges = learned([(1, 10), (1, 20), (3, 10), (3, 20), (2, 99)], method)
    assert set(edges.source.tolist()) == set(edges.target.tolist()) == {10, 20}


@pytest.mark.parametrize("method", METHODS)
def test_a_movie_seen_by_all_is_like_the_others(method: Method) -> None:
    clusters = [(user, movie) for user in range(60) for movie in range(1, 9) if (movie % 2 == user % 2)]
    edges = learned([*clusters, *((user, 100) for user in range(60))], method)
    assert set(edges.source[edges.target == 100].tolist()) == set(range(1, 9))
    assert set(edges.source[edges.target == 1].tolist()) == {3, 5, 7, 100}
    assert edges.source[(edges.target == 1) & (edges.rank == 4)].tolist() == [100]


def test_a_user_who_saw_thousands_of_movies_is_one_user() -> None:
    few = [(user, movie) for user in range(2, 30) for movie in range(user % 3, 12, 3)]
    users = np.concatenate([np.ones(5_000, np.int64), [user for user, _ in few]])
    movies = np.concatenate([np.arange(5_000), [movie for _, movie in few]])
    edges = neighbours(users, movies)
    assert set(edges.target.tolist()) == set(range(12)), "only these have more than one viewer in common"
    assert set(edges.source[edges.target == 0].tolist()) == {3, 6, 9}


def test_ids_may_be_any_64_bit_integers() -> None:
    far = {1: -(2**63), 2: 2**63 - 1, 3: 0}
    seen = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    near = learned(seen, "cosine", neighbours=1)
    wide = learned([(far[user], far[movie]) for user, movie in seen], "cosine", neighbours=1)
    assert sorted(wide.score.tolist()) == sorted(near.score.tolist())
    assert wide.target.tolist() == sorted(far.values())


def test_shrinkage_puts_the_better_supported_pair_first() -> None:
    # Movie 1 has six users; two of them are all who saw 2, five of them are among the thirteen who saw 3.
    seen = [(user, 1) for user in range(6)] + [(user, 2) for user in range(2)] + [(user, 3) for user in range(1, 14)]
    best = {shrink: rows(learned(seen, "cosine", neighbours=1, shrink=shrink))[0][:2] for shrink in (0.0, 10.0)}
    assert best == {0.0: (2, 1), 10.0: (3, 1)}


def test_the_digest_notices_any_change() -> None:
    seen = [(1, 10), (1, 20), (2, 10), (2, 20), (2, 30)]
    digests = {learned(seen, "cosine", neighbours=n, shrink=shrink).digest() for n in (1, 5) for shrink in (0.0, 10.0)}
    assert len(digests) == 4


@pytest.mark.parametrize("method", METHODS)
def test_progress_rises_to_its_total(method: Method) -> None:
    told: list[tuple[int, int]] = []
    users, movies = np.repeat(np.arange(9), 9), np.tile(np.arange(9), 9)
    parameters = SimilarityParameters(method=method)
    neighbours(users, movies, parameters, work_bytes=3_000, progress=lambda *said: told.append(said))
    assert len(told) > 2
    assert all(one[0] <= next_one[0] for one, next_one in pairwise(told))
    assert {total for _, total in told} == {told[-1][0]}


def test_arrays_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        neighbours(np.array([1, 2]), np.array([1]))


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"method": "ease"}, "method is 'ease'; choose one of slim, cosine, rp3beta"),
        ({"neighbours": 0}, "neighbours is 0; choose a whole number from 1 to 1000"),
        ({"support_size": 1001}, "support_size is 1001; choose a whole number from 1 to 1000"),
        ({"shrink": -1.0}, "shrink is -1.0; choose a number that is at least 0"),
        ({"l2": math.nan}, "l2 is nan; choose a number that is at least 0"),
        ({"beta": math.inf}, "beta is inf; choose a number that is at least 0"),
    ],
    ids=["method", "neighbours", "support_size", "shrink", "l2", "beta"],
)
def test_a_parameter_out_of_bounds_is_named(given_: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SimilarityParameters(**given_)  # type: ignore[arg-type]
