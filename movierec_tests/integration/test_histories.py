"""The change feed and the histories that are held by it: never staler than they say, over a real graph."""

import threading
from concurrent.futures import ThreadPoolExecutor

import neo4j
import numpy as np
import pytest
from pydantic import SecretStr
from typing_extensions import LiteralString

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_bulk import open_bulk
from movierec_platform.adapters.graph_changes import NO_FEED, SLOTS, Changes, Position, announce
from movierec_platform.adapters.graph_similarity import Publication
from movierec_platform.config import Settings
from movierec_platform.domain.differences import Difference, Edge
from movierec_platform.domain.registers import PairState
from movierec_platform.services.histories import READS_OF_ONE, Histories

pytestmark = pytest.mark.both_graphs

AT_MS = 1_600_000_000_000


def rated(rating: float, at_ms: int = AT_MS) -> PairState:
    return PairState(rating, at_ms, f"e{at_ms}", at_ms, None)


@pytest.fixture
def graph(clean_graph: Graph) -> Graph:
    clean_graph.merge_movies(
        [
            {"id": number, "title": "T", "year": None, "genres": [], "rating_count": 0, "rating_mean": None}
            for number in range(1, 6)
        ]
    )
    return clean_graph


class CountedGraph:
    """A graph that counts the histories it is asked for, and waits in the middle of one if it is told to."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.asked = 0
        self.read = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.changes = graph.changes

    def history(self, user_id: int):
        self.asked += 1
        found = self.graph.history(user_id)
        self.read.set()
        assert self.go_on.wait(30)
        return found


@pytest.fixture
def counted(graph: Graph) -> CountedGraph:
    return CountedGraph(graph)


@pytest.fixture
def histories(counted: CountedGraph):
    """Those of the counted graph; the feed is heard when the test says so."""
    held = histories_of(counted)
    held.hear()
    yield held
    held.close()


def histories_of(graph, **options) -> Histories:
    options = {"poll_s": 3600.0, "most_pairs": 10_000, "oldest_s": 60.0, "timeout_s": 30.0} | options
    return Histories(graph, **options)


def seen(histories: Histories, user_id: int) -> dict[int, float]:
    known = histories.of(user_id)
    assert known.history is not None
    assert not known.degraded
    return dict(zip(known.history.movie_ids.tolist(), known.history.ratings.tolist(), strict=True))


def test_each_change_is_announced_with_its_users_and_what_changes_nothing_is_not(graph: Graph) -> None:
    assert graph.changes(None) == Changes(NO_FEED, None)
    assert graph.changes(NO_FEED) == Changes(NO_FEED, frozenset())
    graph.apply_pairs({(1, 1): rated(4.0)})
    start = graph.changes(NO_FEED)
    assert start.users is None  # another feed than none
    graph.apply_pairs({(1, 1): rated(4.0)})
    assert graph.changes(start.position) == Changes(start.position, frozenset())
    graph.apply_pairs({(2, 1): rated(4.0), (3, 77): rated(1.0), (1, 1): rated(4.0)})
    graph.load_users({(4, 2): rated(2.0)})
    graph.apply_pairs({(2, 1): PairState(retracted_at_ms=AT_MS + 1)})
    changes = graph.changes(start.position)
    assert changes == Changes(Position(start.position.feed, start.position.turn + 3), frozenset({2, 4}))
    assert graph.replace_pairs([Difference(4, 2, None, (Edge("VIO", rated(2.0)),))]).done == {(4, 2)}
    assert graph.changes(changes.position).users == frozenset({4})


def test_a_finished_rebuild_changes_everybody(graph: Graph, settings: Settings) -> None:
    graph.apply_pairs({(1, 1): rated(4.0)})
    position = graph.changes(None).position
    with open_bulk(settings) as bulk:
        bulk.finish(None)
    assert graph.changes(position) == Changes(Position(position.feed, position.turn + 1), None)


def test_who_comes_too_late_or_from_elsewhere_is_told_that_anybody_may_have_changed(graph: Graph) -> None:
    graph.apply_pairs({(1, 1): rated(4.0)})
    head = graph.changes(None).position
    for since in (
        Position(head.feed, head.turn - SLOTS - 1),
        Position(head.feed, head.turn + 1),
        Position("other", head.turn),
        NO_FEED,
    ):
        assert graph.changes(since) == Changes(head, None)


def test_concurrent_writers_leave_no_gap_and_no_turn_twice(graph: Graph) -> None:
    graph.apply_pairs({(1, 1): rated(4.0)})
    position = graph.changes(None).position
    with ThreadPoolExecutor(4) as writers:
        writing = [writers.submit(graph.apply_pairs, {(user_id, 1): rated(4.0)}) for user_id in range(10, 30)]
        met: set[int] = set()
        done = False
        while not done:
            done = all(one.done() for one in writing)
            changes = graph.changes(position)
            assert changes.users is not None
            assert not changes.users & met
            met |= changes.users
            position = changes.position
    assert [one.result() for one in writing] == [set()] * 20
    assert met == set(range(10, 30))
    assert graph.changes(position).users == frozenset()


def test_an_unchanged_user_costs_no_question_and_a_changed_one_costs_one(histories, counted, graph) -> None:
    graph.apply_pairs({(1, 1): rated(4.0), (2, 1): rated(4.0)})
    histories.hear()
    assert [seen(histories, 1) for _ in range(3)] == [{1: 4.0}] * 3
    assert [seen(histories, user) for user in (2, 9, 2, 9)] == [{1: 4.0}, {}] * 2
    assert counted.asked == 3
    graph.apply_pairs({(1, 2): rated(5.0)})
    histories.hear()
    assert [seen(histories, user) for user in (1, 2, 1)] == [{1: 4.0, 2: 5.0}, {1: 4.0}, {1: 4.0, 2: 5.0}]
    assert counted.asked == 4


@pytest.mark.parametrize("named", [True, False], ids=["the-user", "anybody"])
def test_a_history_whose_change_is_announced_while_it_is_read_is_not_kept(histories, counted, graph, named) -> None:
    """The read saw the graph before the change, and ends after the feed has told of it."""
    graph.apply_pairs({(1, 1): rated(4.0)})
    histories.hear()
    counted.go_on.clear()
    with ThreadPoolExecutor(1) as requests:
        overtaken = requests.submit(seen, histories, 1)
        assert counted.read.wait(30)
        graph.apply_pairs({(1, 2): rated(5.0)})
        if not named:
            graph._write(announce, None)
        histories.hear()
        counted.go_on.set()
        assert overtaken.result(30) == {1: 4.0}
    assert seen(histories, 1) == {1: 4.0, 2: 5.0}


def test_a_change_after_the_read_and_before_it_is_kept_is_heard_of(histories, counted, graph) -> None:
    graph.apply_pairs({(1, 1): rated(4.0)})
    histories.hear()
    counted.go_on.clear()
    with ThreadPoolExecutor(1) as requests:
        reading = requests.submit(seen, histories, 1)
        assert counted.read.wait(30)
        graph.apply_pairs({(1, 2): rated(5.0)})
        counted.go_on.set()
        reading.result(30)
    histories.hear()
    assert seen(histories, 1) == {1: 4.0, 2: 5.0}


def test_nothing_is_taken_for_fresh_while_the_feed_is_not_heard(counted, graph) -> None:
    now_s = [0.0]
    histories = histories_of(counted, monotonic_s=lambda: now_s[0])
    assert [seen(histories, 1), seen(histories, 1)] == [{}, {}]
    assert counted.asked == 2
    histories.hear()
    assert [seen(histories, 1), seen(histories, 1)] == [{}, {}]
    assert counted.asked == 3  # what was read before the first hearing is not known to be fresh
    now_s[0] = 1.5
    graph.apply_pairs({(1, 1): rated(4.0)})
    assert seen(histories, 1) == {1: 4.0}
    histories.hear()
    now_s[0] = 700.0
    histories.hear()
    assert seen(histories, 1) == {1: 4.0}
    assert counted.asked == 5
    histories.close()


def test_the_least_recently_asked_goes_first_when_there_is_no_more_room(counted, graph) -> None:
    histories = histories_of(counted, most_pairs=2 * 50)
    histories.hear()
    for user_id in (1, 2, 1, 3, 1, 3):
        seen(histories, user_id)
    assert counted.asked == 3
    seen(histories, 2)
    assert counted.asked == 4
    histories.close()


def test_without_the_graph_what_was_held_is_given_as_degraded_until_it_is_too_old(graph, settings) -> None:
    now_s = [0.0]
    graph.apply_pairs({(1, 1): rated(4.0)})
    broken = Graph.open(settings.model_copy(update={"neo4j_password": SecretStr("wrong")}), retry_s=0.1)
    histories = histories_of(graph, monotonic_s=lambda: now_s[0])
    histories.hear()
    assert seen(histories, 1) == {1: 4.0}
    histories._graph = broken
    now_s[0] = 30.0
    known = histories.of(1)
    assert (known.degraded, known.history.movie_ids.tolist()) == (True, [1])
    assert histories.of(2).history is None
    now_s[0] = 61.0
    assert histories.of(1).history is None
    histories._graph = graph
    now_s[0] = 65.0
    assert seen(histories, 1) == {1: 4.0}
    histories.close()
    broken.close()


def test_a_view_has_no_rating(graph) -> None:
    graph.apply_pairs({(1, 3): PairState(seen_at_ms=5), (1, 2): rated(1.0)})
    histories = histories_of(graph)
    history = histories.of(1).history
    assert history.movie_ids.tolist() == [2, 3]
    assert history.seen_at_ms.tolist() == [AT_MS, 5]
    assert np.isnan(history.ratings).tolist() == [False, True]
    histories.close()


BY_HAND = [
    "{}",
    "{seen_at_ms: 'yesterday', rating: 'five'}",
    "{seen_at_ms: 1.5, rating: true}",
    "{seen_at_ms: 4611686018427387904, rating: -3.0}",
    "{seen_at_ms: -1, rating: [5.0], rated_at_ms: 'noon', event_id: 7}",
    "{retracted_at_ms: 'never'}",
]


@pytest.mark.parametrize("properties", BY_HAND)
def test_an_edge_that_was_made_by_hand_is_a_movie_seen_and_harms_no_list(graph, settings, properties) -> None:
    """Nor does it keep an event of that pair from being written."""
    graph.apply_pairs({(1, 2): rated(4.0)})
    by_hand(
        settings,
        f"MATCH (u:Usuario {{id: 1}}), (m:Pelicula {{id: 3}}) CREATE (u)-[:VIO {properties}]->(m)",
        "MATCH (u:Usuario {id: 1}), (m:Pelicula {id: 2}) CREATE (u)-[:VIO {rating: 1.0, seen_at_ms: 5}]->(m)",
        "MATCH (u:Usuario {id: 1}) CREATE (u)-[:VIO {seen_at_ms: 5}]->(:Pelicula {title: 'no id'})",
    )
    assert [(one.movie_id, one.rating, one.seen_at_ms) for one in graph.history(1)] == [(2, 4.0, AT_MS), (3, None, 0)]
    for apply in (graph.apply_pairs, graph.load_users):
        apply({(1, 3): rated(2.0, AT_MS + 1)})
    assert {(one.movie_id, one.rating) for one in graph.history(1)} == {(3, 2.0), (2, 4.0)}


def test_a_user_that_was_made_by_hand_harms_no_list_of_users(graph, settings) -> None:
    graph.apply_pairs({(7, 2): rated(4.0)})
    by_hand(settings, "CREATE (:Usuario)", "CREATE (:Usuario {id: 'ana'})", "CREATE (:Usuario {id: 8.5})")
    assert (7, 1) in graph.users_from(1, 10)
    assert all(type(user_id) is int for user_id, _ in graph.users_from(1, 10))


def test_a_publication_that_was_made_by_hand_has_no_time(graph, settings) -> None:
    by_hand(settings, "CREATE (:Publicacion {name: 'similarity', version: 'mine'})")
    assert graph.publication() == Publication("mine", None, 0)


def by_hand(settings: Settings, *statements: LiteralString) -> None:
    """Somebody wrote this to the graph, past this project's code."""
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    with neo4j.GraphDatabase.driver(settings.neo4j_uri, auth=auth) as driver:
        for statement in statements:
            driver.execute_query(statement, database_=settings.neo4j_database)


class SlowGraph:
    """A graph whose histories of some users come only when it is told so."""

    def __init__(self, graph: Graph, slow: set[int]) -> None:
        self.graph = graph
        self.slow = slow
        self.asked: list[int] = []
        self.go_on = threading.Event()
        self.changes = graph.changes

    def history(self, user_id: int):
        self.asked.append(user_id)
        if user_id in self.slow:
            assert self.go_on.wait(60)
        return self.graph.history(user_id)


def test_one_user_whose_history_is_slow_costs_nobody_else(graph: Graph) -> None:
    graph.apply_pairs({(user, 1): rated(4.0) for user in range(1, 40)})
    slow = SlowGraph(graph, {1})
    histories = histories_of(slow, timeout_s=5.0, retry_graph_after_s=3600.0)
    with ThreadPoolExecutor(40) as callers:
        of_one = [callers.submit(histories.of, 1) for _ in range(40)]
        assert all(one.result().degraded for one in of_one)
    assert all(histories.of(1).degraded for _ in range(10))
    assert slow.asked.count(1) <= READS_OF_ONE
    for user in range(2, 40):
        assert seen(histories, user) == {1: 4.0}
    histories.hear()
    slow.go_on.set()
    histories.close()
    histories._readers.shutdown()  # the graph is closed next


def test_several_users_whose_histories_are_slow_are_a_slow_graph(graph: Graph) -> None:
    slow = SlowGraph(graph, set(range(1, 10)))
    histories = histories_of(slow, timeout_s=0.2, retry_graph_after_s=3600.0)
    assert all(histories.of(user).degraded for user in range(1, 10))
    assert slow.asked == [1, 2, 3]
    slow.go_on.set()
    histories.close()
    histories._readers.shutdown()  # the graph is closed next
