"""What cannot be landed, sent or read costs only itself: nothing else stops, and nothing is deleted."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from typer.testing import CliRunner

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import Queue
from movierec_platform.cli.main import app
from movierec_platform.config import variables_of
from movierec_platform.domain.drains import DrainPolicy
from movierec_platform.domain.envelope import Carried, encode, pack, raw_content, raw_key, raw_object
from movierec_platform.domain.event_checks import EventPolicy
from movierec_platform.domain.quarantine import POISON, Filter, Selection
from movierec_platform.domain.set_aside import SetAside
from movierec_platform.errors import MessageRefused, QueueUnavailable, StateUnavailable, TooLarge
from movierec_platform.services.compact import compact_days, landed_days
from movierec_platform.services.gate import Gate
from movierec_platform.services.ingest_graph import GraphIngest
from movierec_platform.services.land import Lander
from movierec_platform.services.metrics import state_figures
from movierec_platform.services.redrive import Redrive
from movierec_platform.services.repair import repair
from movierec_platform.services.replay import replay
from movierec_platform.services.verify import verify
from movierec_tests.integration.conftest import GOOD, NOW, Platform

DAY = "2026-09-21"
"""Of NOW."""
FOLDER = f"raw/date={DAY}/hour=14/"
STRAY = {
    "raw/stray.txt": b"",
    "raw/date=2026-02-30/x": b"",
    f"{FOLDER}notes.txt": b"notes",
    f"{FOLDER}{NOW}-plain.ndjson.gz": b"plain",
    f"{FOLDER}{NOW}-cut.ndjson.gz": gzip.compress(b"{}" * 99)[:-9],
}


def bare(**fields: Any) -> str:
    return json.dumps({**GOOD, **fields})


def lake_says(platform: Platform) -> list[Any]:
    """The compaction's report of each day, today's included."""
    objects = open_objects(platform.settings)
    return compact_days(Lake(platform.settings), objects, landed_days(objects), EventPolicy(), now_ms=NOW + 10**10)


def landed(platform: Platform) -> list[Any]:
    objects = open_objects(platform.settings)
    return [event for key in objects.keys("raw/") for event in raw_content(objects.get(key)).events]


# Sizes


HEAVY = [{"x": "\uffff" * 9_000 + '"' * 5_500, "n": n} for n in range(4)]


def test_refused_events_that_grow_when_they_are_written_reach_quarantine_whole(platform: Platform) -> None:
    """Each is 65 KB as it is landed, and 85 KB in its refusal."""
    platform.lander.land(HEAVY)
    platform.lander.land([GOOD])
    platform.run_through()
    assert platform.pairs().keys() == {(1, 10)}
    assert sorted((json.loads(row.body) for row in platform.rows()), key=lambda one: one["n"]) == HEAVY
    assert replay(platform.settings, 0) == 2
    platform.run_through()
    assert (len(platform.rows()), verify(platform.settings).equal) == (4, True)
    redriven = Redrive.open(platform.settings, platform.state).redrive(Selection(everything=True), "me")
    assert redriven.done == {"missing_field": 4}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"user_id":9300,"movie_id":10,"rating":4.0,"x":1e999}', "not_json"),
        ('{"user_id":9300,"movie_id":10,"rating":4.0,"timestamp":1e999}', "not_json"),
        ('{"user_id":9300,"movie_id":10,"rating":1e999}', "not_json"),
        ('{"user_id":1e999,"movie_id":10,"rating":4.0}', "not_json"),
        (f'[{{"user_id":9300,"movie_id":10,"rating":4.0,"x":{"[" * 100}{"]" * 100}}}]', POISON),
        (f'{{"user_id":9300,"movie_id":10,"rating":4.0,"x":{"[" * 200}{"]" * 200}}}', POISON),
        (f'{{"user_id":9300,"movie_id":10,"rating":4.0,"x":{"[" * 2000}{"]" * 2000}}}', "not_json"),
        (json.dumps([GOOD, {**GOOD, "x": "\uffff" * 12_000}]), POISON),
        (json.dumps({**GOOD, "user_id": 9300, "x": "a" * 200_000}), POISON),
        ("no json " * 20_000, POISON),
    ],
    ids=["x", "time", "rating", "user", "deep", "deeper", "deepest", "escaped", "long", "text"],
)
def test_what_cannot_be_landed_is_quarantined_whole(platform: Platform, body: str, reason: str) -> None:
    platform.queues.raw.send([bare(user_id=2), body, bare(user_id=3)])
    platform.run_through()
    assert platform.pairs().keys() == {(2, 10), (3, 10)}
    [row] = platform.rows()
    assert (row.reason_code, row.body) == (reason, body)
    assert reason != POISON or row.detail.startswith(
        "a whole message of another producer, of which nothing was landed: event "
    )
    set_aside: list[SetAside] = []
    assert replay(platform.settings, 0, set_aside.append) == len(landed(platform)) == (2 if reason == POISON else 3)
    platform.run_through()
    reports = lake_says(platform)
    assert not set_aside + [one for report in reports for one in report.set_aside]
    assert sum(report.accepted for report in reports) == 2
    assert verify(platform.settings).equal
    assert len(platform.rows()) == 1


def test_what_is_landed_in_several_messages_is_counted_once_after_a_replay(platform: Platform) -> None:
    """At the gate too: SQS takes a little more in a bare message than ours hold."""
    events = [{**GOOD, "event_id": f"{n}", "user_id": n + 1, "x": "y" * 11_700} for n in range(60)]
    objects, sent = open_objects(platform.settings), [encode(event) for event in events[:40]]
    key = raw_key(NOW, "a" * 32)
    objects.put(key, raw_object(sent, NOW, "api"))
    requests = Carried(tuple(f"{n:064d}" for n in range(100)), "0" * 60)
    messages = pack(key, NOW, sent, range(40), requests)
    platform.queues.raw.send([*messages, json.dumps(events[40:], separators=(",", ":"))])
    platform.run_through()
    assert len(messages) > 1
    counted = {name: value for name, value in platform.state.counters().items() if "_events_" in name[0]}
    assert platform.counter("movierec_events_ingested_total") == 60
    replay(platform.settings, 0)
    platform.run_through()
    assert {name: value for name, value in platform.state.counters().items() if "_events_" in name[0]} == counted


# Objects that cannot be read


def test_what_stands_among_raw_objects_and_cannot_be_read_is_passed_over_named_and_counted(platform: Platform) -> None:
    objects = open_objects(platform.settings)
    platform.lander.land([GOOD])
    for key, body in STRAY.items():
        objects.put(key, body)
    set_aside: list[SetAside] = []
    assert replay(platform.settings, 0, set_aside.append) == 1
    assert {one.key for one in set_aside} == STRAY.keys()
    assert state_figures(platform.state).set_aside == 5
    platform.run_through()
    parity = verify(platform.settings)
    assert parity.equal
    named = {one.key: one.reason.split(":")[0] for one in parity.set_aside if one.day}
    strange = "its key is not raw/date=YYYY-MM-DD/hour=HH/MILLISECONDS-TOKEN.ndjson.gz"
    assert named == dict(zip([*STRAY][2:], [strange, "not gzip", "not gzip"], strict=True))
    reports = {report.day: report for report in lake_says(platform)}
    assert {one.key for one in reports[DAY].set_aside} == named.keys()
    [failed] = [one for one in reports[DAY].findings if one.check == "no_objects_set_aside"]
    assert (failed.passed, failed.blocking) == (False, False)
    assert (
        f"{DAY}: 3 raw objects could not be read and were set aside: {FOLDER}{NOW}-cut.ndjson.gz (not gzip"
        in failed.detail
    )
    assert verify(platform.settings).set_aside == parity.set_aside, "a day that was compacted names them too"
    for key in STRAY:
        objects.delete([key])
    verify(platform.settings)
    assert state_figures(platform.state).set_aside == 0


def test_lines_that_an_older_release_landed_and_nobody_reads_cost_only_themselves(platform: Platform) -> None:
    deep = "[" * 201 + "]" * 201
    texts = [bare(event_id="a"), f'{bare(event_id="b")[:-1]},"x":Infinity}}', bare(movie_id=20), f'{{"x":{deep}}}']
    key = raw_key(NOW, "old")
    open_objects(platform.settings).put(key, raw_object([text.encode() for text in texts], NOW, "queue"))
    set_aside: list[SetAside] = []
    assert replay(platform.settings, 0, set_aside.append) == 1
    platform.run_through()
    assert platform.pairs().keys() == {(1, 10), (1, 20)}
    [one] = set_aside
    assert (one.key, one.reason.startswith("2 of its 4 lines, first line 2: not JSON")) == (key, True)
    [report] = lake_says(platform)
    assert (report.landed, report.accepted, report.rejected) == (4, 2, {"unreadable": 2})
    assert list(report.set_aside) == set_aside
    assert all(finding.passed for finding in report.findings if finding.blocking)
    assert verify(platform.settings).equal


def test_repair_takes_nothing_that_an_unreadable_object_may_have_said(platform: Platform) -> None:
    objects = open_objects(platform.settings)
    later_ms = NOW + 3 * 86_400_000
    first, second, gone = raw_key(NOW, "first"), raw_key(NOW + 9, "second"), raw_key(later_ms, "gone")
    changed = {**GOOD, "event_id": "changed", "rating": 1.0, "timestamp": NOW + 1}
    objects.put(raw_key(NOW, "read"), raw_object([encode(GOOD)], NOW, "api"))
    objects.put(first, raw_object([encode({**GOOD, "user_id": 2})], NOW, "api"))
    objects.put(second, raw_object([encode(changed)], NOW, "api"))
    objects.put(gone, raw_object([encode({**GOOD, "user_id": 5, "timestamp": later_ms})], later_ms, "api"))
    replay(platform.settings, 0)
    platform.run_through()
    before = platform.pairs()
    assert verify(platform.settings).equal
    for key in (first, second):
        objects.put(key, b"plain")
    objects.delete([gone])
    parity = verify(platform.settings)
    assert (parity.kinds["extra"], parity.kinds["altered"], len(parity.set_aside)) == (2, 1, 2)
    would = repair(platform.settings, dry_run=True)
    assert (would.kept, would.pairs) == (2, 1)
    done = repair(platform.settings)
    assert (done.kept, done.pairs, [one.key for one in done.set_aside]) == (2, 1, [first, second])
    assert platform.pairs() == {pair: state for pair, state in before.items() if pair != (5, 10)}
    ran = CliRunner().invoke(app, ["repair"], env=variables_of(platform.settings))
    assert (ran.exit_code, "2 pairs are kept" in ran.stdout) == (1, True)
    objects.delete([first, second])
    assert repair(platform.settings).pairs == 2


def test_the_commands_say_which_days_have_unreadable_objects(platform: Platform) -> None:
    key = f"{FOLDER}{NOW}-plain.ndjson.gz"
    open_objects(platform.settings).put(key, b"plain")
    environment = variables_of(platform.settings)
    told = f"{DAY}: 1 raw objects could not be read and were set aside: {key} (not gzip: Not a gzipped file (b'pl'))"
    for command in (["verify"], ["replay", "--since", "2020-01-01"], ["repair"]):
        ran = CliRunner().invoke(app, command, env=environment, catch_exceptions=False)
        assert (ran.exit_code, told in ran.stdout) == (0, True), ran.output
    answer = json.loads(CliRunner().invoke(app, ["verify", "--json"], env=environment).stdout)
    assert [one["key"] for one in answer["set_aside"]] == [key]


# Messages that SQS does not take


class Fussy(Queue):
    """A queue that never takes what has this text, as SQS does not what is too long."""

    def __init__(self, queue: Queue, text: str) -> None:
        super().__init__(queue._client, queue.url)
        self.text = text

    def send(self, bodies, ends_s=inf):
        refused = [body for body in bodies if self.text in body]
        super().send([body for body in bodies if self.text not in body], ends_s)
        if refused:
            raise MessageRefused("too long", refused)


def test_a_replayed_message_that_sqs_does_not_take_costs_only_itself(platform: Platform) -> None:
    """An older release landed what does not fit into any message."""
    long = raw_key(NOW, "long")
    events = [encode({**GOOD, "user_id": 7}), encode({**GOOD, "x": "y" * 300_000}), encode({**GOOD, "user_id": 8})]
    open_objects(platform.settings).put(long, raw_object(events, NOW, "queue"))
    platform.lander.land([{**GOOD, "user_id": 9}])
    set_aside: list[SetAside] = []
    assert replay(platform.settings, 0, set_aside.append) == 2
    platform.run_through()
    assert {user for user, _ in platform.pairs()} == {7, 8, 9}
    [one] = set_aside
    assert one.key == long
    assert one.reason.startswith("part of it: SQS queue")


def test_a_verdict_that_sqs_does_not_take_costs_only_its_message(platform: Platform) -> None:
    platform.queues.raw.send([bare(user_id=2), bare(user_id=3, event_id="BAD"), bare(user_id=4)])
    queues = replace(platform.queues, clean=Fussy(platform.queues.clean, "BAD"))
    gate = Gate(queues, open_objects(platform.settings), platform.state)
    policy = DrainPolicy(linger_s=1.5, max_runtime_s=60, overlap_s=5, grace_s=5)
    report = platform.drain("raw", policy, gate.pass_on)
    assert (report.messages, platform.queues.raw.depth().total) == (2, 1)
    platform.run_through()
    assert {user for user, _ in platform.pairs()} == {2, 4}


def test_an_unsendable_batch_is_held_again_and_blocks_no_other_redrive(platform: Platform) -> None:
    platform.queues.dlq.send(["whole and good", "whole and BAD"])
    platform.lander.land([{**GOOD, "movie_id": 999, "event_id": "BAD"}, {**GOOD, "movie_id": 998}])
    platform.run_through()
    assert platform.state.quarantine.by_reason() == {"poison": 2, "unknown_movie": 2}
    redrive = Redrive(platform.state, open_objects(platform.settings), Fussy(platform.queues.raw, "BAD"))
    first = redrive.redrive(Selection(where=Filter(POISON)), "me")
    assert first.done == {"poison": 1}
    second = redrive.redrive(Selection(where=Filter("unknown_movie")), "me")
    assert (second.done, second.finished) == ({}, {}), "both events were in one message"
    held = {row.body: row.status for row in platform.rows()}
    assert held["whole and BAD"] == "held"
    assert sorted(row.status for row in platform.rows()) == ["held", "held", "held", "redriven"]
    [row] = [row for row in platform.rows() if row.body == "whole and BAD"]
    assert platform.state.quarantine.history(row.id)[-1].detail == "it cannot be sent: too long"
    assert platform.state.quarantine.redrives.unfinished() is None


def test_an_unreadable_object_of_a_killed_redrive_blocks_no_other(platform: Platform) -> None:
    platform.lander.land([{**GOOD, "movie_id": 999}])
    platform.run_through()
    redrives = platform.state.quarantine.redrives
    key = raw_key(NOW, "redrive-killed")
    redrives.claim(Selection(everything=True), "", key, "me", NOW)
    open_objects(platform.settings).put(key, b"plain")
    outcome = Redrive.open(platform.settings, platform.state).redrive(Selection(everything=True), "me")
    assert (outcome.finished, outcome.done) == ({}, {"unknown_movie": 1})


def test_a_landing_that_the_queue_does_not_take_fails_for_its_request_only(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are landed together, and the messages of one have nothing of the other."""
    lander = Lander(platform.settings.model_copy(update={"landing_gather_ms": 10_000}))
    monkeypatch.setattr(lander, "_wanted", 2)
    monkeypatch.setattr(lander, "_raw", Fussy(platform.queues.raw, "BAD"))
    heavy = {**GOOD, "x": "y" * 60_000}
    with ThreadPoolExecutor(2) as threads:
        good = threads.submit(lander.land, [heavy] * 3)
        bad = threads.submit(lander.land, [{**heavy, "event_id": "BAD"}] * 3)
        with pytest.raises(TooLarge, match="the queue takes no message with these events"):
            bad.result(120)
    assert good.result().batch_id
    assert len(list(open_objects(platform.settings).keys("raw/"))) == 1
    lander.close()


# Each step is tried again by itself


class Once:
    """The queue, and how many messages were sent to it."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.sent: list[str] = []
        self.down = 0

    def send(self, bodies):
        if self.down:
            self.down -= 1
            raise QueueUnavailable("down")
        self.sent += bodies
        self.queue.send(bodies)


def test_while_the_state_database_is_down_the_gate_sends_its_messages_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.lander.land([GOOD, {**GOOD, "rating": 9}])
    messages = platform.queues.raw.receive(wait_s=1)
    clean, dlq = Once(platform.queues.clean), Once(platform.queues.dlq)
    queues = replace(platform.queues, clean=clean, dlq=dlq)
    gate = Gate(queues, open_objects(platform.settings), platform.state)
    dlq.down = 2
    for _ in range(2):
        with pytest.raises(QueueUnavailable):
            gate.pass_on(messages)
    with monkeypatch.context() as down:
        down.setattr("movierec_platform.adapters.state.State.add_once", _down)
        for _ in range(3):
            with pytest.raises(StateUnavailable):
                gate.pass_on(messages)
    assert gate.pass_on(messages) == 2
    assert (len(clean.sent), len(dlq.sent)) == (1, 1)
    assert platform.counter("movierec_events_accepted_total") == 1
    gate.pass_on(messages)
    assert (len(clean.sent), len(dlq.sent)) == (2, 2), "what comes again after all is another work"


def test_while_the_state_database_is_down_the_ingest_writes_and_refuses_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.lander.land([{**GOOD, "event_id": f"{n}", "movie_id": 10 if n % 2 else 999} for n in range(6)])
    platform.work("raw")(platform.queues.raw.receive(wait_s=1))
    messages = platform.queues.clean.receive(wait_s=1)
    dlq = Once(platform.queues.dlq)
    ingest = GraphIngest(replace(platform.queues, dlq=dlq), platform.graph, platform.state, batch_events=3)
    applied = []
    apply_pairs = platform.graph.apply_pairs
    monkeypatch.setattr(
        "movierec_platform.adapters.graph.Graph.apply_pairs",
        lambda self, pairs: applied.append(1) or apply_pairs(pairs),
    )
    with monkeypatch.context() as down:
        down.setattr("movierec_platform.adapters.state.State.add_once", _down)
        for _ in range(3):
            with pytest.raises(StateUnavailable):
                ingest.write(messages)
    ingest.write(messages)
    assert (len(applied), len(dlq.sent)) == (2, 2)
    assert platform.counter("movierec_events_ingested_total") == 3


def _down(self, tallies):
    raise StateUnavailable("down")
