"""GET /recommend/<user>: what is recommended, and what happens when parts of the platform are away."""

import random
import socket

import pyarrow.compute as pc
import pytest

from movierec_platform.adapters.snapshot import SnapshotHolder
from movierec_platform.api.app import create_app, services_of
from movierec_platform.domain.registers import PairState
from movierec_platform.errors import NotPublished
from movierec_platform.services.histories import Histories
from movierec_platform.services.recommend import Recommender, Wanted
from movierec_tests.api.conftest import ANA, SEEN_AT_MS, UNKNOWN, VERSION, rated


def shown(answer) -> list[tuple]:
    assert answer.status_code == 200, answer.text
    return [(item["title"], item["score"], item["strategy"], item["coincidencias"]) for item in answer.json["items"]]


def titles(answer) -> list[str]:
    return [title for title, *_ in shown(answer)]


def test_recommends_the_neighbours_of_the_history_with_all_that_the_contract_names(client):
    answer = client.get(f"/recommend/{ANA}?n=1")
    assert answer.mimetype == "application/json"
    recommendation_id = answer.json.pop("recommendation_id")
    assert len(recommendation_id) == 32
    assert answer.json | {"recommendation_id": None} == {
        "recommendation_id": None,
        "user_id": ANA,
        "strategy": "graph_cf",
        "snapshot": VERSION,
        "degraded": False,
        "items": [
            {
                "item_id": 2,
                "title": "Brazil",
                "year": 1985,
                "genres": ["Sci-Fi"],
                "score": 0.5,
                "rank": 1,
                "strategy": "graph_cf",
                "coincidencias": 10,
            }
        ],
    }


CYPHER_TWIN = """
MATCH (p:Publicacion {name: 'similarity'})
MATCH (u:Usuario {id: $user})-[e:VIO]->(:Pelicula)-[s:SIMILAR]->(m:Pelicula)
WHERE s.version = p.version AND NOT (u)-[:VIO]->(m)
RETURN m.id, sum(coalesce(e.rating / 5, 0.7) * s.score) AS score, sum(s.support) AS coincidencias
ORDER BY score DESC, m.id
"""


def test_recommends_what_the_graph_alone_would_by_its_similar_edges(platform):
    chance = random.Random(7)
    movies = {movie: (f"Film {movie}", 1990, ["Drama"]) for movie in range(1, 41)}
    drawn = [(source, target) for source in movies for target in chance.sample(list(movies), 8) if source != target]
    edges = [(*pair, chance.random(), 1, chance.randint(1, 99)) for pair in drawn]
    platform.load(movies, dict.fromkeys(movies, 1))
    platform.store_similarity(edges=edges)
    platform.graph.write_similarity(VERSION, edges)
    platform.graph.write_similarity("an older version", [(1, 2, 9.0, 1, 1)])
    platform.graph.publish(VERSION, SEEN_AT_MS)
    ratings = [None, 0.5, 2.5, 4.0, 5.0]
    for user in range(1, 9):
        seen = chance.sample(list(movies), user)
        platform.graph.apply_pairs({(user, movie): rated(chance.choice(ratings)) for movie in seen})
    app = create_app(platform.settings)
    try:
        for user in range(1, 9):
            items = app.test_client().get(f"/recommend/{user}?n=40").json["items"]
            found = [item for item in items if item["strategy"] == "graph_cf"]
            rows = platform.graph._read(CYPHER_TWIN, user=user)
            assert rows
            assert [[item["item_id"], item["coincidencias"]] for item in found] == [[row[0], row[2]] for row in rows]
            assert [item["score"] for item in found] == pytest.approx([row[1] for row in rows])
    finally:
        services_of(app).close()


def test_fills_with_popular_movies_until_the_catalogue_ends(client):
    assert shown(client.get(f"/recommend/{ANA}")) == [
        ("Brazil", 0.5, "graph_cf", 10),
        ("Casablanca", 0.25, "graph_cf", 7),
        ("Dune", 2.0, "popular", 0),
        ("Epidemic", 1.0, "popular", 0),
        ("Fargo", 0.0, "popular", 0),
    ]
    assert [item["rank"] for item in client.get(f"/recommend/{ANA}").json["items"]] == [1, 2, 3, 4, 5]


def test_an_unknown_user_gets_what_is_popular(client):
    answer = client.get(f"/recommend/{UNKNOWN}?n=3")
    assert titles(answer) == ["Alien", "Brazil", "Casablanca"]
    assert (answer.json["strategy"], answer.json["degraded"]) == ("popular", False)


def test_a_new_rating_counts_at_the_next_request(client, platform):
    platform.graph.apply_pairs({(ANA, 2): rated(2.5)})
    assert shown(client.get(f"/recommend/{ANA}?n=2")) == [
        ("Casablanca", 0.5, "graph_cf", 11),  # 1.0 * 0.25 + 0.5 * 0.5, 7 + 4
        ("Dune", 2.0, "popular", 0),
    ]


def test_a_view_weighs_seven_tenths(client, platform):
    platform.graph.apply_pairs({(UNKNOWN, 1): rated(None)})
    assert shown(client.get(f"/recommend/{UNKNOWN}?n=1")) == [("Brazil", 0.35, "graph_cf", 10)]


def test_a_retracted_movie_is_no_longer_seen(client, platform):
    platform.graph.apply_pairs({(ANA, 1): PairState(retracted_at_ms=SEEN_AT_MS + 1)})
    assert titles(client.get(f"/recommend/{ANA}?n=1")) == ["Alien"]


def test_both_paths_are_one_resource(client):
    assert shown(client.get(f"/v1/users/{ANA}/recommendations?n=2")) == shown(client.get(f"/recommend/{ANA}?n=2"))


@pytest.mark.parametrize("user", ["0", "-1", "abc", "1.0", "9223372036854775808", "1e3", "%20", "\u0661", "9" * 400])
def test_a_user_id_that_is_none_is_refused_with_a_sentence(idle_client, user):
    answer = idle_client.get(f"/recommend/{user}")
    assert (answer.status_code, answer.json["type"]) == (400, "/problems/bad-parameter")
    assert "the user id is a whole number from 1 to 9223372036854775807" in answer.json["detail"]
    assert len(answer.json["detail"]) < 150


@pytest.mark.parametrize("query", ["n=0", "n=101", "n=10000", "n=-1", "n=ten", "n=", "n=1&n=2"])
def test_an_n_out_of_bounds_is_refused_with_a_sentence(idle_client, query):
    answer = idle_client.get(f"/recommend/{ANA}?{query}")
    assert (answer.status_code, answer.json["type"]) == (400, "/problems/bad-parameter")
    assert answer.json["detail"].startswith("n is ")


def test_the_bounds_themselves_are_taken(client):
    assert client.get("/recommend/9223372036854775807?n=100").status_code == 200
    assert len(titles(client.get(f"/recommend/{ANA}?n=1"))) == 1


def test_a_newly_published_version_replaces_the_old_one(client, app, platform):
    assert client.get(f"/recommend/{ANA}").json["snapshot"] == VERSION  # and so the first look is over
    platform.publish("20240502T120000Z-00000002", [(1, 6, 0.75, 1, 3)])
    assert client.get(f"/recommend/{ANA}").json["snapshot"] == VERSION
    services_of(app).snapshots.refresh()
    answer = client.get(f"/recommend/{ANA}?n=1")
    assert (answer.json["snapshot"], shown(answer)) == (
        "20240502T120000Z-00000002",
        [("Fargo", 0.75, "graph_cf", 3)],
    )


def test_a_version_that_cannot_be_loaded_leaves_the_one_that_was(client, app, platform):
    assert client.get(f"/recommend/{ANA}").json["snapshot"] == VERSION  # and so the first look is over
    platform.graph.publish("20240502T120000Z-notthere", SEEN_AT_MS)
    with pytest.raises(NotPublished, match="notthere is published but not in the lake"):
        services_of(app).snapshots.refresh()
    answer = client.get(f"/recommend/{ANA}?n=1")
    assert (answer.json["snapshot"], titles(answer)) == (VERSION, ["Brazil"])


@pytest.fixture
def unloaded(empty_platform):
    app = create_app(empty_platform.settings.model_copy(update={"snapshot_poll_s": 3600.0}))
    yield app
    services_of(app).close()


def test_before_anything_is_loaded_it_says_what_to_do(unloaded):
    answer = unloaded.test_client().get("/recommend/1")
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/not-published")
    assert "run `movierec load`" in answer.json["detail"]
    assert answer.headers["Retry-After"] == "2"


def test_before_anything_is_published_it_serves_popularity(unloaded, empty_platform):
    assert unloaded.test_client().get("/recommend/1").status_code == 503
    empty_platform.load()
    services_of(unloaded).snapshots.refresh()
    answer = unloaded.test_client().get(f"/recommend/{ANA}?n=2")
    assert (answer.json["snapshot"], answer.json["degraded"]) == (None, False)
    assert shown(answer) == [("Brazil", 4.0, "popular", 0), ("Casablanca", 3.0, "popular", 0)]


def test_while_nothing_is_published_the_catalogue_is_read_again_as_it_grows(empty_platform, tmp_path):
    now_s = [0.0]
    snapshots = SnapshotHolder(
        empty_platform.graph, empty_platform.lake, tmp_path / "snapshots", 3600.0, monotonic_s=lambda: now_s[0]
    )
    empty_platform.load()
    snapshots.refresh()
    assert snapshots.current().movies.titles[0] == "Alien"
    movies = empty_platform.lake.read("movies").filter(pc.field("movie_id") > 1)
    empty_platform.lake.write("movies", movies)
    now_s[0] += 1.0
    snapshots.refresh()
    assert snapshots.current().movies.titles[0] == "Brazil"


def test_a_published_version_that_is_not_in_the_lake_still_leaves_popularity(unloaded, empty_platform):
    empty_platform.load()
    empty_platform.graph.publish(VERSION, SEEN_AT_MS)
    with pytest.raises(NotPublished):
        services_of(unloaded).snapshots.refresh()
    assert titles(unloaded.test_client().get("/recommend/1?n=1")) == ["Alien"]


def test_the_graph_refusing_connections_degrades_to_popularity(platform, closed_port):
    settings = platform.settings.model_copy(update={"neo4j_uri": f"bolt://127.0.0.1:{closed_port}"})
    app = create_app(settings)
    try:
        answer = app.test_client().get(f"/recommend/{ANA}?n=2")
        assert (answer.json["degraded"], answer.json["strategy"]) == (True, "popular")
        assert titles(answer) == ["Alien", "Brazil"]
    finally:
        services_of(app).close()


def test_a_graph_that_hangs_degrades_too_and_is_not_asked_by_every_request(app, platform):
    """A listener that never answers, as a frozen server or a lost network does."""
    services = services_of(app)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        uri = f"bolt://127.0.0.1:{frozen.getsockname()[1]}"
        hanging = platform.graph.open(platform.settings.model_copy(update={"neo4j_uri": uri}), retry_s=0.1)
        histories = Histories(hanging, poll_s=1.0, most_pairs=0, oldest_s=0.0, timeout_s=0.2, retry_graph_after_s=3600)
        recommender = Recommender(services.snapshots, histories)
        first, second = recommender.recommend(ANA, Wanted(1)), recommender.recommend(ANA, Wanted(1))
        assert [(one.degraded, one.items[0].title) for one in (first, second)] == [(True, "Alien")] * 2
        frozen.settimeout(5)
        frozen.accept()[0].close()  # the first request's
        frozen.setblocking(False)
        with pytest.raises(BlockingIOError):
            frozen.accept()  # the second asked nobody
        histories.close()
    hanging.close()
