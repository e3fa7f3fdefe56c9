"""SIGKILL in turn and at random, under load: what was acknowledged is there, once, and nothing of the stack is left.

The short form kills each kind that events go through once and takes about two minutes, most of them for starting
processes again and for replaying everything. `--long` kills everything several times, in random order, for about eight
minutes.
"""

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import psutil
import pyarrow as pa
import pytest
import sqlalchemy as sa

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import QUEUE_NAMES, Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.envelope import encode, pack
from movierec_platform.services.replay import replay
from movierec_tests.faults.kills import EVERYTHING, SERVERS, WORKERS, Processes, Recovery, kill, kill_everything
from movierec_tests.faults.load import MOVIES, Load, name_of
from movierec_tests.faults.oracle import (
    NOTHING,
    Fact,
    Landed,
    PairNow,
    after,
    batch_of,
    facts_by_pair,
    folded,
    read_landed,
    read_object,
)
from movierec_tests.terminal import Terminal, until

DRAINED_WITHIN_S = 600.0
IN_TURN = (EVERYTHING, "aws", "daemon", "stream", "graph", "api worker", "gate run", "ingest run")
"""Those that events go through; `--long` kills the others too.

First those after which everything landed is replayed: a replay would hide what a later kill has lost.
"""
pytestmark = [pytest.mark.timeout(1_800), pytest.mark.thorough("faults")]


@dataclass
class Form:
    """How long this takes: how much is posted, which are killed and when, and how often everything is replayed."""

    events_per_s: float
    victims: list[str]
    pause_s: Callable[[], float]
    replays: int


@dataclass
class Ordeal:
    """A stack that has been through it all and is idle again, and the books of those who posted."""

    terminal: Terminal
    settings: Settings
    processes: Processes
    load: Load
    state: State
    seed: int
    form: Form
    recoveries: list[Recovery] = field(default_factory=list)

    def counters(self) -> Counter[tuple[str, str]]:
        """Durable counters by name and reason ("" where it has none)."""
        counters = self.state.counters()
        return Counter({(name, dict(labels).get("reason", "")): value for (name, labels), value in counters.items()})

    @cached_property
    def landed(self) -> Landed:
        """What is in S3 now that the load is over: nothing is landed any more."""
        return read_landed(open_objects(self.settings))

    def facts(self, lines: Iterator[tuple[int, Any]]) -> list[Fact]:
        """What these landed events say, without those that must be refused."""
        known = self.load.traffic.facts
        return [known[name].received(at_ms) for at_ms, event in lines if (name := name_of(event)) in known]

    def acknowledged_batches(self) -> set[str]:
        return {one.batch_id for one in self.load.requests if one.batch_id is not None}

    def wait_until_idle(self) -> None:
        """Every server is there, nothing waits in any queue, and nothing is worked on."""
        queues = Queues.open(self.settings)
        until(lambda: self._is_whole() and _is_idle(queues), "every queue empty", DRAINED_WITHIN_S)

    def _is_whole(self) -> bool:
        """Whether all that died was started again, and the queues were filled again where that was due."""
        said = " ".join(self.terminal.said().split())
        return said.count("starting it again") == said.count("works again") + said.count("cannot be started again")

    def pairs(self) -> dict[tuple[int, int], PairNow]:
        """Every pair in the graph, read with a plain driver; each stands there once, under the right name."""
        query = """
        MATCH (u:Usuario)-[e:VIO|RETIRO]->(m:Pelicula)
        RETURN u.id, m.id, type(e), e.rating, e.rated_at_ms, e.event_id, e.seen_at_ms, e.retracted_at_ms
        """
        pairs = {}
        for user, movie, edge, rating, rated_at_ms, event_id, seen_ms, retracted_ms in self.terminal.cypher(query):
            assert (user, movie) not in pairs
            rated = None if rated_at_ms is None else (rated_at_ms, event_id, rating)
            pairs[user, movie] = PairNow(rated, seen_ms, retracted_ms)
            assert (edge == "VIO") == (seen_ms is not None and (retracted_ms is None or seen_ms > retracted_ms))
        return pairs

    def quarantined(self) -> list[dict[str, Any]]:
        """Every row of the quarantine."""
        return _rows(self.settings, "SELECT * FROM quarantine ORDER BY id")

    def poison(self) -> dict[str, set[int]]:
        """The lines by batch of what SQS gave up on and the quarantine holds whole."""
        lines: dict[str, set[int]] = {}
        for row in self.quarantined():
            if row["reason_code"] == "poison":
                message = json.loads(row["body"])
                lines.setdefault(batch_of(message["raw_key"]), set()).update(
                    message.get("lines") or range(len(message["events"]))
                )
        return lines

    def digest(self) -> str:
        """A digest of all users, movies and edges with all that they have, and of the whole quarantine."""
        digest = hashlib.blake2b()
        for query in (
            "MATCH (n) RETURN labels(n), properties(n)",
            "MATCH (a)-[e]->(b) RETURN labels(a), a.id, b.id, type(e), properties(e)",
        ):
            rows = self.terminal.cypher(query)
            texts = [json.dumps(row, sort_keys=True) for row in rows]
            digest.update("\n".join(sorted(texts)).encode())
        for query in (
            "SELECT * FROM quarantine ORDER BY id",
            "SELECT * FROM quarantine_standing ORDER BY id",
            "SELECT * FROM quarantine_acts ORDER BY number",
        ):
            digest.update(json.dumps(_rows(self.settings, query)).encode())
        return digest.hexdigest()


@pytest.fixture(scope="module")
def form(request: pytest.FixtureRequest, seed: int) -> Form:
    chance = random.Random(seed)
    if not request.config.getoption("--long"):
        return Form(200.0, list(IN_TURN), lambda: 0.0, replays=1)
    kinds = [*SERVERS, *WORKERS]
    rounds = [chance.sample(kinds, len(kinds)) for _ in range(3)]
    rounds[-1].sort(key=lambda kind: kind != "aws")  # no replay after the others, as in IN_TURN
    victims = [*rounds[0], EVERYTHING, *rounds[1], EVERYTHING, *rounds[2]]
    return Form(400.0, victims, lambda: chance.uniform(0.0, 8.0), replays=5)


@pytest.fixture(scope="module")
def seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--faults-seed")
    return given if given is not None else random.SystemRandom().randrange(2**31)


@pytest.fixture(scope="module")
def ordeal(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, form: Form, seed: int
) -> Iterator[Ordeal]:
    """Everything was killed while clients posted, and all that they posted is through."""
    home = tmp_path_factory.mktemp("faults") / "home"
    terminal = Terminal(home, MOVIEREC_STACK_RESTARTS="1000", MOVIEREC_VISIBILITY_TIMEOUT_S="10")
    processes = Processes(terminal)
    load: Load | None = None
    say = request.config.pluginmanager.getplugin("terminalreporter").write_line
    try:
        say(f"\nseed {seed}")
        terminal.start()
        _load_movies(terminal.settings)
        load = Load(terminal.settings.api_url, form.events_per_s, seed)
        state = State.open(terminal.settings)
        ordeal = Ordeal(terminal, terminal.settings, processes, load, state, seed, form)
        _kill_all(ordeal, say)
        yield ordeal
        state.close()
    finally:
        if load is not None:
            load.stop()
        if terminal.up is not None and terminal.up.poll() is None:
            terminal.stop()
        processes.look()
        processes.stop()
        for process in processes.alive():
            process.kill()


def _kill_all(ordeal: Ordeal, say: Callable[[str], None]) -> None:
    """Every victim was killed under load, and the load is over and through."""
    load, processes = ordeal.load, ordeal.processes

    def ingested() -> float:
        return ordeal.counters()["movierec_events_ingested_total", ""]

    load.start()
    until(ingested, "the first events in the graph")
    for victim in ordeal.form.victims:
        if victim == EVERYTHING:
            recovery = kill_everything(
                ordeal.terminal, lambda url: setattr(load, "api_url", url), lambda: load.acknowledged, ingested
            )
            ordeal.settings = ordeal.terminal.settings
        else:
            recovery = kill(victim, processes, lambda: load.acknowledged, ingested)
        ordeal.recoveries.append(recovery)
        say(
            f"{recovery.killed:15} replaced after {recovery.replaced_s:5.1f} s, flows after {recovery.flows_s:5.1f} s;"
            f" longest standstill {recovery.standstill_s:5.1f} s"
        )
        time.sleep(ordeal.form.pause_s())
    load.stop()
    began_s = time.monotonic()
    ordeal.wait_until_idle()
    acknowledged, unacknowledged = load.acknowledged, load.unacknowledged
    again = sum(one.attempts > 1 for one in load.requests)
    say(
        f"{acknowledged} events acknowledged, {unacknowledged} not, in {load.seconds:.0f} s:"
        f" {acknowledged / load.seconds:.0f}/s; {again} of {len(load.requests)} requests posted more than once;"
        f" all through {time.monotonic() - began_s:.0f} s later"
    )


def test_clients_posted_at_the_rate_asked_for_and_were_let_down_at_times(ordeal: Ordeal) -> None:
    load = ordeal.load
    # While the whole stack is away nobody takes events, however fast they are posted.
    away_s = sum(one.flows_s for one in ordeal.recoveries if one.killed == "everything")
    assert load.acknowledged / (load.seconds - away_s) >= 0.7 * ordeal.form.events_per_s
    assert load.unacknowledged > 0
    names = Counter(name_of(event) for one in load.requests for event in one.events)
    assert max(names.values()) > 1


def test_every_acknowledged_event_is_landed_and_in_the_graph_or_in_quarantine(ordeal: Ordeal) -> None:
    batches = ordeal.landed.batches
    posted: dict[str, Counter[str]] = {}
    for one in ordeal.load.requests:
        if one.batch_id is not None:
            posted.setdefault(one.batch_id, Counter()).update(map(_text, one.events))
    for batch_id, events in posted.items():
        assert not events - Counter(_text(event) for _, event in batches[batch_id])

    pairs, traffic, poison = ordeal.pairs(), ordeal.load.traffic, ordeal.poison()
    refused = {(name_of(json.loads(row["body"])), row["reason_code"]) for row in _not_poison(ordeal.quarantined())}
    for batch_id in ordeal.acknowledged_batches():
        for line, (at_ms, event) in enumerate(batches[batch_id]):
            name = name_of(event)
            if line in poison.get(batch_id, ()):
                continue
            if name in traffic.refusals:
                assert (name, traffic.refusals[name]) in refused
            else:
                fact = traffic.facts[name].received(at_ms)
                assert after(pairs[fact.pair], [fact]) == pairs[fact.pair]


def test_nothing_that_is_good_is_refused(ordeal: Ordeal) -> None:
    wrong = ordeal.load.traffic.refusals
    for row in _not_poison(ordeal.quarantined()):
        assert wrong[name_of(json.loads(row["body"]))] == row["reason_code"]


def test_the_graph_is_the_fold_of_what_was_acknowledged_and_of_what_else_took_effect(ordeal: Ordeal) -> None:
    acknowledged, poison = ordeal.acknowledged_batches(), ordeal.poison()
    sure: list[Fact] = []
    unsure: list[Fact] = []
    for batch_id, lines in ordeal.landed.batches.items():
        for line, landed in enumerate(lines):
            is_sure = batch_id in acknowledged and line not in poison.get(batch_id, ())
            (sure if is_sure else unsure).extend(ordeal.facts(iter([landed])))
    graph, must, may = ordeal.pairs(), facts_by_pair(sure), facts_by_pair(unsure)
    assert must.keys() <= graph.keys() <= must.keys() | may.keys()
    for pair in must.keys() | may.keys():
        now = graph.get(pair, NOTHING)
        # The registers are maxima: what took effect changes the pair no more, and all of that together made it.
        took_effect = [fact for fact in may.get(pair, ()) if after(now, [fact]) == now]
        assert now == after(NOTHING, [*must.get(pair, ()), *took_effect])


def test_the_counters_add_up(ordeal: Ordeal) -> None:
    load, poison = ordeal.load, sum(map(len, ordeal.poison().values()))
    assert load.acknowledged + load.unacknowledged == sum(len(one.events) for one in load.requests)
    batches = ordeal.landed.batches
    landed = sum(len(batches[batch_id]) for batch_id in ordeal.acknowledged_batches())
    _add_up(ordeal, at_least=landed - poison, poison=poison)


def test_replayed_the_graph_is_the_fold_of_all_that_was_landed_and_stays_it(ordeal: Ordeal) -> None:
    settings, landed = ordeal.settings, ordeal.landed
    assert replay(settings, 0) == len(landed.batches)
    ordeal.wait_until_idle()
    assert ordeal.pairs() == folded(ordeal.facts(line for lines in landed.batches.values() for line in lines))
    _add_up(ordeal, at_least=landed.lines, poison=0)
    assert ordeal.counters()["movierec_events_landed_total", ""] == landed.lines

    chance = random.Random(ordeal.seed)
    raw = Queues.open(settings).raw
    before, counted = ordeal.digest(), ordeal.counters()
    messages = list(_messages(settings))
    for _ in range(ordeal.form.replays):
        chance.shuffle(messages)
        raw.send(messages)
        ordeal.wait_until_idle()
        assert ordeal.digest() == before
        assert ordeal.counters() == counted
    assert json.loads(ordeal.terminal.movierec("verify", "--wait", "--json"))["differing_pairs"] == 0


def test_stopped_it_leaves_no_process(ordeal: Ordeal) -> None:
    ordeal.processes.look()
    assert ordeal.terminal.stop() == 0
    ordeal.processes.look()
    _, left = psutil.wait_procs(ordeal.processes.alive(), timeout=5)
    assert left == []


def _add_up(ordeal: Ordeal, at_least: int, poison: int) -> None:
    """Each counter is the sum of those it is made of, but for the events of poison messages."""
    counters, held = ordeal.counters(), Counter(row["reason_code"] for row in _not_poison(ordeal.quarantined()))
    total = {name: counters[f"movierec_events_{name}_total", ""] for name in ("landed", "accepted", "ingested")}
    rejected = {code: n for (name, code), n in counters.items() if name == "movierec_events_rejected_total"}
    quarantined = {code: n for (name, code), n in counters.items() if name == "movierec_events_quarantined_total"}
    unknown = rejected["unknown_movie"]
    assert total["landed"] >= at_least
    assert total["landed"] == total["accepted"] + sum(rejected.values()) - unknown
    assert abs(total["accepted"] - total["ingested"] - unknown) <= poison
    assert {code: n for code, n in quarantined.items() if code != "poison"} == held
    assert sum(abs(n - held[code]) for code, n in rejected.items()) <= poison


def _load_movies(settings: Settings) -> None:
    """Graph and lake have the catalogue, and no ratings."""
    ids = list(range(1, MOVIES + 1))
    lake = Lake(settings)
    titles = [f"Film {number}" for number in ids]
    lake.write(
        "movies",
        pa.table(
            {"movie_id": ids, "title": titles, "year": pa.array([None] * MOVIES, pa.int32()), "genres": [[]] * MOVIES}
        ),
    )
    types = {"user_id": pa.int64(), "movie_id": pa.int64(), "rating": pa.float64(), "rated_at_ms": pa.int64()}
    lake.write("ratings", pa.table({name: pa.array([], type_) for name, type_ in types.items()}))
    fields = {"year": None, "genres": [], "rating_count": 0, "rating_mean": None}
    with Graph.open(settings) as graph:
        graph.ensure_schema()
        graph.merge_movies([{"id": number, "title": f"Film {number}", **fields} for number in ids])


def _messages(settings: Settings) -> Iterator[str]:
    """Everything that was landed, as messages that carry what those before carried."""
    objects = open_objects(settings)
    for key in objects.keys("raw/"):
        lines = read_object(objects, key)
        yield from pack(key, lines[0][0], [encode(event) for _, event in lines], range(len(lines)))


def _is_idle(queues: Queues) -> bool:
    return not any(queues.named(name).depth().total for name in QUEUE_NAMES)


def _rows(settings: Settings, query: str) -> list[dict[str, Any]]:
    engine = sa.create_engine(settings.state_database_url)
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(query)).mappings()]
    finally:
        engine.dispose()


def _not_poison(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["reason_code"] != "poison"]


def _text(event: Any) -> str:
    return json.dumps(event, sort_keys=True)
