"""Damage to the graph is found to the pair and undone, while events go on being written."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import Metric
from typer.testing import CliRunner

from movierec_platform.cli.main import app
from movierec_platform.config import variables_of
from movierec_platform.domain.differences import Difference, Edge
from movierec_platform.domain.registers import PairState
from movierec_platform.services.metrics import PlatformCollector
from movierec_platform.services.repair import repair
from movierec_platform.services.verify import verify
from movierec_tests.integration.conftest import GOOD, NOW, Platform

pytestmark = pytest.mark.both_graphs

WRONG_REGISTERS: dict[str, list[Any]] = {
    "rating": [1.0, None, 4, "four"],
    "rated_at_ms": [NOW - 1, None, NOW + 0.5],
    "event_id": ["other", None, 17],
    "seen_at_ms": [NOW - 1, None],
    "retracted_at_ms": [0, NOW + 9],
}
ALTERED = [(name, value) for name, values in WRONG_REGISTERS.items() for value in values]
EDGE = "MATCH (u:Usuario {id: $user})-[e:VIO]->(m:Pelicula {id: 10})"
COPY = f"{EDGE} CREATE (u)-[d:%s]->(m) SET d = {{seen_at_ms: e.seen_at_ms, rating: e.rating}}"
UNKNOWN_MOVIE = (
    "MERGE (m:Pelicula {id: 777}) WITH m MATCH (u:Usuario {id: $user}) CREATE (u)-[:VIO {seen_at_ms: 5}]->(m)"
)
NEW_EDGE = "MATCH (u:Usuario {id: $user}) MATCH (m:Pelicula {id: 30}) CREATE (u)-[:%s]->(m)"
NEW_USER = "MATCH (m:Pelicula {id: 30}) CREATE (u:Usuario {id: $user + 1000}) CREATE (u)-[:VIO {seen_at_ms: 5}]->(m)"
DAMAGE = [
    (f"{EDGE} DELETE e", "missing", "behind", 0, 10),
    ("MATCH (u:Usuario {id: $user}) DETACH DELETE u", "missing", "behind", 0, 10),
    (NEW_EDGE % "VIO", "extra", "wrong", 0, 30),
    (NEW_EDGE % "RETIRO", "extra", "wrong", 0, 30),
    (UNKNOWN_MOVIE, "extra", "wrong", 0, 777),
    (NEW_USER, "extra", "wrong", 1000, 30),
    (f"{EDGE} CREATE (u)-[d:VIO]->(m) SET d = properties(e)", "doubled", "wrong", 0, 10),
    (COPY % "RETIRO", "doubled", "wrong", 0, 10),
    (f"{EDGE} CREATE (u)-[d:RETIRO]->(m) SET d = properties(e) DELETE e", "altered", "wrong", 0, 10),
]


def write(platform: Platform, statement: str, **parameters: Any) -> None:
    platform.graph._write(lambda transaction: transaction.run(statement, parameters).consume())


def edges(platform: Platform) -> list[list[Any]]:
    statement = """
        MATCH (u:Usuario)-[e:VIO|RETIRO]->(m:Pelicula) RETURN u.id, m.id, type(e), properties(e)
        ORDER BY u.id, m.id, type(e)
    """
    return platform.graph._read(statement)


def turns(platform: Platform, users: range) -> list[Any]:
    """How often each of these users was written to."""
    rows = platform.graph._read("UNWIND $ids AS id MATCH (u:Usuario {id: id}) RETURN u.turn", ids=list(users))
    return [row[0] for row in rows]


def test_every_kind_of_damage_is_found_to_the_pair_and_undone(platform: Platform) -> None:
    users = range(1, len(DAMAGE) + len(ALTERED) + 1)
    quiet = range(100, 110)
    platform.lander.land([{**GOOD, "event_id": f"{user}", "user_id": user} for user in (*users, *quiet)])
    platform.lander.land([{"user_id": 105, "movie_id": 20, "event_type": "retract", "timestamp": NOW}])
    platform.run_through()
    sound, untouched = edges(platform), turns(platform, quiet)
    assert verify(platform.settings).equal
    assert repair(platform.settings).pairs == 0

    expected = {}
    for user, (statement, kind, cause, offset, movie) in zip(users, DAMAGE, strict=False):
        write(platform, statement, user=user)
        expected[user + offset, movie] = (kind, cause)
    for user, (name, value) in zip(range(len(DAMAGE) + 1, users.stop), ALTERED, strict=True):
        write(platform, f"{EDGE} SET e.{name} = $value", user=user, value=value)
        if (name, value) != ("rating", 4):  # is 4.0
            expected[user, 10] = ("altered", "")
    parity = verify(platform.settings)
    found = {one.pair: (one.kind, one.cause if one.kind != "altered" else "") for one in parity.first_differences}
    first = dict(sorted(expected.items())[: len(found)])
    assert found == {pair: (kind, cause if kind != "altered" else "") for pair, (kind, cause) in first.items()}
    assert parity.differing_pairs == len(expected)
    assert set(parity.differing_buckets) == {user % 256 for user, _ in expected}

    damaged = edges(platform)
    would = repair(platform.settings, dry_run=True)
    assert (edges(platform), would.pairs, would.kinds) == (damaged, len(expected), parity.kinds)
    done = repair(platform.settings)
    assert (done.pairs, done.kinds, done.left, done.unknown_movies) == (len(expected), parity.kinds, 0, ())
    assert edges(platform) == sound
    assert verify(platform.settings).equal
    assert turns(platform, quiet) == untouched, "pairs of other buckets were written"


def test_a_pair_that_changed_since_it_was_read_is_left_alone(platform: Platform) -> None:
    state = PairState(4.0, NOW, "g", NOW, None)
    newer = PairState(5.0, NOW + 1, "h", NOW + 1, None)
    platform.graph.apply_pairs({(1, 10): newer, (2, 10): state})
    stale = [
        Difference(1, 10, None, (Edge("VIO", state),)),
        Difference(1, 20, state, (Edge("VIO", newer),)),
        Difference(2, 10, None, ()),
        Difference(3, 10, state, ()),
        Difference(4, 999, state, ()),
    ]
    replaced = platform.graph.replace_pairs(stale)
    assert (replaced.done, replaced.changed) == ({(3, 10)}, {(1, 10), (1, 20), (2, 10)})
    assert replaced.unknown_movies == {999}
    assert platform.pairs() == {(1, 10): newer, (2, 10): state, (3, 10): state}
    before = turns(platform, range(1, 5))
    platform.graph.replace_pairs(stale[:3])
    assert turns(platform, range(1, 5)) == before, "a transaction that replaces nothing writes nothing"


def test_movies_that_only_the_lake_has_are_named(platform: Platform) -> None:
    platform.lander.land([GOOD, {**GOOD, "movie_id": 20}])
    write(platform, "MATCH (m:Pelicula {id: 20}) DETACH DELETE m")
    done = repair(platform.settings)
    assert (done.pairs, done.left, done.unknown_movies) == (1, 1, (20,))


@contextmanager
def ingesting(platform: Platform, events: Callable[[int], list[dict[str, Any]]]) -> Iterator[list[int]]:
    """Lands events and works on the queues, over and over; ends with all of them in the graph. Yields the rounds."""
    over = threading.Event()
    rounds: list[int] = []
    failures: list[BaseException] = []

    def work() -> None:
        while not over.is_set():
            platform.lander.land(events(len(rounds)))
            if len(rounds) % 2:  # an event is always under way
                for queue in ("raw", "clean"):
                    messages = platform.queues.named(queue).receive(wait_s=1)
                    platform.work(queue)(messages)
                    platform.queues.named(queue).delete(messages)
            rounds.append(len(rounds))

    def noting_failures() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=noting_failures)
    thread.start()
    try:
        yield rounds
    finally:
        over.set()
        thread.join()
        assert not failures
    platform.run_through()


@pytest.mark.parametrize("when", ["graph", "lake"])
def test_an_event_that_comes_while_repair_reads_is_not_undone(platform: Platform, when: str) -> None:
    """After the graph was read, or after the lake was too: the two places where a plain rewrite would lose it."""
    platform.lander.land([{**GOOD, "event_id": str(user), "user_id": user} for user in (1, 2)])
    platform.run_through()
    for user in (1, 2):
        write(platform, f"{EDGE} SET e.rating = 4.5, e.retracted_at_ms = 7", user=user)
    readings: list[str] = []

    def ingest(what: str, pairs: int) -> None:
        readings.append(what)
        if what == when and readings.count(when) == 2:  # the first is for the digests
            platform.lander.land(
                [{**GOOD, "event_id": "new", "movie_id": movie, "timestamp": NOW + 5} for movie in (10, 20)]
            )
            platform.run_through()
            assert platform.pairs()[1, 10] == PairState(4.0, NOW + 5, "new", NOW + 5, 7)

    done = repair(platform.settings, progress=ingest)
    assert (done.pairs, done.left, done.kinds["altered"]) == (2, 0, 2)
    assert platform.pairs() == {
        (1, 10): PairState(4.0, NOW + 5, "new", NOW + 5, None),
        (1, 20): PairState(4.0, NOW + 5, "new", NOW + 5, None),
        (2, 10): PairState(4.0, NOW, "2", NOW, None),
    }
    assert verify(platform.settings).equal


def test_what_changes_whenever_it_is_looked_at_is_left_and_said(platform: Platform) -> None:
    platform.lander.land([GOOD])
    platform.run_through()
    write(platform, f"{EDGE} SET e.rating = 4.5", user=1)

    def meddle(what: str, pairs: int) -> None:
        if what == "lake":
            write(platform, f"{EDGE} SET e.rating = e.rating + 0.5", user=1)

    done = repair(platform.settings, rounds=2, progress=meddle)
    assert (done.pairs, done.left) == (0, 1)


def test_repair_and_ingest_write_into_the_same_pairs_at_the_same_time(platform: Platform) -> None:
    users = range(1, 31)

    def events(number: int) -> list[dict[str, Any]]:
        kind = ("rating", "view", "retract")[number % 3]
        rating = {"rating": 1 + number % 8 / 2} if kind == "rating" else {}
        one = {"event_type": kind, "movie_id": 10, "timestamp": NOW - 10_000 + number, **rating}
        return [{**one, "user_id": users[number % len(users)], "event_id": f"{number}"}]

    platform.lander.land([event for number in users for event in events(number)])
    platform.run_through()
    write(platform, "MATCH (u:Usuario)-[e:VIO|RETIRO]->(m:Pelicula) SET e.seen_at_ms = 1")
    with ingesting(platform, events):
        assert repair(platform.settings).pairs > 0
    repair(platform.settings)  # what was changed in every round
    assert verify(platform.settings).equal


def test_verify_waits_for_what_is_under_way_though_events_go_on_coming(platform: Platform) -> None:
    platform.lander.land([{**GOOD, "user_id": user, "event_id": f"first-{user}"} for user in range(1, 20)])
    at_once = verify(platform.settings)
    assert (at_once.behind_pairs, at_once.wrong_pairs, at_once.pending) == (19, 0, 1)

    def events(number: int) -> list[dict[str, Any]]:
        return [
            {**GOOD, "user_id": user, "event_id": f"{user}-{number}", "timestamp": NOW + number}
            for user in range(1, 40)
        ]

    with ingesting(platform, events):
        waited = verify(platform.settings, wait_s=60)
    assert (waited.equal, waited.differing_buckets, waited.first_differences) == (True, (), ())
    assert waited.settled_pairs >= 1


def test_verify_does_not_wait_for_what_is_on_no_way(platform: Platform) -> None:
    platform.lander.land([GOOD])
    platform.run_through()
    write(platform, f"{EDGE} DELETE e", user=1)
    told = verify(platform.settings, wait_s=600)
    assert (told.behind_pairs, told.pending) == (1, 0)


def movierec(platform: Platform, *arguments: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, arguments, env=variables_of(platform.settings))
    return ran.exit_code, ran.stdout


@pytest.mark.both_graphs(long=True)
def test_exit_codes_and_json_of_the_commands(platform: Platform) -> None:
    platform.lander.land([GOOD])
    platform.run_through()
    write(platform, f"{EDGE} SET e.rating = 4.5", user=1)
    status, said = movierec(platform, "verify", "--json")
    told = json.loads(said)
    assert (status, told["equal"], told["wrong_pairs"], told["kinds"]["altered"]) == (1, False, 1, 1)
    state = {"rating": 4.0, "rated_at_ms": NOW, "event_id": "g", "seen_at_ms": NOW, "retracted_at_ms": None}
    assert told["first_differences"] == [
        {
            "user_id": 1,
            "movie_id": 10,
            "kind": "altered",
            "cause": "wrong",
            "lake": state,
            "edges": [{"type": "VIO", "state": {**state, "rating": 4.5}}],
        }
    ]
    status, said = movierec(platform, "verify")
    assert (status, "altered, wrong" in said, "movierec repair" in said) == (1, True, True)
    status, said = movierec(platform, "repair", "--json")
    assert (status, json.loads(said)["kinds"]["altered"]) == (0, 1)
    assert movierec(platform, "verify") == (0, "graph and lake are equal: 1 pairs in each\n")


@pytest.mark.both_graphs(long=True)
def test_verify_of_a_graph_that_is_away_is_exit_code_3(platform: Platform) -> None:
    environment = {**os.environ, **variables_of(platform.settings), "NEO4J_URI": "bolt://127.0.0.1:9"}
    ran = subprocess.run(
        [sys.executable, "-m", "movierec_platform.cli", "verify"], env=environment, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout, "the graph does not answer" in ran.stderr) == (3, "", True)


def gauges(platform: Platform) -> dict[str, float]:
    collector = PlatformCollector(platform.settings, platform.graph, lambda: platform.state)
    metrics: list[Metric] = [one for one in collector.collect() if one.name.startswith("movierec_parity_")]
    return {one.name: one.samples[0].value for one in metrics}


@pytest.mark.both_graphs(long=True)
def test_the_drift_is_a_gauge_from_the_first_comparison_on(platform: Platform) -> None:
    assert gauges(platform) == {}
    platform.lander.land([GOOD, {**GOOD, "user_id": 2}])
    verify(platform.settings)
    first = gauges(platform)
    assert first["movierec_parity_drift_pairs"] == 2
    platform.run_through()
    verify(platform.settings)
    second = gauges(platform)
    assert second["movierec_parity_drift_pairs"] == 0
    assert second["movierec_parity_checked_timestamp_seconds"] > first["movierec_parity_checked_timestamp_seconds"]
