"""One reader with one set of limits: what is landed is read back whatever wraps it, and travels in every message."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from movierec_platform.api.body import parse_events
from movierec_platform.api.errors import Problem
from movierec_platform.domain.envelope import (
    HEAD_BYTES,
    MESSAGE_BYTES,
    Carried,
    Refused,
    Rejections,
    encode,
    pack,
    pack_rejections,
    raw_content,
    raw_key,
    raw_object,
    unpack,
    unpack_rejections,
)
from movierec_platform.domain.gate import Rejected, parse_json
from movierec_platform.domain.json_text import EVENT_BYTES, EVENT_DEPTH, NotJson, NotLandable, landable, read_json
from movierec_platform.domain.landed import judge_lines

SQS_BYTES = 262_144
KEY = raw_key(1_790_000_000_000, "f" * 100)
WORST = Carried(('"' * 64,) * 100, "\\" * 64)
ODD = st.sampled_from(["\uffff", "\ufffe", '"', "\\", "\u0000", "\x7f", "é", "😀", "\u2028", "a"])


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "text",
    ["1e999", "-1e999", "[1.8e308]", '{"a":[{"b":1e400}]}', "NaN", "[-Infinity]", "9" * 4301, "[" * 202 + "]" * 202],
)
def test_what_one_reader_refuses_all_refuse(text: str) -> None:
    with pytest.raises(NotJson):
        read_json(text)
    assert isinstance(parse_json(text), Rejected)
    with pytest.raises(Problem, match="not JSON"):
        parse_events(text.encode(), ndjson=False, max_events=10)
    line = b'{"received_at_ms":1790000000000,"source":"queue","event":%s}' % text.encode()
    assert judge_lines([line]).faults.keys() == {0}
    rating = b'{"received_at_ms":1,"source":"","event":{"event_id":"e","user_id":1,"movie_id":1,"rating":%s}}'
    assert judge_lines([rating % text.encode()]).faults.keys() == {0}
    assert unpack(f'{{"v":1,"raw_key":"k","received_at_ms":1,"events":[{text}]}}') is None


@pytest.mark.parametrize("text", ["1.7e308", "9" * 400, "18446744073709551616", "1e-999", "[" * 201 + "]" * 201])
def test_what_one_reader_takes_all_take(text: str) -> None:
    assert not isinstance(parse_json(text), Rejected)
    assert read_json(encode(read_json(text))) == read_json(text)


@given(st.recursive(ODD | st.integers() | st.floats(allow_nan=False, allow_infinity=False), st.lists, max_leaves=20))
@example(nested(EVENT_DEPTH))
def test_what_is_landable_comes_back_from_a_line_a_message_and_a_refusal(event: Any) -> None:
    [text] = landable([event])
    assert list(raw_content(raw_object([text], 5, "api")).events) == [event]
    [message] = pack(KEY, 5, [text], [0], WORST)
    assert unpack(message).events == [event]
    [refusal] = pack_rejections(
        Rejections(KEY, 5, [Refused(0, Rejected("wrong_type", None, "why"), text.decode())], WORST)
    )
    assert read_json(unpack_rejections(refusal).refused[0].body) == event


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (nested(EVENT_DEPTH + 1), "event 1 is nested deeper than 100 levels"),
        ({"x": "\uffff" * 11_000}, "event 1 has 66008 bytes; an event has 65536 at most"),
        ("a" * EVENT_BYTES, "event 1 has 65538 bytes"),
        ({"x": float("inf")}, "event 1 could not be read back"),
        ([float("nan")], "event 1 could not be read back"),
    ],
)
def test_what_could_not_come_back_is_not_landed(event: Any, why: str) -> None:
    with pytest.raises(NotLandable, match=why):
        landable([{}, event, {}])


def worst_events() -> list[Any]:
    """Events of nearly 64 KiB, in whatever grows most when it is written."""
    pieces = {"\uffff": 10_900, '"': 32_700, "\\": 32_700, "\x01": 10_900, "\uffff" + '"' * 3: 5_400, "😀": 16_000}
    return [{"x": piece * times} for piece, times in pieces.items()]


@pytest.mark.parametrize("several", [1, 4])
@pytest.mark.parametrize("event", worst_events(), ids=lambda event: json.dumps(event["x"][:4]))
def test_whatever_is_landed_fits_into_its_messages_and_refusals(event: Any, several: int) -> None:
    encoded = landable([event] * several)
    refused = [Refused(n, Rejected("missing_field", "user_id", "why"), text.decode()) for n, text in enumerate(encoded)]
    sent = [*pack(KEY, 5, encoded, range(several), WORST), *pack_rejections(Rejections(KEY, 5, refused, WORST))]
    assert max(len(message.encode()) for message in sent) <= MESSAGE_BYTES < SQS_BYTES
    assert not {"\ufffe", "\uffff"} & set("".join(sent))


def test_a_body_that_is_longer_than_an_event_may_be_is_cut_and_the_detail_says_so() -> None:
    body = '{"x":"' + '\\"' * 100_000 + '"}'
    [message] = pack_rejections(Rejections(KEY, 5, [Refused(3, Rejected("wrong_type", None, "why"), body)]))
    assert len(message.encode()) <= MESSAGE_BYTES
    [one] = unpack_rejections(message).refused
    assert one.body == body[:EVENT_BYTES]
    assert one.rejection.detail == "why (its body is cut: 65536 of 200008 bytes; the raw object has all of it)"


@given(
    st.lists(st.integers(1, 60_000), min_size=1, max_size=30),
    st.lists(st.text(max_size=80), max_size=120),
    st.none() | st.text(max_size=80),
)
def test_the_borders_of_messages_depend_on_their_events_alone(
    sizes: list[int], requests: list[str], trace: str | None
) -> None:
    encoded = [encode("x" * size) for size in sizes]
    plain, carrying = (
        pack(KEY, 5, encoded, range(len(sizes)), carried) for carried in (Carried(), Carried(tuple(requests), trace))
    )
    assert [unpack(body).lines for body in plain] == [unpack(body).lines for body in carrying]
    assert max(len(body.encode()) for body in [*plain, *carrying]) <= MESSAGE_BYTES


def test_the_head_of_a_message_never_takes_more_than_is_kept_for_it() -> None:
    [message] = pack("raw/" + "k" * 1020, 2**62, [b"1"], [0], WORST)
    assert len(message) < HEAD_BYTES
