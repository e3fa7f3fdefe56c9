"""What the graph adapter promises: merged registers, atomically, and the same again however often."""

import random
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from pydantic import SecretStr

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_pairs import Watched, states_of_pairs, states_of_users
from movierec_platform.adapters.graph_similarity import Publication
from movierec_platform.config import Settings
from movierec_platform.domain.edges import edge_states
from movierec_platform.domain.events import Event
from movierec_platform.domain.registers import Pair, PairState, fold
from movierec_platform.errors import GraphUnavailable, UsageError

pytestmark = pytest.mark.both_graphs


def movie(movie_id: int, genres: list[str] | None = None, title: str = "T") -> dict:
    return {
        "id": movie_id,
        "title": title,
        "year": None,
        "genres": genres or [],
        "rating_count": 0,
        "rating_mean": None,
    }


@pytest.fixture
def graph(clean_graph: Graph) -> Graph:
    clean_graph.merge_movies([movie(number) for number in range(1, 6)])
    return clean_graph


def rated(at_ms: int, rating: float = 4.0) -> PairState:
    return PairState(rating, at_ms, f"e{at_ms}", at_ms, None)


def everything(graph: Graph) -> dict[Pair, PairState]:
    pairs = list(edge_states(graph.pairs()))
    assert len(pairs) == len({pair for pair, _ in pairs}), "a pair has two edges"
    return dict(pairs)


@pytest.fixture(params=["apply_pairs", "load_users"])
def write(request: pytest.FixtureRequest, graph: Graph):
    return getattr(graph, request.param)


def test_pairs_come_back_as_they_were_written(graph: Graph, write) -> None:
    pairs = {
        (1, 1): rated(10),
        (1, 2): PairState(seen_at_ms=20),
        (2, 1): PairState(retracted_at_ms=30),
        (2, 3): PairState(seen_at_ms=40, retracted_at_ms=5),
    }
    assert write(pairs) == set()
    assert everything(graph) == pairs
    assert graph.pair_count() == 3


def test_what_is_known_already_writes_nothing(graph: Graph, write) -> None:
    known = {(1, 1): rated(10), (2, 1): PairState(retracted_at_ms=30)}
    write(known)
    nodes = "MATCH (u:Usuario) RETURN u ORDER BY u.id"
    before = [dict(row[0]) for row in graph._read(nodes)]
    assert write({**known, (1, 1): rated(9), (3, 999): rated(1)}) == {999}
    assert [dict(row[0]) for row in graph._read(nodes)] == before


def test_any_order_and_repetition_ends_in_the_merged_state(graph: Graph, write) -> None:
    chance = random.Random(7)
    steps: list[Mapping[Pair, PairState]] = [
        {(1, 1): rated(10, 1.0)},
        {(1, 1): PairState(retracted_at_ms=15), (1, 2): rated(3)},
        {(1, 1): PairState(seen_at_ms=20)},
        {(1, 1): rated(12, 5.0)},
        {(1, 2): PairState(retracted_at_ms=4)},
    ]
    for _ in range(3):
        chance.shuffle(steps)
        for step in steps:
            write(step)
        assert everything(graph) == {
            (1, 1): PairState(seen_at_ms=20, retracted_at_ms=15),
            (1, 2): PairState(seen_at_ms=3, retracted_at_ms=4),
        }


def test_unknown_movies_are_told_and_the_rest_is_written_without_stray_users(graph: Graph, write) -> None:
    assert write({(1, 1): rated(10), (1, 999): rated(11), (77, 998): rated(12)}) == {998, 999}
    assert everything(graph) == {(1, 1): rated(10)}


def test_the_stream_makes_no_user_for_an_unknown_movie(graph: Graph) -> None:
    graph.apply_pairs({(77, 998): rated(12)})
    assert graph.user_ids() == []


def test_two_writers_of_the_same_pairs_end_in_the_merged_state(graph: Graph, settings: Settings) -> None:
    chance = random.Random(3)
    event_types = ("rating", "view", "retract")
    events = [
        Event(
            event_id=f"e{number}",
            event_type=(kind := chance.choice(event_types)),
            user_id=chance.randint(1, 4),
            movie_id=chance.randint(1, 5),
            rating=chance.randint(1, 10) / 2 if kind == "rating" else None,
            timestamp_ms=chance.randint(1, 1000),
        )
        for number in range(600)
    ]

    def write_all(own: list[Event]) -> None:
        with Graph.open(settings) as writer:
            for start in range(0, len(own), 5):
                writer.apply_pairs(fold(own[start : start + 5]))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_all, (events[::2], events[1::2])))
    assert everything(graph) == fold(events)


@pytest.mark.parametrize("read", [states_of_pairs, states_of_users])
@pytest.mark.parametrize("before", [{(1, 1): rated(1)}, {(1, 2): rated(1)}], ids=["same pair", "another pair"])
def test_a_rival_between_our_read_and_our_write_loses_nothing(
    graph: Graph, settings: Settings, before: dict[Pair, PairState], read
) -> None:
    graph.apply_pairs(before)
    rivals: list[Future[set[int]]] = []
    with Graph.open(settings) as other, ThreadPoolExecutor(1) as pool:

        def read_then_meet_a_rival(transaction, pairs):
            stored = read(transaction, pairs)
            if not rivals:
                rivals.append(pool.submit(other.apply_pairs, {(1, 1): rated(30, 3.0)}))
                wait(rivals, timeout=2)  # ArcadeDB lets it through; on Neo4j it waits for our lock
            return stored

        graph._merge({(1, 1): rated(20, 2.0)}, read_then_meet_a_rival)
        rivals[0].result(timeout=30)
    assert everything(graph) == {**before, (1, 1): rated(30, 3.0)}


def test_history_has_what_is_visible_latest_first(graph: Graph) -> None:
    graph.apply_pairs({(1, 1): rated(10), (1, 2): PairState(seen_at_ms=20), (1, 3): PairState(retracted_at_ms=30)})
    assert graph.history(1) == [Watched(2, None, 20), Watched(1, 4.0, 10)]
    assert graph.history(12345) == []


def test_merging_movies_again_replaces_their_genres_and_properties(graph: Graph) -> None:
    graph.merge_movies([movie(1, ["Drama", "War"], "Old")])
    graph.merge_movies([movie(1, ["Drama", "Comedy"], "New")])
    assert graph.movie_count() == 5
    rows = graph._read("MATCH (m:Pelicula {id: 1})-[:ES_DE]->(g:Genero) RETURN m.title, g.name ORDER BY g.name")
    assert rows == [["New", "Comedy"], ["New", "Drama"]]


def test_publishing_keeps_the_version_before_and_again_changes_nothing(graph: Graph) -> None:
    assert graph.publication() is None
    graph.write_similarity("v1", [(1, 2, 0.5, 1, 3)])
    graph.publish("v1", 100)
    graph.publish("v2", 200)
    graph.publish("v2", 300)
    assert graph.publication() == Publication("v2", "v1", 200)


def test_dropping_similarity_leaves_the_versions_to_keep(graph: Graph) -> None:
    for version in ("v1", "v2", "v3"):
        assert graph.write_similarity(version, [(1, 2, 0.5, 1, 3), (2, 1, 0.5, 1, 3)]) == 2
    assert graph.drop_similarity({"v2", "v3"}) == 2
    assert [graph.similarity_count(version) for version in ("v1", "v2", "v3")] == [0, 2, 2]


def test_a_wrong_password_says_which_variables_to_set(settings: Settings) -> None:
    stranger = settings.model_copy(update={"neo4j_user": "nobody", "neo4j_password": SecretStr("wrong-password")})
    with Graph.open(stranger) as graph, pytest.raises(UsageError, match="NEO4J_USER"):
        graph.ping()


def test_a_graph_that_is_away_is_unavailable(settings: Settings) -> None:
    away = settings.model_copy(update={"neo4j_uri": "bolt://127.0.0.1:9"})
    with Graph.open(away, retry_s=0.1) as graph, pytest.raises(GraphUnavailable):
        graph.ping()
