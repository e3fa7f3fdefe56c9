"""From POST to graph, quarantine and parity, step by step over real queues, objects and graph."""

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.leases import FileLease
from movierec_platform.adapters.objects import open_objects
from movierec_platform.adapters.queues import Message
from movierec_platform.domain.drains import DrainPolicy
from movierec_platform.domain.envelope import raw_events
from movierec_platform.domain.event_checks import EventPolicy
from movierec_platform.domain.events import RANK_AHEAD_MS
from movierec_platform.domain.freshness import bucket_counts
from movierec_platform.domain.gate import AHEAD_MS, REASON_CODES
from movierec_platform.domain.interactions import pair_states
from movierec_platform.domain.registers import PairState
from movierec_platform.errors import GraphUnavailable, LandingBusy, ObjectStoreUnavailable, TooLarge, UsageError
from movierec_platform.services.compact import compact_days, landed_days
from movierec_platform.services.fold import fold_tables
from movierec_platform.services.land import Lander
from movierec_platform.services.replay import DRAINED_MARK, note_drained, replay, replay_after_unclean_stop
from movierec_platform.services.verify import verify
from movierec_tests.integration.conftest import GOOD, NOW, Platform

pytestmark = pytest.mark.both_graphs

MIXED: list[Any] = [
    GOOD,
    {**GOOD, "event_id": "v", "event_type": "view", "rating": None, "movie_id": 20, "colour": "red"},
    {**GOOD, "event_id": "x", "rating": 9},
    {**GOOD, "event_id": "y", "user_id": "1"},
    {**GOOD, "event_id": "u", "movie_id": 999},
    17,
    {**GOOD, "event_id": "r", "event_type": "retract", "rating": None, "movie_id": 30},
    GOOD,
]


def test_every_event_ends_in_the_graph_or_in_quarantine_and_the_counts_add_up(platform: Platform) -> None:
    receipt = platform.lander.land(MIXED)
    assert receipt.event_ids == ["g", "v", "x", "y", "u", None, "r", "g"]
    platform.run_through()
    assert platform.pairs() == {
        (1, 10): PairState(4.0, NOW, "g", NOW, None),
        (1, 20): PairState(seen_at_ms=NOW),
        (1, 30): PairState(retracted_at_ms=NOW),
    }
    assert platform.state.quarantine.by_reason() == {
        "not_an_object": 1,
        "rating_out_of_range": 1,
        "unknown_movie": 1,
        "wrong_type": 1,
    }
    landed, accepted, rejected, ingested, held = (
        platform.counter(f"movierec_events_{name}_total")
        for name in ("landed", "accepted", "rejected", "ingested", "quarantined")
    )
    assert (landed, accepted, ingested, held) == (8, 5, 4, 4)
    assert rejected == held
    assert platform.counter("movierec_fields_ignored_total") == 1
    assert sum(count for _, count in bucket_counts(platform.state.counters())) == ingested
    assert verify(platform.settings).equal


def test_a_quarantined_event_is_kept_as_posted_with_the_line_it_was_landed_on(platform: Platform) -> None:
    platform.lander.land(MIXED)
    platform.run_through()
    for row in platform.rows():
        landed = [event for event, _ in raw_events(open_objects(platform.settings).get(row.raw_key))]
        if row.reason_code != "unknown_movie":
            assert json.loads(row.body) == landed[row.line]
        assert (
            row.line
            == {"rating_out_of_range": 2, "wrong_type": 3, "unknown_movie": 4, "not_an_object": 5}[row.reason_code]
        )


def test_what_sns_and_eventbridge_carry_is_landed_without_their_envelopes(platform: Platform) -> None:
    def sns(message: str) -> dict[str, Any]:
        fields = {
            "MessageId": "m",
            "TopicArn": "arn:aws:sns:eu-west-1:1:rated",
            "Timestamp": "2026-05-01T12:00:00.000Z",
        }
        return {"Type": "Notification", **fields, "Message": message, "MessageAttributes": {}}

    def bus(detail: Any) -> dict[str, Any]:
        fields = {"version": "0", "id": "i", "account": "1", "time": "2026-05-01T12:00:00Z", "region": "eu-west-1"}
        return {**fields, "detail-type": "Rated", "source": "shop.app", "resources": [], "detail": detail}

    rated = [{**GOOD, "event_id": f"e{user}", "user_id": user} for user in range(1, 5)]
    refused = sns("no JSON")
    opened = [sns(json.dumps(rated[0])), bus(rated[1]), sns(json.dumps(bus(rated[2]))), sns(json.dumps(rated[3:]))]
    platform.queues.raw.send([json.dumps(one) for one in [*opened, refused]])
    platform.run_through()
    pairs = platform.pairs()
    assert {user for user, _ in pairs} == {1, 2, 3, 4}
    [row] = platform.rows()
    assert json.loads(row.body) == refused
    assert "this is an SNS notification" in row.detail
    objects = open_objects(platform.settings)
    landed = [event for key in objects.keys("raw/") for event, _ in raw_events(objects.get(key))]
    assert sorted(map(json.dumps, landed)) == sorted(map(json.dumps, [*rated, refused]))
    replay(platform.settings, since_ms=0)
    platform.run_through()
    assert platform.pairs() == pairs


def test_replaying_everything_changes_nothing(platform: Platform) -> None:
    platform.lander.land(MIXED)
    platform.run_through()
    pairs, rows = platform.pairs(), platform.rows()
    for _ in range(2):
        assert replay(platform.settings, since_ms=0) == 1
        platform.run_through()
    assert platform.pairs() == pairs
    assert platform.rows() == rows


def test_a_time_ahead_outranks_what_its_user_does_for_five_minutes_and_for_ever_the_same(platform: Platform) -> None:
    clock = iter([NOW, NOW + RANK_AHEAD_MS, NOW + RANK_AHEAD_MS + 1])
    lander = Lander(platform.settings, clock_ms=lambda: next(clock))
    ahead = {**GOOD, "event_id": "ahead", "rating": 0.5, "timestamp": NOW + AHEAD_MS}
    early = {**GOOD, "event_id": "early", "rating": 4.0, "movie_id": 20}
    own = [{**GOOD, "event_id": "own", "rating": 5.0, "timestamp": None, "movie_id": movie} for movie in (10, 30)]
    lander.land([ahead, {**ahead, "movie_id": 20}, {**ahead, "event_type": "retract", "rating": None, "movie_id": 30}])
    lander.land([early])
    lander.land(own)
    lander.close()
    platform.run_through()
    latest = NOW + RANK_AHEAD_MS
    pairs = {
        (1, 10): PairState(5.0, latest + 1, "own", latest + 1, None),
        (1, 20): PairState(0.5, latest, "ahead", latest, None),
        (1, 30): PairState(5.0, latest + 1, "own", latest + 1, latest),
    }
    assert platform.pairs() == pairs
    assert verify(platform.settings).equal, "the lake, of raw objects"
    assert replay(platform.settings, since_ms=0) == 3
    platform.run_through()
    assert platform.pairs() == pairs
    lake, objects = Lake(platform.settings), open_objects(platform.settings)
    compact_days(lake, objects, landed_days(objects), EventPolicy(), NOW)
    assert verify(platform.settings).equal, "the lake, of compacted days"
    assert dict(pair for table in fold_tables(lake) for pair in pair_states(table)) == pairs


def test_what_comes_twice_at_once_is_counted_once(platform: Platform) -> None:
    platform.lander.land(MIXED)
    for name in ("raw", "clean"):
        queue = platform.queues.named(name)
        messages = queue.receive(wait_s=1)
        platform.work(name)([*messages, *messages])
        queue.delete(messages)
    platform.run_through()
    accepted, ingested = (platform.counter(f"movierec_events_{name}_total") for name in ("accepted", "ingested"))
    assert (accepted, ingested) == (5, 4)


def test_after_an_unclean_stop_what_was_landed_since_the_queues_were_empty_comes_back(platform: Platform) -> None:
    platform.lander.land([GOOD])
    platform.run_through()
    [old_key] = open_objects(platform.settings).keys("raw/")
    long_after = int(old_key.rpartition("/")[2].partition("-")[0]) + 1_000_000
    assert note_drained(platform.settings, platform.state, platform.queues, long_after)
    assert replay_after_unclean_stop(platform.settings) == 0

    platform.state.mark(DRAINED_MARK, 0)
    platform.lander.land([{**GOOD, "event_id": "h", "movie_id": 20}])
    assert not note_drained(platform.settings, platform.state, platform.queues, long_after), "a message waits"
    assert platform.state.marked(DRAINED_MARK) == 0
    assert replay_after_unclean_stop(platform.settings) == 2


def test_a_replay_starts_at_its_time(platform: Platform) -> None:
    received = [platform.lander.land([{**GOOD, "event_id": str(n)}]).received_at_ms for n in range(2)]
    assert replay(platform.settings, since_ms=received[1] + 1) == 0
    assert replay(platform.settings, since_ms=received[1]) >= 1
    assert replay(platform.settings, since_ms=0) == 2


def test_bare_events_of_other_producers_are_landed_before_they_are_judged(platform: Platform) -> None:
    platform.queues.raw.send([json.dumps(GOOD), json.dumps([{**GOOD, "movie_id": 20}, 5]), "no json at all"])
    platform.run_through()
    assert platform.pairs().keys() == {(1, 10), (1, 20)}
    assert platform.state.quarantine.by_reason() == {"not_an_object": 1, "not_json": 1}
    [not_json] = platform.rows("not_json")
    assert not_json.body == "no json at all"
    assert len(list(open_objects(platform.settings).keys("raw/"))) == 3
    assert verify(platform.settings).equal


def test_a_bare_message_that_comes_again_lands_no_second_object(platform: Platform) -> None:
    without_id = {name: value for name, value in GOOD.items() if name not in ("event_id", "timestamp")}
    platform.queues.raw.send([json.dumps(without_id)])
    [message] = platform.queues.raw.receive(wait_s=1)
    for _ in range(2):
        platform.work("raw")([message])
    platform.queues.raw.delete([message])
    platform.run_through()
    assert len(list(open_objects(platform.settings).keys("raw/"))) == 1
    assert len(platform.pairs()) == 1
    assert verify(platform.settings).equal


def test_a_clean_message_that_the_gate_did_not_send_is_poison_and_costs_only_itself(platform: Platform) -> None:
    platform.queues.clean.send(["not an envelope"])
    platform.lander.land([GOOD])
    platform.run_through()
    assert platform.state.quarantine.by_reason() == {"poison": 1}
    assert platform.pairs().keys() == {(1, 10)}


def test_requests_that_arrive_together_are_landed_together(platform: Platform) -> None:
    def post(number: int) -> str:
        return platform.lander.land([{**GOOD, "event_id": f"e{number}"}]).batch_id

    with ThreadPoolExecutor(16) as pool:
        batches = list(pool.map(post, range(64)))
    objects = list(open_objects(platform.settings).keys("raw/"))
    assert len(objects) == len(set(batches)) < 64
    landed = [event["event_id"] for key in objects for event, _ in raw_events(open_objects(platform.settings).get(key))]
    assert sorted(landed) == sorted(f"e{number}" for number in range(64))


def test_what_the_lander_cannot_take_is_refused_whole(platform: Platform) -> None:
    with pytest.raises(TooLarge, match="event 1"):
        platform.lander.land([GOOD, {**GOOD, "event_id": "x" * 70_000}])
    few = Lander(platform.settings.model_copy(update={"landing_pending_events": 1}))
    with pytest.raises(LandingBusy):
        few.land([GOOD, GOOD])
    few.close()
    with pytest.raises(LandingBusy, match="stopping"):
        few.land([GOOD])
    assert not list(open_objects(platform.settings).keys("raw/"))


def test_when_the_object_cannot_be_written_nothing_is_promised(platform: Platform) -> None:
    lander = Lander(platform.settings.model_copy(update={"bucket": "no-such-bucket-here"}))
    with pytest.raises(ObjectStoreUnavailable):
        lander.land([GOOD])
    lander.close()


POLICY = DrainPolicy(linger_s=1.5, max_runtime_s=60, overlap_s=5, grace_s=5)


def test_a_drain_works_until_it_idles_and_deletes_what_is_done(platform: Platform) -> None:
    platform.queues.raw.send([json.dumps({**GOOD, "event_id": str(number)}) for number in range(25)])
    report = platform.drain("raw", POLICY)
    assert (report.events, report.messages, report.left_because) == (25, 25, "idle")
    assert platform.queues.raw.depth().total == 0
    assert FileLease(platform.settings.home / "leases", "raw", 0).view().released_by == "run"


def test_a_resident_drain_stays_without_work_until_another_waits_for_its_place(platform: Platform) -> None:
    resident = DrainPolicy(linger_s=math.inf, max_runtime_s=600, overlap_s=5, grace_s=5)
    lease, raw = FileLease(platform.settings.home / "leases", "raw", 0), platform.queues.raw
    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(platform.drain, "raw", resident)
        while lease.view().holder is None:
            assert not draining.done()
        raw.send([json.dumps(GOOD)])
        while raw.depth().total:
            assert not draining.done()
        with lease.held("rebuild", 60):
            report = draining.result()
    assert (report.events, report.left_because) == (1, "idle")


def test_a_drain_hands_over_at_its_end_however_much_there_is(platform: Platform) -> None:
    platform.queues.raw.send([json.dumps(GOOD)])

    def never_done(messages: Sequence[Message]) -> int:
        platform.queues.raw.send([message.body for message in messages])
        return len(messages)

    short = DrainPolicy(linger_s=60, max_runtime_s=1, overlap_s=5, grace_s=5)
    report = platform.drain("raw", short, never_done)
    assert report.left_because == "max_runtime"


def test_while_a_dependency_is_down_a_drain_tries_again_without_receiving_again(platform: Platform) -> None:
    platform.queues.raw.send([json.dumps(GOOD)])
    calls: list[int] = []

    def twice_down(messages: Sequence[Message]) -> int:
        calls.append(messages[0].receive_count)
        if len(calls) < 3:
            raise GraphUnavailable("down")
        return len(messages)

    report = platform.drain("raw", POLICY, twice_down)
    assert calls == [1, 1, 1]
    assert report.messages == 1


def test_a_message_that_meets_a_defect_stays_in_the_queue_and_costs_only_itself(platform: Platform) -> None:
    platform.queues.raw.send([json.dumps({**GOOD, "event_id": str(number)}) for number in range(5)])
    done: list[str] = []

    def broken_for_3(messages: Sequence[Message]) -> int:
        ids = [json.loads(message.body)["event_id"] for message in messages]
        if "3" in ids:
            raise ZeroDivisionError
        done.extend(ids)
        return len(ids)

    report = platform.drain("raw", POLICY, broken_for_3)
    assert (report.events, report.messages, sorted(done)) == (4, 4, ["0", "1", "2", "4"])
    assert platform.queues.raw.depth().in_flight == 1, "it is hidden until its next attempt"


def test_a_wrong_setting_ends_the_drain_and_leaves_its_messages(platform: Platform) -> None:
    platform.queues.raw.send([json.dumps(GOOD)])

    def misconfigured(messages: Sequence[Message]) -> int:
        raise UsageError("the graph refuses the password")

    with pytest.raises(UsageError):
        platform.drain("raw", POLICY, misconfigured)
    assert platform.queues.raw.depth().visible == 1, "given back"
    assert FileLease(platform.settings.home / "leases", "raw", 0).view().holder is None


def test_the_reason_codes_that_can_come_out_are_those_of_the_contract(platform: Platform) -> None:
    platform.lander.land(MIXED)
    platform.run_through()
    assert platform.state.quarantine.by_reason().keys() <= REASON_CODES
