"""Splits, lists, metrics and intervals, each with literal tables or against a plain second way to the same."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from movierec_platform.domain.evaluation.intervals import compare, estimates
from movierec_platform.domain.evaluation.lists import (
    Catalogue,
    catalogue_of,
    co_watch_scorer,
    edge_scorer,
    matrix_of,
    popularity_scorer,
    queries_of,
    recommend_lists,
)
from movierec_platform.domain.evaluation.metrics import by_history_length, coverage, per_user_metrics
from movierec_platform.domain.evaluation.protocol import Protocol
from movierec_platform.domain.evaluation.splits import Interactions, interactions_of, split_by
from movierec_platform.domain.query_weights import query_weights
from movierec_platform.domain.ranking import cf_scores, history_of, query_of, rank
from movierec_tests.unit.catalogues import edges_of, movies_of

Row = tuple[int, int, float | None, int]
ROWS = st.dictionaries(
    st.tuples(st.integers(1, 5), st.integers(1, 9)),
    st.tuples(st.none() | st.sampled_from([1.0, 3.5, 5.0]), st.integers(0, 12)),
    max_size=40,
).map(lambda found: [(user, movie, rating, at_ms) for (user, movie), (rating, at_ms) in found.items()])
PROTOCOLS = st.builds(
    Protocol,
    split=st.sampled_from(["temporal", "random"]),
    test_share=st.sampled_from([0.1, 0.2, 0.5]),
    seed=st.integers(0, 3),
    users=st.integers(1, 5),
    relevant_from=st.sampled_from([None, 4.0]),
)


def seen(rows: list[Row]) -> Interactions:
    user, movie, rating, at_ms = zip(*rows, strict=True) if rows else ((), (), (), ())
    return interactions_of(
        np.array(user, np.int64),
        np.array(movie, np.int64),
        np.array([math.nan if one is None else one for one in rating], np.float64),
        np.array(at_ms, np.int64),
    )


def pairs(interactions: Interactions) -> list[tuple[int, int]]:
    return list(zip(interactions.user_id.tolist(), interactions.movie_id.tolist(), strict=True))


def test_a_temporal_split_folds_newcomers_in_by_their_first_events() -> None:
    regular = [(1, movie, 4.0, movie) for movie in range(1, 9)]
    newcomer = [(2, 10 - at, 5.0, 100 + at) for at in range(6)]  # from movie 10 down to movie 5
    once = [(3, 1, 5.0, 103)]
    split = split_by(Protocol(test_share=0.5), seen([*regular, *newcomer, (1, 9, None, 104), *once]))
    assert split.cut_ms == 100  # the ninth of sixteen moments
    assert pairs(split.train) == [(1, movie) for movie in range(1, 9)]
    assert split.user_ids.tolist() == [1, 2]
    assert pairs(split.query) == [*((1, movie) for movie in range(1, 9)), (2, 7), (2, 8), (2, 9), (2, 10)]
    assert pairs(split.relevant) == [(1, 9), (2, 5), (2, 6)]
    assert (split.newcomers, split.candidates) == (1, 2)


@settings(max_examples=50)
@given(ROWS, PROTOCOLS, st.randoms())
def test_no_split_tests_on_what_a_model_or_a_query_has_seen(rows: list[Row], protocol: Protocol, chance: Any) -> None:
    split = split_by(protocol, seen(rows))
    train, query, relevant = (set(pairs(part)) for part in (split.train, split.query, split.relevant))
    assert not relevant & (train | query)
    assert {user for user, _ in query} == {user for user, _ in relevant} == set(split.user_ids.tolist())
    assert len(split.user_ids) == min(protocol.users, split.candidates)
    if protocol.split == "temporal" and rows:
        assert all(at_ms < split.cut_ms for user, movie, _, at_ms in rows if (user, movie) in train)
        assert all(at_ms >= split.cut_ms for user, movie, _, at_ms in rows if (user, movie) in relevant)
        newcomers = set(split.user_ids.tolist()) - {user for user, _ in train}
        assert len(newcomers) == split.newcomers
        for user in split.user_ids.tolist():
            of_user = sorted((at_ms, movie) for owner, movie, _, at_ms in rows if owner == user)
            known = [(user, movie) for _, movie in of_user[: math.floor(0.8 * len(of_user))]]
            expected = set(known) if user in newcomers else {pair for pair in train if pair[0] == user}
            assert {pair for pair in query if pair[0] == user} == expected
    elif protocol.split == "random":
        assert len(train) == len(rows) - round(protocol.test_share * len(rows))
    again = split_by(protocol, seen(chance.sample(rows, len(rows))))
    assert [pairs(part) for part in (again.train, again.query, again.relevant)] == [
        pairs(part) for part in (split.train, split.query, split.relevant)
    ], "the order of the rows decides something"


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"split": "weekly"}, "the split is temporal or random, got 'weekly'"),
        ({"k": 0}, "k lies between 1 and 1000, got 0"),
        ({"test_share": 1.0}, "the test share lies between 0 and 1, both excluded, got 1"),
        ({"users": 0}, "at least 1 test user is needed, got 0"),
        ({"seed": -1}, "the seed is 0 or greater, got -1"),
        ({"relevant_from": 9.0}, "ratings lie between 0.5 and 5, so relevant_from cannot be 9"),
    ],
)
def test_a_protocol_that_makes_no_sense_says_why(given_: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Protocol(**given_)


SCORES = st.sampled_from([0.1, 0.25, 0.5, 1.0])
EDGES = st.dictionaries(
    st.tuples(st.integers(1, 10), st.integers(1, 10)), st.tuples(SCORES, st.integers(1, 9)), max_size=60
)


@settings(max_examples=30)
@given(ROWS.filter(bool), PROTOCOLS, EDGES, st.integers(1, 6), st.sampled_from([0.0, 1.0, 2.0]))
def test_lists_are_those_that_serving_would_show(
    rows: list[Row], protocol: Protocol, edges: dict[tuple[int, int], tuple[float, int]], k: int, power: float
) -> None:
    split = split_by(protocol, seen(rows))
    catalogue = catalogue_of(split.train)
    ends = np.array(list(edges), np.int64).reshape(-1, 2)
    values = np.array(list(edges.values()), np.float64).reshape(-1, 2)
    arrays = ends[:, 0], ends[:, 1], values[:, 0]
    movies = movies_of(dict(zip(catalogue.movie_ids.tolist(), catalogue.viewers.tolist(), strict=True)))
    served = edges_of(movies, edges)
    scorer = edge_scorer(catalogue.movie_ids, *arrays)
    lists = recommend_lists(scorer, queries_of(split, catalogue, power), catalogue.popular(), k)
    ratings = {(user, movie): rating for user, movie, rating, _ in rows}
    for user, found in zip(split.user_ids.tolist(), lists, strict=True):
        history = [(movie, ratings[owner, movie], 0) for owner, movie in pairs(split.query) if owner == user]
        query = query_of(history_of(history), movies, power)
        ranked = rank(cf_scores(query, served), query.seen, movies, served, k)
        assert found[found >= 0].tolist() == [one.index for one in ranked]


def test_lists_rank_ties_by_movie_and_fill_up_with_what_is_popular() -> None:
    scores = np.array([[0.5, 2.0, 0.5, 0.0, 0.5, -1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    queries = sp.csr_matrix(([1.0, 1.0], ([0, 1], [1, 5])), shape=(2, 6))
    popular = np.array([5, 3, 4, 0, 1, 2], np.int32)
    lists = recommend_lists(lambda block: scores[: block.shape[0]], queries, popular, 4)
    assert lists.tolist() == [[0, 2, 4, 5], [3, 4, 0, 1]]
    assert recommend_lists(lambda block: scores[: block.shape[0]], queries, popular, 2).tolist() == [[0, 2], [3, 4]]
    assert recommend_lists(lambda block: scores[: block.shape[0]], queries, popular, 7).tolist() == [
        [0, 2, 4, 5, 3, -1, -1],
        [3, 4, 0, 1, 2, -1, -1],
    ]


def test_co_watch_counts_the_users_who_saw_both_and_popularity_scores_nothing() -> None:
    watched = sp.csr_matrix(np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 0]], np.float64))
    queries = sp.csr_matrix(np.array([[0.2, 0.9, 0, 0], [0, 0, 1.0, 0]]))
    assert co_watch_scorer(watched)(queries).tolist() == [[4, 5, 3, 2], [1, 2, 2, 0]]
    assert popularity_scorer()(queries).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_movie_counts_by_its_rating() -> None:
    assert query_weights(np.array([5.0, math.nan, 2.5])).tolist() == [1.0, 0.7, 0.5]
    assert query_weights(np.array([5.0, math.nan, 2.5]), 2.0).tolist() == pytest.approx([1.0, 0.49, 0.25])
    assert query_weights(np.array([0.5, math.nan]), 0.0).tolist() == [1.0, 1.0]


def test_metrics_of_three_users_computed_by_hand() -> None:
    """User 0 hits at ranks 1 and 3 of 3 relevant, user 1 at rank 2 of 1, user 2 at none of 5; lists of 3."""
    catalogue = Catalogue(np.arange(10, 16), np.array([8, 4, 4, 2, 1, 1]), users=8)
    lists = np.array([[0, 1, 2], [0, 3, -1], [5, 3, 4]], np.int32)
    relevant = sp.csr_matrix(
        (np.ones(5), ([0, 0, 1, 2, 2], [0, 2, 3, 1, 0])), shape=(3, 6)
    )  # user 0 has another relevant movie, user 2 three, that are not in the catalogue
    genres = sp.csr_matrix(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 1, 1], [0, 1, 1]], np.float64))
    found = per_user_metrics(lists, relevant, np.array([3, 1, 5]), catalogue, genres)
    log2_3 = math.log2(3)
    ideal_3 = 1 + 1 / log2_3 + 1 / 2
    expected = {
        "ndcg": [(1 + 1 / 2) / ideal_3, 1 / log2_3, 0],
        "recall": [2 / 3, 1, 0],
        "precision": [2 / 3, 1 / 3, 0],
        "map": [(1 + 2 / 3) / 3, 1 / 2, 0],
        "mrr": [1, 1 / 2, 0],
        "hit_rate": [1, 1, 0],
        "novelty": [(0 + 1 + 1) / 3, (0 + 2) / 2, (3 + 3 + 2) / 3],
        "diversity": [1 - (1 / 2 + 0 + 0) / 3, math.nan, 1 - 1],
        "popularity_bias": [(1 + 1 / 2 + 1 / 2) / 3, (1 + 1 / 4) / 2, (1 / 8 + 1 / 8 + 1 / 4) / 3],
    }
    assert found.keys() == expected.keys()
    for metric, values in expected.items():
        assert found[metric] == pytest.approx(values, nan_ok=True), metric
    assert coverage(lists, catalogue) == 1.0
    assert coverage(lists[:1], catalogue) == 0.5
    assert np.isnan(per_user_metrics(lists, relevant, np.array([3, 1, 5]), catalogue, None)["diversity"]).all()


def test_history_lengths_are_classed() -> None:
    classes = by_history_length(np.array([1, 4, 5, 9, 700]), {"slim": np.array([0.0, 1.0, 0.5, 0.7, 0.9])})
    assert classes == {
        "1-4": {"users": 2, "slim": 0.5},
        "5-9": {"users": 2, "slim": pytest.approx(0.6)},
        "500+": {"users": 1, "slim": 0.9},
    }


def test_intervals_are_those_of_resampling_users_one_by_one() -> None:
    chance = np.random.default_rng(1)
    values = np.column_stack((chance.random(60), np.where(chance.random(60) < 0.5, np.nan, chance.random(60))))
    plain = np.array([np.nanmean(values[chance.integers(0, 60, 60)], axis=0) for _ in range(4_000)])
    for column, found in enumerate(estimates(values, seed=0, draws=4_000)):
        low, high = np.quantile(plain[:, column], [0.025, 0.975])
        assert found.value == pytest.approx(np.nanmean(values[:, column]))
        assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    again = estimates(values, seed=0, draws=4_000)
    assert again == estimates(values, seed=0, draws=4_000)
    assert again != estimates(values, seed=1, draws=4_000)


def test_a_column_without_values_has_no_interval() -> None:
    (found,) = estimates(np.full((3, 1), np.nan), seed=0)
    assert math.isnan(found.value)
    assert found.low is None


def test_a_comparison_is_paired() -> None:
    chance = np.random.default_rng(2)
    first = chance.random(200)
    better = compare(first + 0.01, first, seed=0)
    assert better.difference.value == pytest.approx(0.01)
    assert better.difference.low == pytest.approx(0.01), "a difference that every user shows has no spread"
    assert better.p_value == pytest.approx(2 / 1001)
    assert better.ratio is not None
    assert better.ratio.value == pytest.approx(1 + 0.01 / first.mean())
    assert better.ratio.low is not None
    assert 1 < better.ratio.low < better.ratio.value
    shuffled = compare(chance.permutation(first), first, seed=0)
    assert shuffled.p_value > 0.05
    assert shuffled.difference.low is not None
    assert shuffled.difference.low < 0
    assert compare(first, first, seed=0).p_value == 1.0
    assert compare(first, np.zeros(200), seed=0).ratio is None


def test_rows_of_unknown_movies_are_left_out_of_a_matrix() -> None:
    one = seen([(1, 5, 4.0, 1), (1, 7, None, 1), (2, 6, 1.0, 1)])
    matrix = matrix_of(one, np.array([0.5, 0.7, 0.2]), np.array([1, 2]), np.array([4, 5, 6]))
    assert matrix.toarray().tolist() == [[0, 0.5, 0], [0, 0, 0.2]]
    assert matrix_of(one, np.ones(3), np.array([1, 2]), np.array([], np.int64)).shape == (2, 0)
