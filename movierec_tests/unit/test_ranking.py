"""Ranking against a brute-force oracle, and the promises that it makes whatever the history."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.ranking import Neighbourhood, Ranked, neighbourhood, query_weight, rank

MOVIES = st.integers(1, 8)
UNKNOWN = st.integers(1, 10)
SCORES = st.sampled_from([0.1, 0.25, 0.5, 1.0])
EDGES = st.dictionaries(st.tuples(UNKNOWN, UNKNOWN), st.tuples(SCORES, st.integers(1, 9)), max_size=60)
VIEWERS = st.dictionaries(MOVIES, st.integers(0, 3), max_size=8)
HISTORY = st.dictionaries(UNKNOWN, st.sampled_from([0.1, 0.7, 1.0]), max_size=5)

Edges = dict[tuple[int, int], tuple[float, int]]


def arrays(viewers: dict[int, int], edges: Edges) -> Neighbourhood:
    ids = sorted(viewers)
    return neighbourhood(
        np.array(ids, dtype=np.int64),
        np.array([viewers[i] for i in ids], dtype=np.int64),
        np.array([source for source, _ in edges], dtype=np.int64),
        np.array([target for _, target in edges], dtype=np.int64),
        np.array([score for score, _ in edges.values()], dtype=np.float64),
        np.array([support for _, support in edges.values()], dtype=np.int64),
    )


def oracle(history: dict[int, float], viewers: dict[int, int], edges: Edges, n: int, exclude: set[int]) -> list[tuple]:
    """(movie_id, score, coincidencias, strategy), with dictionaries and sorts only."""
    scores: dict[int, float] = {}
    supports: dict[int, int] = {}
    for source in sorted(set(history) & set(viewers)):
        for (edge_source, target), (score, support) in edges.items():
            if edge_source == source and target in viewers:
                scores[target] = scores.get(target, 0.0) + history[source] * score
                supports[target] = supports.get(target, 0) + support
    free = set(viewers) - set(history) - exclude
    similar = sorted(free & set(scores), key=lambda movie: (-scores[movie], movie))
    others = sorted(free - set(scores), key=lambda movie: (-viewers[movie], movie))
    ranked = [(movie, scores[movie], supports[movie], "graph_cf") for movie in similar]
    return (ranked + [(movie, float(viewers[movie]), 0, "popular") for movie in others])[:n]


def as_tuples(items: list[Ranked]) -> list[tuple]:
    return [(item.movie_id, item.score, item.coincidencias, item.strategy) for item in items]


@given(HISTORY, VIEWERS, EDGES, st.integers(1, 12), st.sets(UNKNOWN, max_size=4))
def test_ranks_exactly_as_the_brute_force_oracle(history, viewers, edges, n, exclude):
    found = rank(history, arrays(viewers, edges), n, exclude)
    assert as_tuples(found) == oracle(history, viewers, edges, n, exclude)


@given(HISTORY, VIEWERS, EDGES, st.integers(1, 12))
def test_gives_n_distinct_unseen_movies_whenever_the_catalogue_has_them(history, viewers, edges, n):
    movies = arrays(viewers, edges)
    found = rank(history, movies, n)
    unseen = set(viewers) - set(history)
    assert len({item.movie_id for item in found}) == len(found) == min(n, len(unseen))
    assert {item.movie_id for item in found} <= unseen
    assert all(movies.movie_ids[item.index] == item.movie_id for item in found)


@given(HISTORY, VIEWERS, EDGES, st.randoms(use_true_random=False))
def test_the_order_of_the_history_and_of_the_edges_changes_nothing(history, viewers, edges, random):
    shuffled_history, shuffled_edges = list(history.items()), list(edges.items())
    random.shuffle(shuffled_history)
    random.shuffle(shuffled_edges)
    again = rank(dict(shuffled_history), arrays(viewers, dict(shuffled_edges)), 5)
    assert again == rank(history, arrays(viewers, edges), 5)


def test_a_weight_scales_the_score_and_supports_add_up():
    edges = {(1, 3): (0.5, 4), (2, 3): (0.5, 6), (2, 4): (0.9, 2)}
    found = rank({1: 1.0, 2: 0.5}, arrays(dict.fromkeys([1, 2, 3, 4], 0), edges), 2)
    assert as_tuples(found) == [(3, 0.75, 10, "graph_cf"), (4, 0.45, 2, "graph_cf")]


def test_ties_at_the_cut_go_to_the_lower_movie_id():
    edges = {(1, target): (0.5, 1) for target in (9, 7, 5, 3)}
    found = rank({1: 1.0}, arrays(dict.fromkeys([1, 3, 5, 7, 9], 0), edges), 2)
    assert as_tuples(found) == [(3, 0.5, 1, "graph_cf"), (5, 0.5, 1, "graph_cf")]


def test_an_empty_history_gets_the_most_viewed():
    found = rank({}, arrays({1: 5, 2: 9, 3: 9}, {}), 3)
    assert as_tuples(found) == [(2, 9.0, 0, "popular"), (3, 9.0, 0, "popular"), (1, 5.0, 0, "popular")]


def test_an_empty_catalogue_has_nothing_to_recommend():
    assert rank({1: 1.0}, arrays({}, {(1, 2): (0.5, 1)}), 10, {3}) == []


def test_the_arrays_cannot_be_written_by_a_reader():
    with pytest.raises(ValueError, match="read-only"):
        arrays({1: 1}, {}).viewers[0] = 2


@pytest.mark.parametrize(("rating", "weight"), [(5.0, 1.0), (2.5, 0.5), (0.5, 0.1), (None, 0.7)])
def test_a_rating_weighs_a_fifth_a_star_and_a_view_seven_tenths(rating, weight):
    assert query_weight(rating) == weight
