"""An outage is never poison: whatever is down for longer than several drain runs, every message takes effect later."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import Message, Queue, Queues
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.drains import MOST_DEFECTS, SUSPECT_RECEIVES, DrainPolicy
from movierec_platform.errors import GraphUnavailable, LandingBusy, StateUnavailable
from movierec_platform.local.graph import GraphServer
from movierec_platform.services.land import MOST_WAIT_S, Lander
from movierec_tests.integration.conftest import GOOD, Platform
from movierec_tests.servers import empty_settings, with_graph

GENERATIONS = 6
SHORT = DrainPolicy(linger_s=1, max_runtime_s=1, overlap_s=1, grace_s=1)
PATIENT = DrainPolicy(linger_s=2, max_runtime_s=120, overlap_s=1, grace_s=1)


@pytest.fixture
def own_graph(tmp_path: Path) -> Iterator[GraphServer]:
    """A graph that a test may stop."""
    server = GraphServer(tmp_path / "graph-home", 0)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def platform(aws_settings: Settings, own_graph: GraphServer, tmp_path: Path) -> Iterator[Platform]:
    """The speed layer over that graph, with queues that hide a message as briefly as the settings allow."""
    settings = with_graph(aws_settings, own_graph).model_copy(update={"visibility_timeout_s": 5})
    settings = empty_settings(settings, tmp_path / "home")
    lander, state = Lander(settings), State.open(settings)
    with Graph.open(settings, retry_s=0.2) as graph:
        graph.ensure_schema()
        platform = Platform(settings, Queues.open(settings), state, graph, lander)
        platform.load_movies()
        yield platform
    lander.close()
    state.close()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_graph_that_is_down_for_six_drain_runs_makes_no_message_poison(
    platform: Platform, own_graph: GraphServer
) -> None:
    events = [{**GOOD, "event_id": f"e{user}", "user_id": user} for user in range(1, 26)]
    for event in events:
        platform.queues.raw.send([json.dumps(event)])
    platform.drain("raw", PATIENT)
    own_graph.stop()
    clean: Queue = platform.queues.clean
    for _ in range(GENERATIONS):
        wait_until(lambda: not clean.depth().in_flight)
        with suppress(GraphUnavailable):
            platform.drain("clean", SHORT)
    wait_until(lambda: not clean.depth().in_flight)
    own_graph.restart()
    platform.drain("clean", PATIENT)
    platform.drain("dlq", PATIENT)
    assert platform.rows() == []
    assert platform.pairs().keys() == {(event["user_id"], 10) for event in events}


def test_what_is_in_hand_when_a_part_goes_down_stays_hidden_and_is_given_back_at_the_end(platform: Platform) -> None:
    platform.queues.raw.send([json.dumps(GOOD)])
    hidden: list[bool] = []

    def down(messages: Sequence[Message]) -> int:
        hidden.append(not platform.queues.raw.depth().visible)
        raise StateUnavailable("down")

    longer_than_hidden = DrainPolicy(linger_s=1, max_runtime_s=8, overlap_s=1, grace_s=1)
    with pytest.raises(StateUnavailable):
        platform.drain("raw", longer_than_hidden, down)
    assert all(hidden)
    [message] = platform.queues.raw.receive()
    assert message.receive_count == 2


def test_a_message_that_meets_a_defect_five_times_is_poison_however_many_runs_that_takes(platform: Platform) -> None:
    others = [{**GOOD, "event_id": f"e{user}", "user_id": user} for user in range(1, 4)]
    platform.queues.raw.send([json.dumps(event) for event in (*others, {**GOOD, "user_id": 99})])

    def broken_for_99(messages: Sequence[Message]) -> int:
        if any('"user_id": 99' in message.body for message in messages):
            raise ZeroDivisionError
        return platform.work("raw")(messages)

    left = []
    for _ in range(MOST_DEFECTS):
        wait_until(lambda: not platform.queues.raw.depth().in_flight)
        platform.drain("raw", SHORT, broken_for_99)
        left.append(platform.queues.raw.depth().total)
    assert left == [1, 1, 1, 1, 0]
    for name in ("clean", "dlq"):
        platform.drain(name, PATIENT)
    assert {(row.reason_code, json.loads(row.body)["user_id"]) for row in platform.rows()} == {("poison", 99)}
    assert platform.pairs().keys() == {(event["user_id"], 10) for event in others}


def test_a_message_that_kills_its_run_is_found_out_and_costs_only_itself(platform: Platform) -> None:
    platform.queues.raw.send([json.dumps({**GOOD, "user_id": user}) for user in (1, 99)])
    killed: list[int] = []

    def kills(messages: Sequence[Message]) -> int:
        if any('"user_id": 99' in message.body for message in messages):
            killed.append(len(messages))
            raise SystemExit  # no handler of the drain runs, as in a process that is killed
        return platform.work("raw")(messages)

    for _ in range(SUSPECT_RECEIVES - 1 + MOST_DEFECTS):
        wait_until(lambda: not platform.queues.raw.depth().in_flight)
        with pytest.raises(SystemExit):
            platform.drain("raw", SHORT, kills)
    wait_until(lambda: not platform.queues.raw.depth().in_flight)
    platform.drain("raw", PATIENT, kills)
    assert killed[SUSPECT_RECEIVES - 1 :] == [1] * MOST_DEFECTS
    for name in ("clean", "dlq"):
        platform.drain(name, PATIENT)
    assert [row.reason_code for row in platform.rows()] == ["poison"]
    assert platform.pairs().keys() == {(1, 10)}


def test_outages_are_taken_back_and_old_counts_forgotten(platform: Platform) -> None:
    defects = platform.state.defects
    assert [defects.begin("q", "m", 7) for _ in range(2)] == [1, 2]
    defects.take_back("q", "m")
    assert defects.begin("q", "m", 7) == 2
    assert defects.begin("another", "m", 8) == 1
    defects.forget_before(8)
    assert (defects.begin("q", "m", 7), defects.begin("another", "m", 8)) == (1, 2)
    defects.forget("q", "m")
    assert defects.begin("q", "m", 7) == 1


def test_a_request_that_has_waited_for_too_long_is_given_up_and_nothing_of_it_is_landed(platform: Platform) -> None:
    now_s = time.monotonic()
    clock = iter([now_s, now_s + MOST_WAIT_S + 1, now_s, now_s + MOST_WAIT_S - 1])
    lander = Lander(platform.settings, monotonic_s=lambda: next(clock))
    with pytest.raises(LandingBusy):
        lander.land([GOOD])
    assert not list(open_objects(platform.settings).keys("raw/"))
    assert lander.land([GOOD]).batch_id
    lander.close()
