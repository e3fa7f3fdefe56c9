"""Every reading endpoint over one loaded platform, which no test here changes: what it answers, and what it refuses."""

import copy
from collections.abc import Iterator
from typing import Any

import neo4j
import pyarrow as pa
import pytest
from flask.testing import FlaskClient

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.api.app import create_app, services_of
from movierec_platform.config import Settings
from movierec_platform.domain.tables import POPULARITY
from movierec_tests.api.conftest import ANA, MOVIES, SEEN_AT_MS, UNKNOWN, VERSION, VIEWERS, Platform, rated
from movierec_tests.servers import empty_settings

BEA, BOB = 102, 103
TREND = {1: 0.0, 2: 1.0, 3: 0.0, 4: 2.0, 5: 3.0, 6: 0.0}


@pytest.fixture(scope="module")
def client(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    own = empty_settings(settings, tmp_path_factory.mktemp("endpoints") / "home")
    auth = (own.neo4j_user, own.neo4j_password.get_secret_value())
    with neo4j.GraphDatabase.driver(own.neo4j_uri, auth=auth) as driver:
        driver.execute_query("MATCH (n) DETACH DELETE n", database_=own.neo4j_database)
    with Graph.open(own) as graph:
        platform = Platform(own, graph, Lake(own))
        platform.load()
        rows = [(movie, VIEWERS[movie], 4.5, 4.0, VIEWERS[movie], TREND[movie]) for movie in MOVIES]
        columns = [list(column) for column in zip(*rows, strict=True)]
        platform.lake.write("popularity", pa.table(columns, schema=POPULARITY))
        platform.publish()
        graph.apply_pairs({(BEA, 2): rated(5.0), (BEA, 3): rated(None, SEEN_AT_MS + 1), (BOB, 2): rated(0.5)})
        app = create_app(own.model_copy(update={"snapshot_poll_s": 3600.0}))
        yield app.test_client()
        services_of(app).close()


def shown(answer: Any) -> list[tuple]:
    assert answer.status_code == 200, answer.text
    return [(item["item_id"], item["score"], item["strategy"], item["coincidencias"]) for item in answer.json["items"]]


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json["items"]]


def test_the_ladder_goes_from_similar_to_trending_in_the_genre_to_popular(client):
    assert shown(client.get(f"/recommend/{ANA}")) == [
        (2, 0.5, "graph_cf", 10),
        (3, 0.25, "graph_cf", 7),
        (4, 2.0, "trending_in_genre", 0),
        (5, 1.0, "popular", 0),
        (6, 0.0, "popular", 0),
    ]


@pytest.mark.parametrize(
    ("user", "query", "found"),
    [
        (ANA, "genres=sci-fi", [2, 4]),
        (ANA, "genres=Sci-Fi,Drama", [2, 3, 4, 6]),
        (ANA, "genres=Sci-Fi&genres=Drama&exclude_genres=Crime", [2, 3, 4]),
        (ANA, "year_from=1984&year_to=1985", [2, 4]),
        (ANA, "year_to=1942", [3]),
        (ANA, "min_ratings=3", [2, 3]),
        (ANA, "exclude_ids=2,3,77", [4, 5, 6]),
        (ANA, "candidate_ids=6&candidate_ids=1,4", [4, 6]),
        (ANA, "candidate_ids=77", []),
        (ANA, "include_seen=true&n=1&candidate_ids=1", [1]),
        (ANA, "n=2&offset=1", [3, 4]),
        (ANA, "offset=5", []),
        (ANA, "offset=10000&n=100", []),
        (ANA, "diversity=1&n=3", [2, 3, 5]),
        (ANA, "exclude_ids=" + ",".join(map(str, range(3, 10_003))), [2]),
        (UNKNOWN, "n=3", [1, 2, 3]),
        (UNKNOWN, "genres=Sci-Fi&n=3", [4, 2, 1]),
        (2**63 - 1, "n=1", [1]),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_filters_and_pages_choose_what_they_say(client, user, query, found):
    assert ids(client.get(f"/recommend/{user}?{query}")) == found


def test_pages_fit_together(client):
    whole = client.get(f"/recommend/{ANA}?n=5").json["items"]
    pages = [client.get(f"/recommend/{ANA}?n=2&offset={offset}").json["items"] for offset in (0, 2, 4)]
    assert [item for page in pages for item in page] == whole


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("recommend/1?n=0", "n is a whole number from 1 to 100, not '0'"),
        ("recommend/1?n=10000", "n is a whole number from 1 to 100"),
        ("recommend/1?offset=-1", "offset is a whole number from 0 to 10000"),
        ("recommend/1?offset=1e9", "offset is a whole number"),
        ("recommend/1?diversity=1.5", "diversity is a number from 0 to 1"),
        ("recommend/1?diversity=nan", "diversity is a number from 0 to 1"),
        ("recommend/1?explain=perhaps", "explain is true or false"),
        ("recommend/1?genres=Sci-Fy", "no movie is of the genre 'Sci-Fy'; the genres are Crime, Drama,"),
        ("recommend/1?genres=", "no movie is of the genre ''"),
        ("recommend/1?exclude_genres=%C3%B1%00", "no movie is of the genre"),
        ("recommend/1?genres=Drama&exclude_genres=drama", "both name drama: no movie passes both"),
        ("recommend/1?year_from=2000&year_to=1999", "year_from 2000 is after year_to 1999"),
        ("recommend/1?year_from=-5", "year_from is a whole number from 1 to 9999"),
        ("recommend/1?min_ratings=99999999999999999999", "min_ratings is a whole number"),
        ("recommend/1?exclude_ids=1,x", "each of exclude_ids is a whole number"),
        ("recommend/1?exclude_ids=0", "each of exclude_ids is a whole number from 1"),
        ("recommend/1?candidate_ids=" + "9," * 10_000 + "9", "candidate_ids: "),
        ("recommend/1?explain=true&explain=true", "explain is given 2 times: give it once"),
        ("recommend/1?limit=5", "there is no parameter 'limit' here; there are: n, offset, genres"),
        ("v1/users/1/because/0", "the movie id is a whole number from 1"),
        ("v1/users/-1/history", "the user id is a whole number from 1"),
        ("v1/movies/abc", "the movie id is a whole number"),
        ("v1/movies", "q is missing"),
        ("v1/movies?q=", "q: "),
        ("v1/movies?q=" + "x" * 201, "q: "),
        ("v1/movies/trending?window_days=0", "window_days is a whole number from 1 to 366"),
        ("v1/movies/trending?half_life_days=0", "half_life_days is a number"),
        ("v1/movies/trending?half_life_days=inf", "half_life_days is a number"),
        ("v1/movies/popular?genres=nix", "no movie is of the genre 'nix'"),
    ],
    ids=lambda value: value[:44],
)
def test_what_cannot_be_is_refused_with_a_sentence(client, path, sentence):
    answer = client.get(f"/{path}")
    assert (answer.status_code, answer.json["type"]) == (400, "/problems/bad-parameter"), answer.text
    assert answer.json["detail"].startswith(sentence) or sentence in answer.json["detail"]
    assert len(answer.json["detail"]) < 300


@pytest.mark.parametrize("path", ["v1/movies/77", "v1/movies/77/similar", "v1/users/101/because/77"])
def test_a_movie_that_is_not_in_the_catalogue_is_not_found(client, path):
    answer = client.get(f"/{path}")
    assert (answer.status_code, answer.json["type"]) == (404, "/problems/not-found")
    assert answer.json["detail"] == "the catalogue has no movie 77"


def test_explained_items_have_their_evidence_and_two_sentences(client):
    first, *_, last = client.get(f"/v1/users/{ANA}/recommendations?explain=true").json["items"]
    assert first["reasons"] == {
        "en": "Because you saw “Alien” (10 people saw both).",
        "es": "Porque viste «Alien» (10 personas vieron las dos).",
        "evidence": [
            {
                "movie_id": 1,
                "title": "Alien",
                "weight": 1.0,
                "similarity": 0.5,
                "part": 0.5,
                "share": 1.0,
                "support": 10,
            }
        ],
        "others": 0,
    }
    assert last["reasons"]["en"] == "“Fargo” is popular: 0 people have seen it."
    assert "reasons" not in client.get(f"/recommend/{ANA}").json["items"][0]


def test_because_adds_up_to_the_score_and_says_so_when_nothing_leads_there(client):
    answer = client.get(f"/v1/users/{ANA}/because/2").json
    assert (answer["score"], answer["coincidencias"], answer["snapshot"]) == (0.5, 10, VERSION)
    assert sum(one["part"] for one in answer["reasons"]["evidence"]) == 0.5
    nothing = client.get(f"/v1/users/{ANA}/because/6").json
    assert (nothing["score"], nothing["reasons"]["evidence"]) == (0.0, [])
    assert nothing["reasons"]["es"] == "«Fargo» es popular: 0 personas la han visto."


def test_a_history_is_shown_latest_first(client):
    answer = client.get(f"/v1/users/{BEA}/history").json
    assert (answer["total"], answer["degraded"]) == (2, False)
    assert [(one["title"], one["rating"], one["seen_at_ms"]) for one in answer["items"]] == [
        ("Casablanca", None, SEEN_AT_MS + 1),
        ("Brazil", 5.0, SEEN_AT_MS),
    ]
    assert ids(client.get(f"/v1/users/{BEA}/history?n=1&offset=1")) == [2]
    assert client.get(f"/v1/users/{UNKNOWN}/history").json["items"] == []


def test_a_movie_and_those_like_it(client):
    assert client.get("/v1/movies/5").json == {
        "item_id": 5,
        "title": "Epidemic",
        "year": None,
        "genres": [],
        "viewers": 1,
        "rating_count": 1,
        "rating_mean": 4.5,
    }
    similar = client.get("/v1/movies/1/similar").json
    assert [(one["title"], one["score"], one["support"], one["rank"]) for one in similar["items"]] == [
        ("Brazil", 0.5, 10, 1),
        ("Casablanca", 0.25, 7, 2),
    ]
    assert ids(client.get("/v1/movies/1/similar?n=1&offset=1")) == [3]
    assert ids(client.get("/v1/movies/6/similar")) == []


def test_popular_and_trending_movies(client):
    assert ids(client.get("/v1/movies/popular?n=3")) == [1, 2, 3]
    assert ids(client.get("/v1/movies/popular?genres=Drama&offset=1")) == [6]
    trending = client.get("/v1/movies/trending?window_days=1&exclude_genres=Horror").json["items"]
    assert [(one["item_id"], one["score"]) for one in trending] == [(2, 4.0), (3, 3.0), (4, 2.0), (5, 1.0)]


@pytest.mark.parametrize(
    ("text", "found"),
    [("casabalnca", [3]), ("DÚNE", [4]), ("braz", [2]), ("1996", [6]), ("<script>alert(1)</script>", []), ("ñ", [])],
)
def test_a_search_finds_titles(client, text, found):
    assert ids(client.get("/v1/movies", query_string={"q": text})) == found


def test_a_session_is_recommended_like_a_history_and_labelled(client):
    body = {"movies": [{"movie_id": 1, "rating": 1.0}, {"movie_id": 77}, {"movie_id": 1, "rating": 5.0}], "n": 3}
    answer = client.post("/v1/sessions/recommendations", json=body)
    assert shown(answer) == [(2, 0.5, "session", 10), (3, 0.25, "session", 7), (4, 2.0, "trending_in_genre", 0)]
    assert answer.json["strategy"] == "session"
    assert shown(client.post("/v1/sessions/recommendations", json={"movies": [], "n": 1})) == [(1, 5.0, "popular", 0)]
    explained = client.post("/v1/sessions/recommendations", json=body | {"explain": True})
    assert explained.json["items"][0]["reasons"]["evidence"][0]["title"] == "Alien"


@pytest.mark.parametrize(
    ("aggregation", "found"),
    [
        # Ana: 2 and 3 are seen by the others, so nothing of hers is left; Bea: 4 by 3; Bob: nothing unseen by all.
        ("mean", [(4, 1.0, "graph_cf", 2), (5, 1.0, "popular", 0), (6, 0.0, "popular", 0)]),
        ("least_misery", [(4, 1.0, "graph_cf", 2), (5, 1.0, "popular", 0), (6, 0.0, "popular", 0)]),
    ],
)
def test_a_group_is_recommended_what_none_of_it_has_seen(client, aggregation, found):
    body = {"user_ids": [ANA, BEA, BOB, UNKNOWN, ANA], "aggregation": aggregation}
    answer = client.post("/v1/groups/recommendations", json=body)
    assert shown(answer) == found
    assert answer.json["user_ids"] == [ANA, BEA, BOB, UNKNOWN]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "movies: "),
        ({"movies": [{"movie_id": 0}]}, "movies.0.movie_id: "),
        ({"movies": [{"movie_id": 1, "rating": 5.5}]}, "movies.0.rating: "),
        ({"movies": [{"movie_id": 1, "rating": 4.3}]}, "movies.0.rating: "),
        ({"movies": [{"movie_id": "1"}]}, "movies.0.movie_id: "),
        ({"movies": [{"movie_id": 2**63}]}, "movies.0.movie_id: "),
        ({"movies": [], "n": 101}, "n: "),
        ({"movies": [], "colour": "red"}, "colour: "),
        ({"movies": [{"movie_id": 1}] * 1_001}, "movies: "),
        ([], "the body: "),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_session_that_cannot_be_is_refused_with_where(client, body, where):
    answer = client.post("/v1/sessions/recommendations", json=copy.deepcopy(body))
    assert (answer.status_code, answer.json["type"]) == (400, "/problems/bad-body"), answer.text
    assert answer.json["detail"].startswith(where)


@pytest.mark.parametrize(
    ("method", "path", "given", "status"),
    [
        ("post", "/recommend/1", {}, 405),
        ("get", "/v1/sessions/recommendations", {}, 405),
        ("post", "/v1/sessions/recommendations", {"data": b"a=1", "content_type": "text/csv"}, 415),
        ("post", "/v1/sessions/recommendations", {"data": b"{", "content_type": "application/json"}, 400),
        ("post", "/v1/groups/recommendations", {"json": {"user_ids": []}}, 400),
        ("post", "/v1/groups/recommendations", {"json": {"user_ids": list(range(1, 22))}}, 400),
        ("post", "/v1/groups/recommendations", {"json": {"user_ids": [1], "aggregation": "max"}}, 400),
        ("post", "/v1/groups/recommendations", {"data": b" " * 600_000, "content_type": "application/json"}, 413),
        ("get", "/v1/movies/1/", {}, 404),
    ],
    ids=str,
)
def test_wrong_methods_and_bodies_are_refused(client, method, path, given, status):
    answer = getattr(client, method)(path, **given)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.json["detail"]
