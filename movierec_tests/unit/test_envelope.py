"""Messages and raw objects: nothing is lost on the way, and nothing is bigger than SQS takes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.domain.envelope import (
    MESSAGE_BYTES,
    Carried,
    Refused,
    Rejections,
    batch_id_of,
    encode,
    pack,
    pack_rejections,
    raw_events,
    raw_key,
    raw_object,
    unpack,
    unpack_rejections,
)
from movierec_platform.domain.gate import Rejected

events = st.lists(st.dictionaries(st.text(max_size=8), st.integers() | st.text() | st.none(), max_size=4), max_size=30)


@given(events, st.integers(0, 2**41))
def test_a_raw_object_gives_back_its_events_and_their_time(values: list[Any], received_at_ms: int) -> None:
    body = raw_object([encode(value) for value in values], received_at_ms, "api")
    assert list(raw_events(body)) == [(value, received_at_ms) for value in values]


@given(events)
def test_packed_events_come_out_in_order_with_their_lines(values: list[Any]) -> None:
    lines = [3 * index for index in range(len(values))]
    envelopes = [unpack(body) for body in pack("raw/k", 5, [encode(value) for value in values], lines)]
    assert [event for envelope in envelopes for event in envelope.events] == values
    assert [line for envelope in envelopes for line in envelope.lines] == lines
    assert all((envelope.raw_key, envelope.received_at_ms) == ("raw/k", 5) for envelope in envelopes)


def test_what_goes_with_events_arrives_with_them_and_with_their_refusals() -> None:
    carried = Carried(("r-1", "r-2"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    [packed] = pack("raw/k", 5, [b"{}"], [0], carried)
    [refused] = pack_rejections(Rejections("raw/k", 5, [Refused(0, Rejected("wrong_type", None, ""), "")], carried))
    assert unpack(packed).carried == unpack_rejections(refused).carried == carried
    assert unpack(pack("raw/k", 5, [b"{}"], [0])[0]).carried == Carried()


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ({"requests": "r-1", "trace": 7}, Carried()),
        ({"requests": ["r-1", 7, "x" * 65, "two\nlines", "é"], "trace": "t" * 65}, Carried(("r-1",))),
        ({"requests": ["r"] * 1000}, Carried(("r",) * 100)),
    ],
)
def test_what_cannot_go_with_events_is_left_out_and_the_events_are_not(said: dict, left: Carried) -> None:
    envelope = unpack(encode({"v": 1, "raw_key": "raw/k", "received_at_ms": 5, "events": [{}], **said}).decode())
    assert (envelope.events, envelope.carried) == ([{}], left)


def test_a_batch_is_named_by_the_key_of_its_object() -> None:
    assert (
        batch_id_of(raw_key(1_700_000_000_000, "876a3816e2aa427ba785ffc70f24e382"))
        == "876a3816e2aa427ba785ffc70f24e382"
    )


def test_many_events_are_cut_into_messages_that_sqs_takes() -> None:
    values = [{"event_id": "é" * 60, "n": number} for number in range(5_000)]
    bodies = pack("raw/k", 5, [encode(value) for value in values], range(5_000))
    assert len(bodies) > 1
    assert max(len(body.encode()) for body in bodies) <= MESSAGE_BYTES
    assert sum(len(unpack(body).events) for body in bodies) == 5_000


def test_the_characters_that_sqs_refuses_travel_escaped() -> None:
    text = "\ufffe \uffff \\\uffff"
    [packed] = pack("raw/k", 5, [encode({"event_id": text})], [0])
    [refused] = pack_rejections(Rejections("raw/k", 5, [Refused(0, Rejected("wrong_type", None, text), text)]))
    assert not {"\ufffe", "\uffff"} & set(packed + refused)
    assert unpack(packed).events == [{"event_id": text}]
    assert unpack_rejections(refused).refused[0].body == text


def test_refusals_are_packed_by_reason_and_come_out_whole() -> None:
    refused = [Refused(n, Rejected(("wrong_type", "not_json")[n % 2], None, "why"), '"\\' * 20_000) for n in range(9)]
    bodies = pack_rejections(Rejections("raw/k", 5, refused))
    assert max(len(body.encode()) for body in bodies) <= MESSAGE_BYTES
    opened = [unpack_rejections(body) for body in bodies]
    assert all(len({one.rejection.reason_code for one in message.refused}) == 1 for message in opened)
    assert sorted((one for message in opened for one in message.refused), key=lambda one: one.line) == refused


@pytest.mark.parametrize(
    "body",
    ["nonsense", "[]", "{}", '{"v":2,"raw_key":"k","received_at_ms":1,"events":[]}', '{"v":1,"raw_key":"k"}',
     '{"v":1,"raw_key":"k","received_at_ms":1,"events":[1],"lines":[]}', '{"user_id":1,"movie_id":2,"rating":3}'],
)  # fmt: skip
def test_anything_else_is_no_envelope(body: str) -> None:
    assert unpack(body) is None
    assert unpack_rejections(body) is None


def test_keys_sort_by_time_received_and_are_partitioned_by_hour() -> None:
    assert raw_key(1_714_568_399_999, "t") == "raw/date=2024-05-01/hour=12/1714568399999-t.ndjson.gz"
    assert raw_key(1_714_568_399_999, "t") < raw_key(1_714_568_400_000, "t")
