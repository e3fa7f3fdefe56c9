"""Finding a movie by what somebody types, and what was watched of late."""

import numpy as np
import pytest

from movierec_platform.domain.search import search, title_index, words_of
from movierec_platform.domain.trending import trend_scores, views_by_day
from movierec_tests.unit.catalogues import movies_of

TITLES = {
    1: "Alien",
    2: "Aliens",
    3: "Alien Nation",
    4: "Amélie (Le fabuleux destin d'Amélie Poulain)",
    5: "The Terminator",
    6: "The Matrix",
    7: "The Matrix Reloaded",
    8: "Star Wars: Episode IV - A New Hope",
    9: "Bill Moyers: World of Star Wars",
    10: "Ocean\u2019s Eleven",
    11: "千と千尋の神隠し",
    12: "Smørrebrød & <script>",
}
YEARS = {1: 1979, 2: 1986, 3: 1988, 6: 1999, 10: 2001}
VIEWERS = dict.fromkeys(TITLES, 2) | {2: 9, 8: 50, 7: 90}
SEQUELS = {
    21: "The Godfather",
    22: "The Godfather: Part II",
    23: "Rocky",
    24: "Rocky II",
    25: "Rocky Balboa",
    26: "Spider-Man",
    27: "Spider-Man 2",
    28: "The Amazing Spider-Man",
    29: "Spiderman: The Ultimate Villain Showdown",
    30: "The Hangover",
    31: "The Hangover Part II",
    32: "Iron Man",
    33: "Man in the Iron Mask",
    34: "E.T. the Extra-Terrestrial",
    35: "X-Men",
    36: "Star Wars: Episode I - The Phantom Menace",
    37: "M*A*S*H",
}
SEQUEL_YEARS = {25: 2006, 30: 2009, 31: 2011}
SEQUEL_VIEWERS = dict.fromkeys(SEQUELS, 2) | {21: 99, 23: 99, 25: 50, 26: 9, 27: 8, 28: 7, 30: 99}
SEQUEL_MOVIES = movies_of(SEQUEL_VIEWERS, titles=SEQUELS, years=SEQUEL_YEARS)
MOVIES = movies_of(VIEWERS, titles=TITLES, years=YEARS)
INDEX = title_index(MOVIES.titles, MOVIES.years)


def found(text: str, limit: int = 3) -> list[str]:
    return [MOVIES.titles[index] for index, _ in search(text, INDEX, MOVIES, limit)]


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("alien", ["Alien", "Alien Nation", "Aliens"]),
        ("ALIENS", ["Aliens", "Alien", "Alien Nation"]),
        ("alien 1988", ["Alien Nation", "Alien"]),
        ("amelie", [TITLES[4]]),
        ("AMÉLIE", [TITLES[4]]),
        ("Ame\u0301lie", [TITLES[4]]),
        ("matrix the", ["The Matrix", "The Matrix Reloaded", "The Terminator"]),
        ("matrxi", ["The Matrix Reloaded", "The Matrix"]),
        ("termin", ["The Terminator"]),
        ("terminatr", ["The Terminator"]),
        ("star wars", [TITLES[8], TITLES[9]]),
        ("oceans eleven", [TITLES[10]]),
        ("ocean's", [TITLES[10]]),
        ("smorrebrod", [TITLES[12]]),
        ("千と千尋", [TITLES[11]]),
    ],
    ids=str,
)
def test_finds_the_title_that_was_meant(text, titles):
    assert found(text) == titles


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("godfather 2", [22, 21]),
        ("the godfather part 2", [22, 31]),
        ("godfather ii", [22, 21]),
        ("rocky 2", [24, 23]),
        ("ROCKY II", [24, 23]),
        ("hangover 2", [31, 30]),
        ("hangover 2009", [30, 31]),
        ("star wars episode 1", [36]),
        ("spiderman", [26, 27, 28]),
        ("spidermn", [26, 27, 28]),
        ("spiderman 2", [27, 26]),
        ("spider man ii", [27, 26]),
        ("ultimate spider man", [29]),
        ("ironman", [32]),
        ("et", [34]),
        ("xmen", [35]),
        ("mash", [37]),
    ],
    ids=str,
)
def test_numerals_and_joined_words_find_their_films(text, numbers):
    index = title_index(SEQUEL_MOVIES.titles, SEQUEL_MOVIES.years)
    found = [int(SEQUEL_MOVIES.movie_ids[at]) for at, _ in search(text, index, SEQUEL_MOVIES, len(numbers))]
    assert found == numbers


@pytest.mark.parametrize("text", ["", "   ", "!?*", "zzzzzz", "\u0301", "'", "\x00"], ids=repr)
def test_what_is_like_no_title_finds_nothing(text):
    assert found(text) == []


def test_a_match_is_one_for_the_very_words_and_less_for_others():
    assert [match for _, match in search("the matrix", INDEX, MOVIES, 2)] == [1.0, 1.0]
    assert search("matr", INDEX, MOVIES, 1)[0][1] == 0.9
    assert search("matrxi", INDEX, MOVIES, 1)[0][1] == pytest.approx(0.8 * 5 / 6, abs=1e-4)


def test_words_are_plain():
    assert words_of("L\u2019Été: 8½ — Ça, c\u2019est_l'AMOUR!") == ["lete", "81", "2", "ca", "cest", "lamour"]


def test_an_empty_catalogue_finds_nothing():
    nothing = movies_of({})
    assert search("alien", title_index([], nothing.years), nothing, 3) == []


DAY_MS = 86_400_000


def test_views_count_half_for_every_half_life_and_not_at_all_outside_the_window():
    days = np.array([100, 100, 98, 96, 90, -400])
    views = views_by_day(np.array([1, 2, 3]), np.array([1, 3, 1, 1, 2, 2]), days * DAY_MS + 5)
    assert trend_scores(views, 3, window_days=366, half_life_days=2).tolist() == [1.75, 2**-5, 1.0]
    assert trend_scores(views, 3, window_days=4, half_life_days=2).tolist() == [1.5, 0.0, 1.0]
    assert trend_scores(views, 3, window_days=3, half_life_days=2).tolist() == [1.5, 0.0, 1.0]
    assert trend_scores(views, 3, window_days=1, half_life_days=2).tolist() == [1.0, 0.0, 1.0]


def test_no_views_trend_nowhere():
    nothing = np.zeros(0, dtype=np.int64)
    assert trend_scores(views_by_day(nothing, nothing, nothing), 0, 7, 1.0).tolist() == []
    assert trend_scores(views_by_day(np.array([1]), np.array([9]), np.array([5])), 1, 7, 1.0).tolist() == [0.0]
