"""A packed message judged at once gets the verdicts of its events judged one by one, whatever is wrong with them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movierec_platform.domain.envelope import pack, unpack
from movierec_platform.domain.events import EARLIEST_MS, INT64_MAX, RANK_AHEAD_MS, Event
from movierec_platform.domain.gate import AHEAD_MS, Rejected, judge, judge_all, parse_json

NOW = 1_790_000_000_000
GOOD: dict[str, str] = {
    "event_id": '"e1"',
    "event_type": '"rating"',
    "user_id": "7",
    "movie_id": "31",
    "rating": "4.5",
    "timestamp": "1714564800123",
    "session_id": '"s"',
    "recommendation_id": "null",
}
"""The JSON text of each field of an event that has them all."""
IDS = ("user_id", "movie_id")
TEXTS = ("event_id", "session_id", "recommendation_id")
ABSENT = ""


def text_of(**fields: str) -> str:
    """The JSON text of a good event with these fields changed, or absent."""
    fields_text = ",".join(f'"{name}":{value}' for name, value in {**GOOD, **fields}.items() if value)
    return f"{{{fields_text}}}"


def changed(name: str, *texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts).map(lambda text: text_of(**{name: text}))


def changed_any(names: tuple[str, ...], *texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(names).flatmap(lambda name: changed(name, *texts))


def as_json(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return values.map(json.dumps)


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
long_texts = st.integers(129, 300).map(lambda length: "é" * length)

KINDS: dict[str, tuple[st.SearchStrategy[str], set[str]]] = {
    "good": (
        st.builds(
            lambda user, movie, half_steps, at_ms, name: text_of(
                user_id=str(user),
                movie_id=str(movie),
                rating=str(half_steps / 2),
                timestamp=str(at_ms),
                event_id=json.dumps(name),
            ),
            st.integers(1, INT64_MAX),
            st.integers(1, INT64_MAX),
            st.integers(1, 10),
            st.integers(EARLIEST_MS, NOW + AHEAD_MS),
            st.text(min_size=1, max_size=128),
        ),
        {"accepted"},
    ),
    "ahead": (
        st.builds(
            lambda ahead_ms, name: text_of(timestamp=str(NOW + ahead_ms), event_id=name),
            st.integers(RANK_AHEAD_MS - 1, RANK_AHEAD_MS + 1) | st.integers(RANK_AHEAD_MS, AHEAD_MS),
            st.sampled_from(['"e1"', ABSENT]),
        ),
        {"accepted"},
    ),
    "view or retract": (
        st.sampled_from(["view", "retract"]).map(lambda name: text_of(event_type=f'"{name}"', rating=ABSENT)),
        {"accepted"},
    ),
    "no id, no type, no time, no texts": (
        changed_any(("event_id", "event_type", "timestamp", "session_id", "recommendation_id"), ABSENT),
        {"accepted"},
    ),
    "whole rating": (changed("rating", "4", "5", "1", "4.0", "4e0", "40e-1", "0.5E1"), {"accepted"}),
    "other times": (
        changed(
            "timestamp",
            "1714564800",
            "1714564800.25",
            '"2024-05-01T12:00:00Z"',
            '"2024-05-01T14:00:00.5+02:00"',
            "1.7e9",
            "1.7e12",
            "1714564800123.0",
        ),
        {"accepted"},
    ),
    "item_id": (
        st.sampled_from(
            [
                '"item_id":31',
                '"item_id":31,"movie_id":null',
                '"item_id":32,"movie_id":31',
                '"movie_id":31,"item_id":"x"',
            ]
        ).map(lambda alias: text_of(movie_id=ABSENT)[:-1] + f",{alias}}}"),
        {"accepted"},
    ),
    "bad item_id": (
        st.sampled_from(['"item_id":"31"', '"item_id":null,"movie_id":null', '"item_id":0']).map(
            lambda alias: text_of(movie_id=ABSENT)[:-1] + f",{alias}}}"
        ),
        {"wrong_type"},
    ),
    "unknown fields": (
        as_json(st.recursive(st.none() | numbers | st.text(), lambda inner: st.lists(inner, max_size=2))).map(
            lambda value: text_of()[:-1] + f',"colour":{value},"timestamp_ms":1}}'
        ),
        {"accepted"},
    ),
    "unicode": (
        changed_any(TEXTS, '"\\u00e9\\ud83d\\ude00"', '"\\u0000"', '"日本 é"', '"\\"\\\\/\\n"'),
        {"accepted"},
    ),
    "null": (changed_any((*IDS, "event_type"), "null"), {"wrong_type"}),
    "null rating": (changed("rating", "null", ABSENT), {"missing_field"}),
    "null texts": (changed_any((*TEXTS, "timestamp"), "null"), {"accepted"}),
    "missing field": (changed_any(IDS, ABSENT), {"missing_field"}),
    "wrong type": (
        changed_any((*IDS, "rating"), '"7"', "{}", "[]", '""', "[7]", '"NaN"'),
        {"wrong_type"},
    ),
    "number for a text": (changed_any((*TEXTS, "event_type"), "5", "0", "1.5", "1e9"), {"wrong_type"}),
    "bool for a number": (changed_any((*IDS, "rating", "timestamp"), "true", "false"), {"wrong_type"}),
    "whole float or exponent for an id": (changed_any(IDS, "1.0", "7e0", "1E2", "-0.0"), {"wrong_type"}),
    "huge or small int for an id": (
        changed_any(IDS, "0", "-1", str(2**63), str(2**64), str(10**40), "-" + "9" * 400),
        {"wrong_type"},
    ),
    "rating out of range": (
        changed("rating", "0", "0.0", "-0.0", "5.5", "-3", "1e308", "9" * 400, "5.0000000000000009"),
        {"rating_out_of_range", "wrong_type"},
    ),
    "rating between half steps": (
        changed("rating", "3.7", "0.75", "4.49999999999", "4.0000000001", "33e-1"),
        {"rating_not_half_step"},
    ),
    "unknown type": (changed("event_type", '"like"', '"Rating"', '""', '"rating "'), {"unknown_event_type"}),
    "rating forbidden": (changed("event_type", '"view"', '"retract"'), {"rating_forbidden"}),
    "id too long": (
        st.tuples(st.sampled_from(TEXTS), as_json(long_texts)).map(lambda pair: text_of(**dict([pair]))),
        {"id_too_long"},
    ),
    "empty id": (changed("event_id", '""'), {"wrong_type"}),
    "time out of range": (
        changed(
            "timestamp",
            "0",
            "-1",
            str(EARLIEST_MS - 1),
            str(NOW + AHEAD_MS + 1),
            str(2**63),
            "9" * 400,
            "1e300",
        ),
        {"timestamp_out_of_range", "wrong_type"},
    ),
    "no time": (
        changed(
            "timestamp",
            '"2024-05-01T12:00:00"',
            '"yesterday"',
            '"1714564800000000"',
            '"1714564800123"',
            '"2024-13-01T12:00:00Z"',
            "{}",
            "[]",
        ),
        {"wrong_type"},
    ),
    "duplicate keys, the last one bad": (
        st.sampled_from(['"user_id":"7"', '"rating":true', '"movie_id":{}']).map(
            lambda last: f"{text_of()[:-1]},{last}}}"
        ),
        {"wrong_type"},
    ),
    "duplicate keys, the last one good": (
        st.sampled_from(['"user_id":"7"', '"rating":true', '"movie_id":{}']).map(
            lambda first: f"{{{first},{text_of()[1:]}"
        ),
        {"accepted"},
    ),
    "nested": (
        st.integers(1, 60).flatmap(
            lambda depth: changed_any(tuple(GOOD), "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth)
        ),
        {"wrong_type"},
    ),
    "no object": (
        as_json(st.none() | st.booleans() | numbers | st.text() | st.lists(st.none(), max_size=2))
        | st.just(f"[{text_of()}]"),
        {"not_an_object"},
    ),
    "several defects": (
        st.dictionaries(
            st.sampled_from(sorted(GOOD)),
            st.sampled_from(["null", "true", "-1", '"x"', "{}", "3.3", ABSENT]),
            min_size=3,
        ).map(lambda fields: text_of(**fields)),
        {
            "accepted",
            "missing_field",
            "wrong_type",
            "unknown_event_type",
            "rating_out_of_range",
            "rating_not_half_step",
            "timestamp_out_of_range",
        },
    ),
}
"""JSON texts of events, and what the gate may say of each."""

NOT_JSON = st.one_of(
    st.integers(1, len(text_of()) - 1).map(lambda end: text_of()[:end]),
    changed_any(tuple(GOOD), "NaN", "Infinity", "-Infinity", "nan", "1e999", "-1e400"),
    changed_any(TEXTS, '"\\ud800"', '"\\udc00x"', '"\\x41"', "'s'", '"\n"'),
    changed_any(IDS, "07", "+7", "0x7", "7.", "1_0", ".5"),
    st.just(text_of() + ","),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data())
def test_each_kind_of_event_is_what_it_is_called(kind: str, data: st.DataObject) -> None:
    texts, reasons = KINDS[kind]
    [verdict] = judge_all([parse_json(data.draw(texts))], NOW)
    assert (verdict.reason_code if isinstance(verdict, Rejected) else "accepted") in reasons


@settings(max_examples=300)
@given(st.lists(st.sampled_from(sorted(KINDS)).flatmap(lambda kind: KINDS[kind][0]), max_size=20))
def test_a_packed_message_gets_the_verdicts_of_its_events_one_by_one(texts: list[str]) -> None:
    opened = [unpack(body) for body in pack("raw/k", NOW, [text.encode() for text in texts], range(len(texts)))]
    at_once = [verdict for envelope in opened if envelope for verdict in judge_all(envelope.events, NOW)]
    one_by_one = [judge(parse_json(text), NOW) for text in texts]
    assert at_once == one_by_one
    assert repr(at_once) == repr(one_by_one)  # 4 == 4.0 == True + 3, but each is written differently


@given(st.lists(KINDS["good"][0], max_size=3), NOT_JSON)
def test_one_event_that_is_no_json_makes_its_message_none(texts: list[str], spoilt: str) -> None:
    assert isinstance(parse_json(spoilt), Rejected)
    [body] = pack("raw/k", NOW, [text.encode() for text in [*texts, spoilt]], range(len(texts) + 1))
    assert unpack(body) is None


@pytest.mark.parametrize(
    ("texts", "clean"),
    [
        (
            {"session_id": "null"},
            b'{"event_id":"e1","event_type":"rating","user_id":7,"movie_id":31,"rating":4.5,"timestamp":1714564800123}',
        ),
        (
            {"event_type": '"view"', "rating": ABSENT, "event_id": '"\\u00e9\\""', "timestamp": "1714564800"},
            '{"event_id":"é\\"","event_type":"view","user_id":7,"movie_id":31,"timestamp":1714564800000,'
            '"session_id":"s"}'.encode(),
        ),
        (
            {"event_type": ABSENT, "rating": "4", "recommendation_id": '"r"', "colour": '"red"'},
            b'{"event_id":"e1","event_type":"rating","user_id":7,"movie_id":31,"rating":4.0,"timestamp":1714564800123,'
            b'"session_id":"s","recommendation_id":"r"}',
        ),
    ],
)
def test_an_accepted_event_is_written_in_one_way(texts: dict[str, str], clean: bytes) -> None:
    [event] = judge_all([parse_json(text_of(**texts))], NOW)
    assert isinstance(event, Event)
    assert event.to_json() == clean
    assert judge_all([parse_json(clean)], NOW) == [event]


def test_nothing_gets_no_verdicts() -> None:
    assert judge_all([], NOW) == []
