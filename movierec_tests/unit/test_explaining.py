"""Why a movie is recommended, in numbers that add up and in sentences."""

import pytest

from movierec_platform.domain.explaining import evidence_of, reasons
from movierec_platform.domain.ranking import Ranked, history_of, query_of
from movierec_tests.unit.catalogues import edges_of, movies_of

MOVIES = movies_of(
    {1: 9, 2: 8, 3: 7, 4: 1, 5: 0},
    genres={5: ["War"]},
    titles={1: "Alien", 2: "Brazil", 3: "Casablanca", 4: "Dune", 5: "<b>Epidemic</b>"},
)
EDGES = edges_of(MOVIES, {(1, 4): (0.5, 10), (2, 4): (0.25, 1), (3, 4): (0.25, 4), (4, 5): (0.5, 1)})


def asked(*rated: tuple[int, float | None]):
    return query_of(history_of([(movie, rating, 0) for movie, rating in rated]), MOVIES)


def test_the_evidence_is_every_seen_movie_that_leads_there_the_strongest_first():
    found = evidence_of(3, asked((1, 5.0), (2, 2.5), (3, 5.0), (5, 5.0)), MOVIES, EDGES)
    assert [(one.title, one.weight, one.similarity, one.part, one.share, one.support) for one in found] == [
        ("Alien", 1.0, 0.5, 0.5, pytest.approx(0.5714, abs=1e-4), 10),
        ("Casablanca", 1.0, 0.25, 0.25, pytest.approx(0.2857, abs=1e-4), 4),
        ("Brazil", 0.5, 0.25, 0.125, pytest.approx(0.1429, abs=1e-4), 1),
    ]
    assert sum(one.share for one in found) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rated", "en", "es"),
    [
        (
            [(2, 5.0)],
            "Because you saw “Brazil” (1 person saw both).",
            "Porque viste «Brazil» (1 persona vio las dos).",
        ),
        (
            [(1, 5.0), (2, 5.0)],
            "Because you saw “Alien” (10 people saw both, 67 % of the score) and “Brazil”.",
            "Porque viste «Alien» (10 personas vieron las dos, 67 % de la puntuación) y «Brazil».",
        ),
        (
            [(1, 5.0), (2, 5.0), (3, 5.0)],
            "Because you saw “Alien” (10 people saw both, 50 % of the score), “Brazil” and 1 more.",
            "Porque viste «Alien» (10 personas vieron las dos, 50 % de la puntuación), «Brazil» y 1 más.",
        ),
    ],
    ids=["one", "two", "three"],
)
def test_the_sentences_name_the_two_strongest(rated, en, es):
    found = reasons(Ranked(3, 1.0, 1, "graph_cf"), asked(*rated), MOVIES, EDGES)
    assert (found.en, found.es) == (en, es)


def test_of_much_evidence_the_first_few_and_how_many_more():
    found = reasons(Ranked(3, 1.0, 1, "session"), asked((1, 5.0), (2, 5.0), (3, 5.0)), MOVIES, EDGES, most=1)
    assert ([one.title for one in found.evidence], found.others) == (["Alien"], 2)


def test_what_nothing_led_to_is_there_for_another_reason():
    popular = reasons(Ranked(3, 1.0, 0, "popular"), asked(), MOVIES, EDGES)
    assert (popular.en, popular.es, popular.evidence) == (
        "“Dune” is popular: 1 person has seen it.",
        "«Dune» es popular: 1 persona la ha visto.",
        (),
    )
    trending = reasons(Ranked(4, 1.0, 0, "trending_in_genre"), asked(), MOVIES, EDGES)
    assert trending.en == "“<b>Epidemic</b>” is watched a lot these days (War)."
    assert trending.es == "«<b>Epidemic</b>» se ve mucho últimamente (War)."
