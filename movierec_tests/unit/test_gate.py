"""The gate's verdicts, one row a rule; and it has a verdict for whatever JSON there is."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.events import EARLIEST_MS, RANK_AHEAD_MS, Event
from movierec_platform.domain.gate import AHEAD_MS, REASON_CODES, Rejected, judge, judge_all, parse_json
from movierec_platform.domain.registers import fold

NOW = 1_790_000_000_000
GOOD: dict[str, Any] = {"event_id": "e1", "user_id": 7, "movie_id": 31, "rating": 4.5, "timestamp": 1_714_564_800}
ABSENT = object()


def changed(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in {**GOOD, **fields}.items() if value is not ABSENT}


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"user_id": ABSENT}, "missing_field", "user_id"),
        ({"movie_id": ABSENT}, "missing_field", "movie_id"),
        ({"rating": ABSENT}, "missing_field", "rating"),
        ({"rating": None}, "missing_field", "rating"),
        ({"user_id": "7"}, "wrong_type", "user_id"),
        ({"user_id": True}, "wrong_type", "user_id"),
        ({"user_id": 7.0}, "wrong_type", "user_id"),
        ({"user_id": 0}, "wrong_type", "user_id"),
        ({"movie_id": -1}, "wrong_type", "movie_id"),
        ({"movie_id": 2**63}, "wrong_type", "movie_id"),
        ({"rating": "4"}, "wrong_type", "rating"),
        ({"rating": True}, "wrong_type", "rating"),
        ({"rating": [4]}, "wrong_type", "rating"),
        ({"rating": 0.0}, "rating_out_of_range", "rating"),
        ({"rating": 5.5}, "rating_out_of_range", "rating"),
        ({"rating": float("inf")}, "rating_out_of_range", "rating"),
        ({"rating": 3.7}, "rating_not_half_step", "rating"),
        ({"event_type": "view"}, "rating_forbidden", "rating"),
        ({"event_type": "retract"}, "rating_forbidden", "rating"),
        ({"event_type": "like"}, "unknown_event_type", "event_type"),
        ({"event_type": 1}, "wrong_type", "event_type"),
        ({"event_id": "x" * 129}, "id_too_long", "event_id"),
        ({"event_id": ""}, "wrong_type", "event_id"),
        ({"event_id": 5}, "wrong_type", "event_id"),
        ({"session_id": "x" * 129}, "id_too_long", "session_id"),
        ({"timestamp": EARLIEST_MS - 1}, "timestamp_out_of_range", "timestamp"),
        ({"timestamp": NOW + AHEAD_MS + 1}, "timestamp_out_of_range", "timestamp"),
        ({"timestamp": -1}, "timestamp_out_of_range", "timestamp"),
        ({"timestamp": "2024-05-01T12:00:00"}, "wrong_type", "timestamp"),
        ({"timestamp": "1714564800000000"}, "wrong_type", "timestamp"),
        ({"timestamp": "20240501T120000"}, "wrong_type", "timestamp"),
        ({"timestamp": "2024-05-01"}, "wrong_type", "timestamp"),
        ({"timestamp": "20240501"}, "wrong_type", "timestamp"),
        ({"timestamp": "2024-W54-1T12:00Z"}, "wrong_type", "timestamp"),
        ({"timestamp": "9999-12-31T24:00:00Z"}, "wrong_type", "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+23:59"}, "timestamp_out_of_range", "timestamp"),
        ({"timestamp": "yesterday"}, "wrong_type", "timestamp"),
        ({"timestamp": {}}, "wrong_type", "timestamp"),
        ({"timestamp": False}, "wrong_type", "timestamp"),
    ],
)
def test_a_defect_is_rejected_with_its_reason_and_field(fields: dict[str, Any], reason: str, field: str) -> None:
    verdict = judge(changed(**fields), NOW)
    assert isinstance(verdict, Rejected)
    assert (verdict.reason_code, verdict.field) == (reason, field)
    assert field in verdict.detail or "time" in verdict.detail or "rating" in verdict.detail


@pytest.mark.parametrize(
    ("envelope", "said"),
    [
        ({"Records": [{"eventSource": "aws:s3", "s3": {}}]}, "an S3 event notification"),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent"}, "an S3 event notification"),
        ({"specversion": "1.0", "type": "rated", "source": "/app", "id": "1", "data": GOOD}, "a CloudEvents envelope"),
        ({"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": "hello"}, "an SNS notification"),
        ({"version": "0", "detail-type": "Object Created", "source": "aws.s3", "detail": {}}, "an EventBridge event"),
    ],
)
def test_an_envelope_around_an_event_is_named(envelope: dict[str, Any], said: str) -> None:
    [verdict] = judge_all([envelope], NOW)
    assert isinstance(verdict, Rejected)
    assert (verdict.reason_code, verdict.field) == ("missing_field", "user_id")
    assert verdict.detail.startswith(f"user_id is required; this is {said}")


@pytest.mark.parametrize("raw", [None, 3, 2.5, True, "text", [], [GOOD]])
def test_only_an_object_is_an_event(raw: Any) -> None:
    assert judge(raw, NOW) == Rejected("not_an_object", None, judge(raw, NOW).detail)


@pytest.mark.parametrize(
    ("timestamp", "at_ms"),
    [
        (1_714_564_800, 1_714_564_800_000),
        (1_714_564_800.25, 1_714_564_800_250),
        (1_714_564_800_123, 1_714_564_800_123),
        ("2024-05-01T12:00:00Z", 1_714_564_800_000),
        ("2024-05-01T14:00:00.5+02:00", 1_714_564_800_500),
        ("2024-05-01 14:00:00+02", 1_714_564_800_000),
        ("2024-05-01T13:00:00+01", 1_714_564_800_000),
        ("2024-05-01T12Z", 1_714_564_800_000),
        ("20240501T120000Z", 1_714_564_800_000),
        ("20240501T140000.5+02", 1_714_564_800_500),
        ("2024-W18-3T12:00:00,5Z", 1_714_564_800_500),
        ("2024-122T12:00Z", 1_714_564_800_000),
        (ABSENT, NOW),
        (None, NOW),
        (NOW + RANK_AHEAD_MS, NOW + RANK_AHEAD_MS),
        (NOW + RANK_AHEAD_MS + 1, NOW + RANK_AHEAD_MS),
        (NOW + AHEAD_MS, NOW + RANK_AHEAD_MS),
        (EARLIEST_MS, EARLIEST_MS),
    ],
)
def test_times_are_seconds_milliseconds_or_iso_with_a_zone(timestamp: Any, at_ms: int) -> None:
    verdict = judge(changed(timestamp=timestamp), NOW)
    assert isinstance(verdict, Event)
    assert verdict.timestamp_ms == at_ms


def test_item_id_is_an_alias_and_unknown_fields_are_ignored() -> None:
    for movie_id in (ABSENT, None):
        raw = changed(movie_id=movie_id, item_id=31, colour="red")
        assert judge(raw, NOW) == judge(GOOD, NOW)
    refused = judge(changed(movie_id=None), NOW)
    assert isinstance(refused, Rejected)
    assert (refused.reason_code, refused.field) == ("wrong_type", "movie_id")


def test_an_event_without_an_id_gets_the_same_one_again_and_another_with_other_fields() -> None:
    first, again = (judge(changed(event_id=ABSENT), NOW + late) for late in (0, 5000))
    other = judge(changed(event_id=ABSENT, rating=4.0), NOW)
    assert isinstance(first, Event)
    assert isinstance(other, Event)
    assert first == again
    assert first.event_id != other.event_id


def test_a_retry_of_an_event_ahead_gets_the_same_id_and_ranks_by_its_own_receipt() -> None:
    first, retry = (judge(changed(event_id=ABSENT, timestamp=NOW + AHEAD_MS), NOW + late) for late in (0, 5000))
    assert isinstance(first, Event)
    assert retry == replace(first, timestamp_ms=first.timestamp_ms + 5000)


@pytest.mark.parametrize("ahead", [changed(rating=0.5), changed(event_type="retract", rating=ABSENT)])
@given(claimed_ms=st.integers(0, AHEAD_MS), later_ms=st.integers(RANK_AHEAD_MS + 1, AHEAD_MS))
def test_what_a_user_does_five_minutes_later_outranks_any_claim(
    ahead: dict[str, Any], claimed_ms: int, later_ms: int
) -> None:
    blocker = judge({**ahead, "timestamp": NOW + claimed_ms}, NOW)
    correction = judge(changed(event_id="own", rating=5.0, timestamp=ABSENT), NOW + later_ms)
    assert isinstance(blocker, Event)
    assert isinstance(correction, Event)
    [state] = fold([correction, blocker]).values()
    assert (state.visible, state.rating, state.event_id) == (True, 5.0, "own")


@pytest.mark.parametrize(
    ("fields", "event_id"),
    [
        ({"user_id": 1, "movie_id": 2, "rating": 4}, "f9deed68b17fd692830953990b3abe9c"),
        (
            {"user_id": 1, "movie_id": 2, "rating": 3.5, "timestamp": 1_714_564_800, "session_id": "é"},
            "76a4486f255594cc5d8440ceabfc86b3",
        ),
        ({"user_id": 1, "movie_id": 2, "event_type": "view"}, "b4236676516e1544c23dc289f8492104"),
    ],
)
def test_an_id_that_was_derived_once_stays_what_it_was(fields: dict[str, Any], event_id: str) -> None:
    verdict = judge(fields, NOW)
    assert isinstance(verdict, Event)
    assert verdict.event_id == event_id


@pytest.mark.parametrize("body", ["", "{", '{"a": NaN}', "[Infinity]", '{"a" 1}', "nul", b"\xff\xfe"])
def test_what_is_not_json_is_rejected_as_such(body: str | bytes) -> None:
    verdict = parse_json(body)
    assert isinstance(verdict, Rejected)
    assert verdict.reason_code == "not_json"


def test_a_byte_order_mark_is_passed_over() -> None:
    for body in ("\ufeff[1]", b"\xef\xbb\xbf[1]"):
        assert parse_json(body) == [1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
anything = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("event_id", "event_type", "user_id", "movie_id", "rating", "timestamp"), json_values),
    ),
    st.dictionaries(st.sampled_from(sorted(GOOD)), json_values).map(lambda broken: {**GOOD, **broken}),
)


@given(st.from_regex(r"[0-9]{4}[-0-9W]{3,8}[T _t]?[0-9:.,]{0,15}(Z|[-+][0-9:]{1,6})?", fullmatch=True))
def test_any_text_is_a_time_or_none(text: str) -> None:
    verdict = judge(changed(timestamp=text), NOW)
    assert isinstance(verdict, Event) or verdict.reason_code in ("wrong_type", "timestamp_out_of_range")


@given(anything)
def test_every_json_value_has_a_verdict_and_an_accepted_event_is_accepted_again(raw: Any) -> None:
    verdict = judge(raw, NOW)
    if isinstance(verdict, Rejected):
        assert verdict.reason_code in REASON_CODES
        assert verdict.detail
    else:
        assert judge(parse_json(verdict.to_json()), NOW) == verdict
