"""Lines judged as columns get the verdicts of their events judged one by one; a file's rows have one order."""

import json
import re
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movierec_platform.domain.envelope import NotLanded, landed_event, raw_object
from movierec_platform.domain.events import Event
from movierec_platform.domain.gate import Rejected, judge, parse_json
from movierec_platform.domain.landed import in_order, judge_lines
from movierec_platform.domain.tables import EVENTS
from movierec_tests.unit.test_judge_all import KINDS, NOT_JSON, NOW, text_of

ROW = {
    "event_id": "a",
    "event_type": "rating",
    "user_id": 1,
    "movie_id": 1,
    "rating": 3.0,
    "timestamp_ms": 5,
    "session_id": None,
    "recommendation_id": None,
    "received_at_ms": 9,
}
texts_of_any_kind = st.sampled_from(sorted(KINDS)).flatmap(lambda kind: KINDS[kind][0])


def lines_of(texts: list[str], received_at_ms: int = NOW) -> list[bytes]:
    return [
        b'{"received_at_ms":%d,"source":"api","event":%s}' % (received_at_ms, text.encode("utf-8", "surrogatepass"))
        for text in texts
    ]


def row_of(event: Event, received_at_ms: int) -> dict[str, Any]:
    return {name: received_at_ms if name == "received_at_ms" else getattr(event, name) for name in EVENTS.names}


@settings(max_examples=300)
@given(st.lists(texts_of_any_kind, max_size=20))
def test_lines_get_the_verdicts_of_their_events_one_by_one(texts: list[str]) -> None:
    judged = judge_lines(lines_of(texts))
    readable = [value for text in texts if not isinstance(value := parse_json(text), Rejected)]
    verdicts = [judge(value, NOW) for value in readable]
    assert len(judged.faults) == len(texts) - len(readable)
    expected = [row_of(verdict, NOW) for verdict in verdicts if isinstance(verdict, Event)]
    assert judged.accepted.schema.equals(EVENTS)
    assert sorted(map(repr, judged.accepted.to_pylist())) == sorted(map(repr, expected))
    assert judged.rejected == Counter(one.reason_code for one in verdicts if isinstance(one, Rejected))


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=10)
@given(data=st.data())
def test_each_kind_of_event_gets_its_verdict(kind: str, data: st.DataObject) -> None:
    text = data.draw(KINDS[kind][0])
    judged = judge_lines(lines_of([text]))
    value = parse_json(text)
    verdict = judge(value, NOW)
    if isinstance(value, Rejected):
        assert (judged.accepted.num_rows, judged.rejected, judged.faults.keys()) == (0, {}, {0})
    elif isinstance(verdict, Rejected):
        assert (judged.accepted.num_rows, judged.rejected) == (0, {verdict.reason_code: 1})
    else:
        assert (judged.accepted.to_pylist(), judged.rejected) == ([row_of(verdict, NOW)], {})


@given(st.lists(KINDS["good"][0], max_size=3), NOT_JSON)
def test_a_line_that_is_no_json_is_named(texts: list[str], spoilt: str) -> None:
    judged = judge_lines(lines_of([*texts, spoilt]))
    assert judged.faults.keys() == {len(texts)}
    assert judged.accepted.num_rows == len(texts)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b'"text"',
        b'{"event": {}}',
        b'{"received_at_ms": 1}',
        b'{"received_at_ms": "1", "event": {}}',
        b'{"received_at_ms": true, "event": {}}',
        b'{"received_at_ms": -1, "event": {}}',
        b'{"received_at_ms": 9223372036854775807, "event": {}}',
        b'{"received_at_ms": 1, "source": "\xff", "event": {}}',
        b'%s,"note":"\xff"}' % lines_of([text_of()])[0][:-1],
        b'%s,"colour":"\xff"}}' % lines_of([text_of()])[0][:-2],
        b'%s,"colour":%s}}' % (lines_of([text_of()])[0][:-2], b"[" * 300 + b"]" * 300),
    ],
)
def test_a_line_that_nobody_landed_is_named(line: bytes) -> None:
    judged = judge_lines([*lines_of([text_of()]), line])
    assert (judged.accepted.num_rows, judged.faults.keys()) == (1, {1})
    with pytest.raises(NotLanded, match=re.escape(judged.faults[1])):
        landed_event(line)


@given(st.lists(texts_of_any_kind, max_size=5))
def test_what_the_api_lands_is_read(texts: list[str]) -> None:
    import gzip

    lines = gzip.decompress(raw_object([text.encode() for text in texts], NOW, "api")).splitlines()
    judged = judge_lines(lines)
    assert judged.accepted.num_rows + sum(judged.rejected.values()) + len(judged.faults) == len(texts)


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{**ROW, **row} for row in rows], schema=EVENTS)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "user_id": st.integers(1, 2),
                "movie_id": st.integers(1, 2),
                "timestamp_ms": st.integers(5, 6),
                "event_id": st.sampled_from(["a", "b"]),
                "rating": st.sampled_from([None, 3.0]),
                "session_id": st.sampled_from([None, "s"]),
                "received_at_ms": st.integers(9, 11),
            }
        ),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_each_content_is_kept_once_as_first_received_in_one_order(rows: list[dict[str, Any]], random: Any) -> None:
    earliest: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["received_at_ms"]):
        earliest.setdefault(json.dumps({**row, "received_at_ms": 0}, sort_keys=True), {**ROW, **row})
    kept = table(*rows).take(pa.array(in_order(table(*rows)))).to_pylist()
    assert sorted(map(repr, kept)) == sorted(map(repr, earliest.values()))
    instants = [(row["user_id"], row["movie_id"], row["timestamp_ms"], row["event_id"]) for row in kept]
    assert instants == sorted(instants)
    shuffled = random.sample(rows, len(rows))
    assert table(*shuffled).take(pa.array(in_order(table(*shuffled)))).to_pylist() == kept


def test_nothing_is_nothing() -> None:
    assert judge_lines([]).accepted.num_rows == 0
    assert len(in_order(table())) == 0
