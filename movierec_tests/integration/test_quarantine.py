"""The quarantine: held once, mended, sent to the gate again, given up; every count right and nothing twice."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from movierec_platform.adapters.aws import sqs_client
from movierec_platform.adapters.quarantine_refusals import Refusal
from movierec_platform.adapters.queues import Message, Queue, Queues
from movierec_platform.adapters.state import State
from movierec_platform.cli.main import app
from movierec_platform.config import Settings, load_settings, variables_of
from movierec_platform.domain.envelope import (
    Refused,
    Rejections,
    encode,
    pack,
    pack_rejections,
    raw_events,
    raw_key,
    unpack_rejections,
)
from movierec_platform.domain.events import RANK_AHEAD_MS
from movierec_platform.domain.gate import AHEAD_MS, REASON_CODES, Rejected
from movierec_platform.domain.quarantine import EVERYTHING, HELD_NOW, MAX_ATTEMPTS, POISON, STATUSES, Filter, Selection
from movierec_platform.domain.registers import PairState
from movierec_platform.errors import (
    CheckFailed,
    Conflict,
    NotFound,
    ObjectStoreUnavailable,
    QueueUnavailable,
    TooLarge,
    UsageError,
)
from movierec_platform.services.quarantine import Quarantine
from movierec_platform.services.redrive import Redrive
from movierec_platform.services.replay import DRAINED_MARK, replay
from movierec_platform.services.verify import verify
from movierec_tests.integration.conftest import GOOD, NOW, Platform

ALL = Selection(everything=True)
NO_MOVIE = {"user_id": 7, "rating": 4.0}


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return load_settings({"home": tmp_path / "own", "state_url": SecretStr("")})


@pytest.fixture
def state(own: Settings):
    state = State.open(own)
    yield state
    state.close()


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, own: Settings):
    """A state database of either kind."""
    url = request.getfixturevalue("postgres_server").new_database() if request.param == "postgres" else ""
    state = State.open(own.model_copy(update={"state_url": SecretStr(url)}))
    yield state
    state.close()


def refusal(number: int, reason: str = "missing_field", key: str = "raw/first", line: int | None = None) -> Refusal:
    """The refusal of an event of user `number`; the row's id is its number in hex."""
    body = json.dumps({"user_id": number, "rating": 4.0})
    line = number if line is None else line
    return Refusal(f"{number:04x}", reason, "movie_id", "why", body, key, line, NOW + number, NOW + number)


def standings(state: State) -> dict[str, tuple[str, int, str]]:
    rows = state.quarantine.rows(EVERYTHING, STATUSES, limit=10_000)
    return {row.id: (row.status, row.attempts, row.reason_code) for row in rows}


def counted(state: State, what: str) -> Counter[str]:
    name = f"movierec_events_{what}_total"
    return Counter({dict(labels)["reason"]: int(n) for (key, labels), n in state.counters().items() if key == name})


def assert_that_the_counts_add_up(state: State) -> None:
    held = counted(state, "quarantined")
    held.subtract(counted(state, "redriven"))
    held.subtract(counted(state, "discarded"))
    assert +held == state.quarantine.by_reason()


def acts(state: State, row_id: str) -> list[tuple[str, str, int]]:
    return [(act.act, act.actor, act.attempt) for act in state.quarantine.history(row_id)]


# Held


def test_a_row_is_held_once_however_often_its_refusal_comes(state: State) -> None:
    state.quarantine.hold([refusal(1), refusal(2), refusal(2)], "drain", NOW)
    state.quarantine.hold([refusal(2), refusal(3, "not_json")], "drain", NOW + 1)
    assert state.quarantine.by_reason() == {"missing_field": 2, "not_json": 1}
    assert counted(state, "quarantined") == {"missing_field": 2, "not_json": 1}
    assert acts(state, "0002") == [("held", "drain", 0)]


def test_rows_are_found_by_reason_time_user_and_status_page_by_page(state: State) -> None:
    for number in range(1, 8):
        reason = "not_json" if number == 2 else "missing_field"
        state.quarantine.hold([refusal(number, reason)], "drain", NOW + number // 3)
    state.quarantine.discard(Selection(["0003"]), "", "me", NOW)
    quarantine = Quarantine(state)

    def ids(statuses: Sequence[Any] = HELD_NOW, **where: Any) -> list[str]:
        return [row.id[-1] for row in quarantine.page(Filter(**where), statuses, 10).rows]

    assert ids() == ["7", "6", "5", "4", "2", "1"]
    assert ids(reason="not_json") == ["2"]
    assert ids(since_ms=NOW + 6) == ["7", "6"]
    assert ids(user_id=4) == ["4"]
    assert ids(("discarded",)) == ["3"]
    pages, cursor = [], None
    while not pages or cursor:
        page = quarantine.page(EVERYTHING, STATUSES, 3, cursor)
        cursor = page.next_cursor
        pages.append([row.id[-1] for row in page.rows])
    assert pages == [["7", "6", "5"], ["4", "3", "2"], ["1"]]
    assert page.by_reason == {"missing_field": 6, "not_json": 1}


def test_whatever_is_done_in_whatever_order_the_counts_add_up(either: State) -> None:
    state = either
    chance = random.Random(7)
    codes = sorted(REASON_CODES - {POISON})[:4]
    landed: list[tuple[int, str, int]] = [(number, "raw/first", number) for number in range(12)]
    table = state.quarantine

    def hold() -> None:
        chosen = [chance.choice(landed) for _ in range(3)]
        table.hold([refusal(n, chance.choice(codes), key, line) for n, key, line in chosen], "drain", NOW)

    def claim() -> None:
        key = f"raw/redrive-{len(landed)}"
        table.redrives.claim(Selection(where=Filter(chance.choice(codes))), "", key, "me", NOW)
        rows = [row for row in table.rows(EVERYTHING, STATUSES, 100) if row.redrive_key == key]
        landed.extend((int(row.id, 16), key, row.redrive_line or 0) for row in rows)

    def finish() -> None:
        key = table.redrives.unfinished()
        if key is not None:
            table.redrives.finish(key, "me", NOW)

    def discard() -> None:
        table.discard(Selection([f"{chance.randrange(12):04x}"]), "", "me", NOW)

    def patch() -> None:
        for row in table.found(f"{chance.randrange(12):04x}"):
            table.patch(row.id, "{}", "mended", "me", NOW)

    seen: Counter[str] = Counter()
    for _ in range(250):
        chance.choice([hold, hold, hold, claim, finish, discard, patch])()
        assert_that_the_counts_add_up(state)
        seen.update(status for status, _, _ in standings(state).values())
    assert seen.keys() == set(STATUSES)
    assert max(attempts for _, attempts, _ in standings(state).values()) > 1


# Redriven


@pytest.fixture
def redrive(fresh_settings: Settings, state: State) -> Redrive:
    return Redrive.open(fresh_settings, state)


def landed(redrive: Redrive) -> list[tuple[str, list[Any]]]:
    """(key, its events) of each raw object, all of which must have been sent as they are."""
    return [(key, [event for event, _ in raw_events(redrive.objects.get(key))]) for key in redrive.objects.keys("raw/")]


def sent(redrive: Redrive) -> list[dict[str, Any]]:
    """The messages on the raw queue, which is empty afterwards."""
    messages = []
    while redrive.raw.depth().visible:
        received = redrive.raw.receive(wait_s=1)
        redrive.raw.delete(received)
        messages += [json.loads(message.body) for message in received]
    return messages


def test_a_redrive_lands_and_sends_as_the_api_does_and_makes_no_event_newer(redrive: Redrive, state: State) -> None:
    with_time = Refusal("00aa", "wrong_type", None, "", json.dumps(GOOD), "raw/first", 50, NOW + 9, NOW)
    no_json = Refusal("00bb", "not_json", None, "", "{no json", "raw/first", 51, NOW, NOW)
    ahead = [json.dumps({**GOOD, "timestamp": NOW + late_ms}) for late_ms in (AHEAD_MS, AHEAD_MS + 1)]
    times = [
        Refusal(f"00c{n}", "wrong_type", None, "", body, "raw/first", 60 + n, NOW, NOW) for n, body in enumerate(ahead)
    ]
    state.quarantine.hold([refusal(1), with_time, no_json, *times], "drain", NOW)
    state.mark(DRAINED_MARK, 2**60)
    outcome = redrive.redrive(ALL, "me")
    assert (outcome.done, outcome.skipped, outcome.finished) == (
        {"missing_field": 1, "wrong_type": 3, "not_json": 1},
        {},
        {},
    )
    [(key, events)] = landed(redrive)
    assert events == [
        {"user_id": 1, "rating": 4.0, "timestamp": NOW + 1},
        GOOD,
        "{no json",
        {**GOOD, "timestamp": NOW + RANK_AHEAD_MS},
        {**GOOD, "timestamp": NOW + AHEAD_MS + 1},  # out of range then
    ]
    [message] = sent(redrive)
    assert (message["raw_key"], message["lines"], message["events"]) == (key, [0, 1, 2, 3, 4], events)
    assert f"/{message['received_at_ms']}-redrive-" in key
    assert standings(state)["0001"] == ("redriven", 1, "missing_field")
    assert acts(state, "0001") == [("held", "drain", 0), ("claimed", "me", 1), ("redriven", "me", 1)]
    assert state.marked(DRAINED_MARK) == message["received_at_ms"], "an emulator that forgets it is told again"
    assert_that_the_counts_add_up(state)

    again = redrive.redrive(ALL, "me")
    assert (again.done, sent(redrive), len(landed(redrive))) == ({}, [], 1)
    by_id = redrive.redrive(Selection(["0001"]), "me")
    assert (by_id.done, by_id.skipped) == ({}, {"redriven": 1})


@pytest.mark.parametrize("part", ["queue", "object store"])
def test_what_could_not_be_sent_is_finished_by_the_next_redrive_under_the_same_key(
    redrive: Redrive, state: State, fresh_settings: Settings, part: str
) -> None:
    state.quarantine.hold([refusal(1), refusal(2)], "drain", NOW)
    gone = (
        {"raw_queue_url": f"{fresh_settings.raw_queue_url}-gone"}
        if part == "queue"
        else {"bucket": f"{fresh_settings.bucket}-gone"}
    )
    with pytest.raises((QueueUnavailable, ObjectStoreUnavailable), match=r"SQS|s3"):
        Redrive.open(fresh_settings.model_copy(update=gone), state).redrive(ALL, "me")
    key = state.quarantine.redrives.unfinished()
    assert {row[:2] for row in standings(state).values()} == {("redriving", 1)}
    assert state.quarantine.by_reason() == {"missing_field": 2}, "until it is through, it is held"
    with pytest.raises(Conflict, match="finishes it"):
        Quarantine(state).patch("0001", "{}", "me", force=True)
    assert Quarantine(state).discard(Selection(["0001"]), "me").skipped == {"redriving": 1}

    outcome = redrive.redrive(Selection(["0002"]), "somebody else")
    assert (outcome.done, outcome.finished) == ({}, {"missing_field": 2})
    assert [name for name, _ in landed(redrive)] == [key]
    assert [event["user_id"] for event in sent(redrive)[0]["events"]] == [1, 2]
    assert {row[:2] for row in standings(state).values()} == {("redriven", 1)}
    assert_that_the_counts_add_up(state)


class DiesAfterSending(Queue):
    """A queue whose sender is killed as soon as SQS has the messages."""

    def send(self, bodies: Sequence[str]) -> None:
        super().send(bodies)
        raise KeyboardInterrupt


def test_a_redrive_killed_after_sending_is_finished_with_the_same_content(
    redrive: Redrive, state: State, fresh_settings: Settings
) -> None:
    state.quarantine.hold([refusal(number) for number in range(4)], "drain", NOW)
    dying = DiesAfterSending(sqs_client(fresh_settings), fresh_settings.raw_queue_url)
    with pytest.raises(KeyboardInterrupt):
        Redrive(state, redrive.objects, dying).redrive(ALL, "me")
    [first] = sent(redrive)
    state.quarantine.hold([refusal(99, "wrong_type", first["raw_key"], line=0)], "drain", NOW)
    assert standings(state)["0000"] == ("held", 1, "wrong_type")

    outcome = redrive.redrive(Selection(["0003"]), "me")
    assert outcome.finished == {"missing_field": 3}
    assert sent(redrive) == [first]
    assert len(landed(redrive)) == 1
    assert standings(state)["0000"] == ("held", 1, "wrong_type")
    assert_that_the_counts_add_up(state)


def test_two_redrives_at_the_same_time_send_each_event_under_one_key(either: State, fresh_settings: Settings) -> None:
    state, redrive = either, Redrive.open(fresh_settings, either)
    state.quarantine.hold([refusal(number) for number in range(40)], "drain", NOW)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: redrive.redrive(ALL, "me"), range(4)))
    assert sum(sum(one.done.values()) + sum(one.finished.values()) for one in outcomes) == 40
    [(key, events)] = landed(redrive)
    assert {message["raw_key"] for message in sent(redrive)} == {key}
    assert len(events) == 40
    assert set(standings(state).values()) == {("redriven", 1, "missing_field")}
    assert_that_the_counts_add_up(state)


def test_a_redrive_goes_in_chunks_and_passes_over_what_cannot_travel(redrive: Redrive, state: State) -> None:
    deep = "[" * 199 + "]" * 199
    bodies = ["1e999", deep, '"' + "x" * 70_000, *(f'{{"n": {number}}}' for number in range(1_001))]
    refusals = [
        Refusal(f"{number:04x}", "wrong_type", None, "", body, "raw/first", number, NOW, NOW)
        for number, body in enumerate(bodies)
    ]
    state.quarantine.hold(refusals, "drain", NOW)
    outcome = redrive.redrive(ALL, "me")
    assert (outcome.done, outcome.skipped) == ({"wrong_type": 1_002}, {"cannot_travel": 2})
    assert [len(events) for _, events in landed(redrive)] == [998, 4]
    assert standings(state)["0001"] == ("held", 0, "wrong_type")


# Refused again


def refuse_again(state: State, row_id: str, reason: str = "wrong_type") -> Refusal:
    """The row's last redrive is refused; returns that refusal."""
    [row] = state.quarantine.found(row_id)
    again = refusal(1_000, reason, row.redrive_key or "", row.redrive_line)
    state.quarantine.hold([again], "drain", NOW)
    return again


def test_what_is_refused_again_is_the_same_row_with_its_new_reason(redrive: Redrive, state: State) -> None:
    state.quarantine.hold([refusal(1)], "drain", NOW)
    redrive.redrive(ALL, "me")
    refuse_again(state, "0001")
    [row] = state.quarantine.rows(EVERYTHING, STATUSES, 10)
    assert (row.status, row.attempts, row.reason_code, row.user_id) == ("held", 1, "wrong_type", 1_000)
    assert (row.raw_key, row.line, row.received_at_ms) == ("raw/first", 1, NOW + 1), "where it came from stays"
    assert acts(state, "0001")[-2:] == [("redriven", "me", 1), ("refused again", "drain", 1)]
    assert counted(state, "quarantined") == {"missing_field": 1, "wrong_type": 1}
    assert_that_the_counts_add_up(state)


def test_a_refusal_that_is_stale_or_repeated_changes_nothing(redrive: Redrive, state: State) -> None:
    state.quarantine.hold([refusal(1), refusal(2)], "drain", NOW)
    redrive.redrive(ALL, "me")
    stale = refuse_again(state, "0001")
    redrive.redrive(Selection(["0001"]), "me")
    old = refuse_again(state, "0002")
    Quarantine(state).discard(Selection(["0002"]), "me")
    before = (standings(state), acts(state, "0001"), acts(state, "0002"), state.counters())
    state.quarantine.hold([stale, old, refusal(1), refusal(2, "not_json")], "drain", NOW)
    assert (standings(state), acts(state, "0001"), acts(state, "0002"), state.counters()) == before
    assert before[0] == {"0001": ("redriven", 2, "wrong_type"), "0002": ("discarded", 1, "wrong_type")}


def test_after_five_attempts_a_row_is_told_and_not_sent(redrive: Redrive, state: State) -> None:
    state.quarantine.hold([refusal(1), refusal(2)], "drain", NOW)
    for _ in range(MAX_ATTEMPTS):
        assert redrive.redrive(Selection(["0001"]), "me").done
        refuse_again(state, "0001")
    for selection in (Selection(["0001"]), Selection(where=Filter("wrong_type"))):
        outcome = redrive.redrive(selection, "me")
        assert (outcome.done, outcome.skipped) == ({}, {"attempts_used_up": 1})
    assert standings(state)["0001"] == ("held", MAX_ATTEMPTS, "wrong_type")
    assert Quarantine(state).discard(Selection(["0001"]), "me").done == {"wrong_type": 1}


# Patched


def test_a_patch_is_stored_if_the_gate_would_accept_it_or_by_force(redrive: Redrive, state: State) -> None:
    quarantine = Quarantine(state)
    state.quarantine.hold([refusal(1), refusal(2, POISON)], "drain", NOW)
    mended = {"user_id": 8, "movie_id": 10, "rating": 4.0}
    worse = quarantine.patch("0001", json.dumps({**mended, "rating": 9}), "me")
    assert (worse.stored, worse.refusal and worse.refusal.reason_code) == (False, "rating_out_of_range")
    assert worse.row.user_id == 1
    better = quarantine.patch("0001", json.dumps(mended), "me")
    assert (better.stored, better.refusal, better.row.user_id) == (True, None, 8)
    forced = quarantine.patch("0001", "{}", "me", force=True)
    assert (forced.stored, forced.row.body) == (True, "{}")
    assert [act.body for act in quarantine.history(forced.row)] == [None, encode(mended).decode(), "{}"]

    assert not quarantine.patch("0002", json.dumps([mended, 5]), "me").stored
    assert not quarantine.patch("0002", pack("raw/k", NOW, [b"5"], [0])[0], "me").stored
    assert quarantine.patch("0002", json.dumps([mended]), "me").stored

    for text, error in (("{", UsageError), (json.dumps("x" * 70_000), TooLarge), ("[" * 199 + "]" * 199, UsageError)):
        with pytest.raises(error):
            quarantine.patch("0001", text, "me", force=True)
    with pytest.raises(NotFound, match="more than one row"):
        quarantine.patch("000", "{}", "me")
    quarantine.discard(Selection(["0001"]), "me")
    with pytest.raises(Conflict, match="discarded, not held"):
        quarantine.patch("0001", json.dumps(mended), "me")


# Through the gate and the graph


def movierec(settings: Settings, *arguments: str) -> Result:
    """What this command prints with these settings; an error that `main` would tell comes as an exception."""
    environment = {**variables_of(settings), "MOVIEREC_HOME": str(settings.home)}
    return CliRunner().invoke(app, ["quarantine", *arguments], env=environment)


def test_events_that_came_before_their_movie_are_redriven_into_the_graph(platform: Platform) -> None:
    posted = [
        {"event_id": "early", "user_id": 7, "movie_id": 10, "rating": 4.5, "timestamp": NOW},
        {"user_id": 7, "movie_id": 20, "rating": 3.0},
        {"user_id": 8, "movie_id": 999, "rating": 3.0},
        {"user_id": 9, "movie_id": 30, "rating": 9.5},
    ]
    platform.graph._write(lambda transaction: transaction.run("MATCH (m:Pelicula) DETACH DELETE m").consume())
    received_at_ms = platform.lander.land(posted).received_at_ms
    platform.run_through()
    assert platform.pairs() == {}
    assert platform.state.quarantine.by_reason() == {"rating_out_of_range": 1, "unknown_movie": 3}

    platform.load_movies()
    assert not verify(platform.settings).equal, "the lake has what the graph has not"
    [wrong] = platform.rows("rating_out_of_range")
    patched = movierec(platform.settings, "patch", wrong.id, '{"user_id": 9, "movie_id": 30, "rating": 5}')
    assert patched.stdout == f"{wrong.id} is patched; the gate would accept it\n"
    shown = movierec(platform.settings, "redrive", "--reason", "unknown_movie")
    assert shown.stdout == "redriven: 3 (unknown_movie 3)\n"
    assert movierec(platform.settings, "redrive", wrong.id[:6]).stdout == "redriven: 1 (rating_out_of_range 1)\n"
    platform.run_through()

    pairs = platform.pairs()
    assert pairs[7, 10] == PairState(4.5, NOW, "early", NOW, None)
    assert {pair: state.seen_at_ms for pair, state in pairs.items()} == {
        (7, 10): NOW,
        (7, 20): received_at_ms,
        (9, 30): received_at_ms,
    }
    assert verify(platform.settings).equal
    assert platform.state.quarantine.by_reason() == {"unknown_movie": 1}
    [held] = [row for row in platform.rows() if row.status == "held"]
    assert (held.attempts, json.loads(held.body)["movie_id"]) == (1, 999)

    before = (platform.rows(), *(counted(platform.state, what) for what in ("quarantined", "redriven")))
    assert replay(platform.settings, since_ms=0) == 3
    platform.run_through()
    assert (platform.rows(), *(counted(platform.state, what) for what in ("quarantined", "redriven"))) == before
    assert platform.pairs() == pairs
    assert_that_the_counts_add_up(platform.state)


def given_up(settings: Settings) -> list[Message]:
    """The one message of the raw queue is moved to the dlq queue, whole; what that has then."""
    queues = Queues.open(settings)
    [message] = queues.raw.receive(wait_s=1)
    queues.dlq.send([message.body])
    assert queues.raw.delete([message]) == 1
    dead = queues.dlq.receive(wait_s=1)
    assert queues.dlq.delete(dead) == 1
    return dead


def test_a_message_that_a_drain_gave_up_is_poison_and_is_redriven_whole(
    redrive: Redrive, state: State, fresh_settings: Settings
) -> None:
    [body] = pack(raw_key(NOW, "first"), NOW, [encode(GOOD), encode(NO_MOVIE)], [4, 9])
    quarantine = Quarantine(state)
    redrive.raw.send([body])
    dead = given_up(fresh_settings)
    for _ in range(2):
        assert quarantine.hold(dead) == 1
    [row] = state.quarantine.rows(EVERYTHING, STATUSES, 10)
    assert (row.reason_code, row.status, row.body, row.received_at_ms) == (POISON, "held", body, NOW)

    assert redrive.redrive(ALL, "me").done == {POISON: 1}
    assert landed(redrive) == [], "it was landed long ago"
    dead = given_up(fresh_settings)
    assert dead[0].body == body
    for _ in range(2):
        quarantine.hold(dead)
    assert standings(state) == {row.id: ("held", 1, POISON)}

    redrive.redrive(ALL, "me")
    quarantine.hold([replace(dead[0], sent_at_ms=dead[0].sent_at_ms - 120_000)])
    assert standings(state) == {row.id: ("redriven", 2, POISON)}, "a refusal from before this redrive"
    assert sent(redrive) == [json.loads(body)]
    assert_that_the_counts_add_up(state)


def test_a_refusal_of_no_known_form_is_poison_rather_than_the_end_of_the_drain(state: State) -> None:
    good = pack_rejections(Rejections("raw/k", NOW, [Refused(0, Rejected("not_json", None, "why"), "{")]))[0]
    broken = [
        good.replace('"not_json"', '"not_a_reason"'),
        good.replace('"line":0', '"line":"0"'),
        good.replace('"line":0', f'"line":{2**70}'),
        good.replace(str(NOW), str(2**70)),
        good.replace('"why"', '"\\u0000"'),
        good.replace('"detail"', '"retail"'),
        '{"v":1,"rejected":5}',
    ]
    assert unpack_rejections(good) is not None
    messages = [Message(body, "", "", NOW, 1) for body in broken]
    assert Quarantine(state).hold(messages) == len(broken)
    assert state.quarantine.by_reason() == {POISON: len(broken)}


# The command line


def test_the_command_line_shows_what_is_there_and_what_was_done(own: Settings, state: State) -> None:
    state.quarantine.hold([refusal(1), refusal(2, "not_json"), refusal(3)], "drain", NOW)
    listed = movierec(own, "list").stdout
    assert "held: 3 (missing_field 2, not_json 1)" in listed
    assert "0002  held    0         not_json       2     " in listed
    some = movierec(own, "list", "--limit", "2")
    assert "the latest 2 of 3 are shown: --limit 3 shows more" in some.stderr
    assert "are shown" not in movierec(own, "list", "--limit", "3").stderr
    assert movierec(own, "discard", "--user", "2").stdout == "discarded: 1 (not_json 1)\n"
    twice = movierec(own, "discard", "0002", "0003").stdout
    assert twice == "discarded: 1 (missing_field 1)\nleft alone: 1 discarded already\n"
    shown = movierec(own, "show", "0003").stdout
    assert "attempts     0\n" in shown
    assert "discarded" in shown.partition("history")[2]
    assert json.loads(movierec(own, "show", "0003", "--json").stdout)["history"][1]["actor"].startswith("cli:")
    rows = json.loads(movierec(own, "list", "--status", "all", "--json").stdout)
    assert [row["status"] for row in rows] == ["discarded", "discarded", "held"]
    assert json.loads(movierec(own, "discard", "--all", "--json").stdout) == {
        "discarded": {"missing_field": 1},
        "skipped": {},
        "finished": {},
    }


def test_control_characters_of_a_refused_event_do_not_reach_the_terminal(own: Settings, state: State) -> None:
    body = "not json \x1b[2J\x1b]0;owned\x07\u202e\x9b31m"
    state.quarantine.hold([Refusal("00ee", "not_json", None, body, body, "raw/first", 1, NOW, NOW)], "drain", NOW)
    for arguments in (["list"], ["show", "00ee"], ["list", "--json"], ["show", "00ee", "--json"]):
        shown = movierec(own, *arguments).stdout
        assert "not json" in shown
        assert not set(shown) & set("\x1b\x07\u202e\x9b"), arguments
    assert json.loads(movierec(own, "show", "00ee", "--json").stdout)["body"] == body


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (["show", "ffff"], NotFound, "no row"),
        (["show", "%"], NotFound, "no row"),
        (["patch", "0001", "{"], UsageError, "not JSON"),
        (["patch", "0001", "{}"], CheckFailed, "missing_field, user_id is required"),
        (["patch", "0002", "{}"], Conflict, "discarded, not held"),
        (["list", "--reason", "ugly"], UsageError, "reason code"),
        (["list", "--status", "ugly"], UsageError, "no status"),
        (["list", "--since", "ugly"], UsageError, "ISO-8601"),
        (["discard"], UsageError, "say which"),
        (["discard", "0001", "--all"], UsageError, "say which"),
        (["discard", "ffff"], NotFound, "no row"),
    ],
)
def test_a_mistake_is_one_sentence(
    own: Settings, state: State, arguments: list[str], error: type, sentence: str
) -> None:
    state.quarantine.hold([refusal(1), refusal(2)], "drain", NOW)
    state.quarantine.discard(Selection(["0002"]), "", "me", NOW)
    before = (standings(state), state.counters())
    failed = movierec(own, *arguments).exception
    assert type(failed) is error
    assert sentence in str(failed)
    assert "\n" not in str(failed)
    assert (standings(state), state.counters()) == before
