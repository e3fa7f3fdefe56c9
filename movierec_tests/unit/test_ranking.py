"""Ranking against a brute-force oracle, and the promises that it makes whatever the history and the filters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.catalogue import Catalogue, Filters, allowed
from movierec_platform.domain.diversity import diversified
from movierec_platform.domain.groups import group_scores
from movierec_platform.domain.neighbourhood import Neighbourhood
from movierec_platform.domain.ranking import (
    Query,
    cf_scores,
    favourite_genres,
    history_of,
    parts_of,
    query_of,
    rank,
)
from movierec_platform.errors import ImpossibleFilter
from movierec_tests.unit.catalogues import Edges, edges_of, movies_of

MOVIES = st.integers(1, 8)
UNKNOWN = st.integers(1, 10)
SCORES = st.sampled_from([0.1, 0.25, 0.5, 1.0])
EDGES = st.dictionaries(st.tuples(UNKNOWN, UNKNOWN), st.tuples(SCORES, st.integers(1, 9)), max_size=60)
VIEWERS = st.dictionaries(MOVIES, st.integers(0, 3), max_size=8)
RATINGS = st.sampled_from([0.5, None, 5.0])
HISTORY = st.dictionaries(UNKNOWN, RATINGS, max_size=5)
GENRES = st.dictionaries(MOVIES, st.sets(st.sampled_from("ABC")).map(sorted), max_size=8)
TREND = st.dictionaries(MOVIES, st.sampled_from([0.4, 0.5, 2.0]), max_size=8)
FILTERS = st.builds(
    Filters,
    year_from=st.none() | st.just(1990),
    min_ratings=st.integers(0, 2),
    exclude_ids=st.sets(UNKNOWN, max_size=3),
    candidate_ids=st.none() | st.sets(UNKNOWN),
)

Ratings = dict[int, float | None]
Ranking = list[tuple[int, float, int, str]]


def asked(history: Ratings, movies: Catalogue) -> Query:
    return query_of(history_of([(movie, rating, 0) for movie, rating in history.items()]), movies)


def ranking(history: Ratings, movies: Catalogue, edges: Neighbourhood, limit: int, **options) -> Ranking:
    """(movie_id, score, coincidencias, strategy) of each ranked movie."""
    query = asked(history, movies)

    def favourites() -> np.ndarray:
        return favourite_genres(query, movies)

    found = rank(cf_scores(query, edges), query.seen, movies, edges, limit, favourites=favourites, **options)
    return [(int(movies.movie_ids[one.index]), one.score, one.coincidencias, one.strategy) for one in found]


def oracle(history: Ratings, movies: Catalogue, edges: Edges, passing: set[int], include_seen: bool) -> Ranking:
    """The whole ladder, with dictionaries and sorts only."""
    row = {int(movie): index for index, movie in enumerate(movies.movie_ids)}
    weight = {movie: 0.7 if rating is None else rating / 5 for movie, rating in sorted(history.items()) if movie in row}
    scores: dict[int, float] = {}
    supports: dict[int, int] = {}
    for source in weight:
        for (edge_source, target), (score, support) in edges.items():
            if edge_source == source and target in row:
                scores[target] = scores.get(target, 0.0) + weight[source] * score
                supports[target] = supports.get(target, 0) + support
    liked: dict[str, float] = {}
    for movie in weight:
        for name in movies.genres_of(row[movie]):
            liked[name] = liked.get(name, 0.0) + weight[movie]
    favourites = set(sorted(liked, key=lambda name: (-round(liked[name], 9), name))[:3])
    free = passing if include_seen else passing - set(history)
    similar = sorted(free & set(scores), key=lambda movie: (-scores[movie], movie))
    rest = free - set(similar)
    trend = {movie: float(movies.trend[row[movie]]) for movie in rest}
    trending = [movie for movie in rest if trend[movie] >= 0.5 and favourites & set(movies.genres_of(row[movie]))]
    trending.sort(key=lambda movie: (-trend[movie], movie))
    others = sorted(rest - set(trending), key=lambda movie: (-movies.viewers[row[movie]], movie))
    return [
        *((movie, scores[movie], supports[movie], "graph_cf") for movie in similar),
        *((movie, trend[movie], 0, "trending_in_genre") for movie in trending),
        *((movie, float(movies.viewers[row[movie]]), 0, "popular") for movie in others),
    ]


@given(HISTORY, VIEWERS, EDGES, GENRES, TREND, FILTERS, st.booleans(), st.integers(0, 12))
def test_ranks_exactly_as_the_brute_force_oracle(history, viewers, edges, genres, trend, filters, include_seen, limit):
    movies = movies_of(viewers, genres, trend, years={movie: 1985 + movie for movie in viewers if movie != 3})
    passing = {
        movie
        for movie in viewers
        if (filters.year_from is None or (movie >= 5))
        and viewers[movie] >= filters.min_ratings
        and movie not in filters.exclude_ids
        and (filters.candidate_ids is None or movie in filters.candidate_ids)
    }
    found = ranking(
        history,
        movies,
        edges_of(movies, edges),
        limit,
        passes=allowed(movies, filters),
        include_seen=include_seen,
    )
    assert found == oracle(history, movies, edges, passing, include_seen)[:limit]


@given(HISTORY, VIEWERS, EDGES, st.randoms(use_true_random=False))
def test_the_order_of_the_history_and_of_the_edges_changes_nothing(history, viewers, edges, random):
    shuffled_history, shuffled_edges = list(history.items()), list(edges.items())
    random.shuffle(shuffled_history)
    random.shuffle(shuffled_edges)
    movies = movies_of(viewers)
    again = ranking(dict(shuffled_history), movies, edges_of(movies, dict(shuffled_edges)), 5)
    assert again == ranking(history, movies, edges_of(movies, edges), 5)


@given(HISTORY, VIEWERS, EDGES)
def test_the_parts_of_a_score_add_up_to_it_and_to_its_coincidencias(history, viewers, edges):
    movies = movies_of(viewers)
    neighbours = edges_of(movies, edges)
    query = asked(history, movies)
    for movie, score, coincidencias, strategy in ranking(history, movies, neighbours, 8):
        parts = parts_of(movies.index_of(movie), query, neighbours)
        if strategy == "graph_cf":
            assert sum(weight * similarity for _, weight, similarity, _ in parts) == score
            assert sum(support for *_, support in parts) == coincidencias
        else:
            assert parts == []


def test_the_first_of_many_are_found_in_order_with_their_ties():
    """Enough of them that a heap of any shape is filled, replaced and emptied."""
    random = np.random.default_rng(7)
    for limit in (1, 2, 3, 10, 64):
        scores = random.integers(0, 20, 300) / 4
        movies = movies_of(dict.fromkeys(range(300), 0))
        found = rank(scores, np.zeros(0, np.int64), movies, edges_of(movies, {}), limit)
        best = sorted(range(300), key=lambda index: (-scores[index], index))[:limit]
        assert [one.index for one in found] == best


def test_ties_at_the_cut_go_to_the_lower_movie_id():
    movies = movies_of(dict.fromkeys([1, 3, 5, 7, 9], 0))
    edges = edges_of(movies, {(1, target): (0.5, 1) for target in (9, 7, 5, 3)})
    assert ranking({1: 5.0}, movies, edges, 2) == [(3, 0.5, 1, "graph_cf"), (5, 0.5, 1, "graph_cf")]


def test_an_empty_catalogue_has_nothing_to_recommend():
    movies = movies_of({})
    assert ranking({1: 5.0}, movies, edges_of(movies, {(1, 2): (0.5, 1)}), 10) == []


def test_the_arrays_cannot_be_written_by_a_reader():
    with pytest.raises(ValueError, match="read-only"):
        movies_of({1: 1}).viewers[0] = 2


@pytest.mark.parametrize(("rating", "weight"), [(5.0, 1.0), (2.5, 0.5), (0.5, 0.1), (None, 0.7)])
def test_a_rating_weighs_a_fifth_a_star_and_a_view_seven_tenths(rating, weight):
    assert asked({1: rating}, movies_of({1: 0})).weights.tolist() == [weight]


GENRED = movies_of(
    {1: 9, 2: 8, 3: 7, 4: 6}, genres={1: ["Drama"], 2: ["Drama", "War"], 3: ["Comedy"]}, years={1: 1990, 2: 2000}
)


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        (Filters(genres=["drama"]), [1, 2]),
        (Filters(genres=["War", "COMEDY"]), [2, 3]),
        (Filters(exclude_genres=["War"]), [1, 3, 4]),
        (Filters(genres=["Drama", "Comedy"], exclude_genres=["Drama"]), [3]),
        (Filters(year_from=1990, year_to=1990), [1]),
        (Filters(year_to=2000), [1, 2]),
        (Filters(min_ratings=8), [1, 2]),
        (Filters(candidate_ids=[]), []),
        (Filters(candidate_ids=[3, 77]), [3]),
        (Filters(exclude_ids=range(1, 10_001)), []),
    ],
    ids=str,
)
def test_a_filter_lets_pass_what_it_says(filters, passing):
    assert GENRED.movie_ids[allowed(GENRED, filters)].tolist() == passing


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"year_from": 2001, "year_to": 2000}, "year_from 2001 is after year_to 2000"),
        ({"genres": ["War"], "exclude_genres": ["war"]}, "both name war"),
        ({"genres": ["Wra"]}, "no movie is of the genre 'Wra'; the genres are Comedy, Drama, War"),
    ],
    ids=["years", "genres", "unknown-genre"],
)
def test_filters_that_nothing_can_pass_are_refused_with_a_sentence(wrong, sentence):
    with pytest.raises(ImpossibleFilter, match=sentence):
        allowed(GENRED, Filters(**wrong))


def test_diversity_brings_up_what_is_unlike_and_none_changes_nothing():
    ranked = rank(np.zeros(4), np.zeros(0, np.int64), GENRED, edges_of(GENRED, {}), 4)
    assert diversified(ranked, GENRED, 0.0, 4) == ranked
    # Drama, then not the half-drama but the comedy and the one of no genre.
    assert [one.index for one in diversified(ranked, GENRED, 0.5, 4)] == [0, 2, 3, 1]


@given(st.integers(0, 6), st.floats(0, 1), GENRES)
def test_a_page_of_a_diverse_list_stands_where_the_whole_list_has_it(limit, diversity, genres):
    movies = movies_of(dict.fromkeys(range(1, 9), 1), genres)
    ranked = rank(np.zeros(8), np.zeros(0, np.int64), movies, edges_of(movies, {}), 8)
    whole = diversified(ranked, movies, diversity, 8)
    assert diversified(ranked, movies, diversity, limit) == whole[:limit]
    assert sorted(one.index for one in whole) == list(range(8))


def test_a_group_gets_what_suits_all_by_the_mean_or_nobody_badly():
    movies = movies_of(dict.fromkeys([1, 2, 3, 4, 5], 0))
    edges = edges_of(movies, {(1, 3): (1.0, 1), (1, 4): (0.5, 1), (2, 4): (0.25, 1), (2, 5): (0.2, 1)})
    members = [asked({1: 5.0}, movies), asked({2: 0.5}, movies), asked({}, movies)]
    blocked = np.array([True, True, False, False, False])
    assert group_scores(members, edges, blocked, "mean").tolist() == pytest.approx([0, 0, 0.5, 0.75, 0.4])
    assert group_scores(members, edges, blocked, "least_misery").tolist() == [0, 0, 0, 0.5, 0]
    assert group_scores([], edges, blocked, "mean").tolist() == [0] * 5
