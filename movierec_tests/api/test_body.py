"""Reading the body of a request: bounds hold, whatever is not JSON is refused with its position."""

import gzip
import io
import itertools
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movierec_platform.api.body import CHUNK_BYTES, check_type, parse_events, read_body
from movierec_platform.api.errors import Problem
from movierec_platform.domain.json_text import EVENT_DEPTH

LIMIT = 100_000
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


def events_of(body: bytes, *, ndjson: bool = False, max_events: int = 10) -> list:
    return parse_events(body, ndjson, max_events)


def problem_of(call) -> tuple[int, str, str]:
    with pytest.raises(Problem) as raised:
        call()
    return raised.value.status, raised.value.slug, str(raised.value)


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b'{"user_id": 1}', [{"user_id": 1}]),
        (b' [{"a": 1}, {"a": 2}]\n', [{"a": 1}, {"a": 2}]),
        (b'{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        (b'{"a": 1}\r\n\r\n  \n{"a": 2}', [{"a": 1}, {"a": 2}]),
        (b'{\n "a": 1\n}', [{"a": 1}]),
        (b'[1, "two", null, [], {}]', [1, "two", None, [], {}]),
        (b"7", [7]),
        (b'\xef\xbb\xbf{"a": 1}', [{"a": 1}]),
        (b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}', [{"a": 1}, {"a": 2}]),
    ],
)
def test_takes_one_object_an_array_or_a_line_each(body, events):
    assert events_of(body) == events


def test_a_line_of_ndjson_is_one_event_even_when_it_is_an_array():
    assert events_of(b'[{"a": 1}, {"a": 2}]', ndjson=True) == [[{"a": 1}, {"a": 2}]]


@given(st.lists(JSON_VALUES, min_size=1, max_size=10))
def test_gives_the_events_that_were_sent_in_every_form(events):
    assert events_of(json.dumps(events).encode()) == events
    lines = "\n".join(json.dumps(event) for event in events)
    assert events_of(lines.encode(), ndjson=True) == events


@given(st.binary(max_size=60))
def test_any_bytes_are_events_or_a_problem(body):
    def status(ndjson: bool) -> int:
        try:
            return 202 if events_of(body, ndjson=ndjson) else 500
        except Problem as problem:
            return problem.status

    assert {status(True), status(False)} <= {202, 400, 413}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'[{"a": 1},]', "line 1, column 11"),
        (b'{"a": 1}\n{"a": }\n', "line 2, column 7"),
        (b'{"a": 1} {"a": 2}', "line 1, column 10"),
        (b'{"a": NaN}', "line 1, column 7"),
        (b"[Infinity]", "line 1, column 2"),
        (b"\xff\xfe", "line 1, column 1"),
        (b'{"a": "\\ud800"}', "line 1"),
        (b"user_id=1&movie_id=2", "line 1, column 1"),
        (b"[" * 5_000, "line 1"),
        (b'{"a": 1}\n{"a": 1e999}\n', "beyond 1.8e308, where readers stop at line 2"),
    ],
)
def test_what_is_not_json_is_refused_with_its_position(body, where):
    status, slug, detail = problem_of(lambda: events_of(body))
    assert (status, slug) == (400, "malformed-json")
    assert where in detail
    assert "nothing was landed" in detail


@pytest.mark.parametrize("body", [b"", b" \n ", b"[]", b"\n\n"])
def test_no_events_are_a_problem(body):
    assert problem_of(lambda: events_of(body))[:2] == (400, "no-events")
    assert problem_of(lambda: events_of(body + b"\n", ndjson=False))[:2] == (400, "no-events")


@pytest.mark.parametrize("ndjson", [True, False])
def test_the_limit_of_events_is_inclusive(ndjson):
    separator = "\n" if ndjson else ","
    ends = ("", "") if ndjson else ("[", "]")
    bodies = [(ends[0] + separator.join(["{}"] * count) + ends[1]).encode() for count in (10, 11)]
    assert len(events_of(bodies[0], ndjson=ndjson)) == 10
    assert problem_of(lambda: events_of(bodies[1], ndjson=ndjson))[:2] == (413, "too-many-events")


@pytest.mark.parametrize("number", ["123456789012345678901234567890", "-9223372036854775809", "18446744073709551615"])
def test_a_number_beyond_64_bits_is_left_to_the_gate(number):
    (event,) = events_of(f'{{"user_id": {number}}}'.encode())
    assert float(event["user_id"]) == float(number)


def test_nesting_is_bounded_where_writers_downstream_can_still_write_it():
    def nested(depth: int) -> bytes:
        return b'[{}, {"a": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}]"

    assert len(events_of(nested(EVENT_DEPTH))) == 2
    status, slug, detail = problem_of(lambda: events_of(nested(EVENT_DEPTH + 1)))
    assert (status, slug) == (400, "too-deep")
    assert "event 1" in detail


@given(st.binary(max_size=3 * CHUNK_BYTES), st.integers(1, 3))
def test_gzip_of_one_or_several_members_is_read_back(content, members):
    step = max(1, -(-len(content) // members))
    compressed = b"".join(gzip.compress(content[at : at + step]) for at in range(0, max(1, len(content)), step))
    assert read_body(io.BytesIO(compressed), "gzip", 3 * CHUNK_BYTES) == content


@pytest.mark.parametrize("encoding", ["", "identity", "gzip"])
def test_the_limit_of_bytes_is_inclusive_and_counts_decompressed(encoding):
    def sent(size: int) -> io.BytesIO:
        return io.BytesIO(gzip.compress(b" " * size) if encoding == "gzip" else b" " * size)

    assert len(read_body(sent(LIMIT), encoding, LIMIT)) == LIMIT
    assert problem_of(lambda: read_body(sent(LIMIT + 1), encoding, LIMIT))[:2] == (413, "body-too-large")


def test_a_gzip_bomb_is_dropped_at_the_limit():
    bomb = zlib.compressobj(wbits=31)
    zeros = bytes(1024 * 1024)
    compressed = b"".join(bomb.compress(zeros) for _ in range(64)) + bomb.flush()
    tracemalloc.start()
    try:
        assert problem_of(lambda: read_body(io.BytesIO(compressed), "gzip", LIMIT))[0] == 413
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_what_lies_beyond_the_limit_is_not_read():
    chunks = itertools.count()

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            next(chunks)
            return bytes(size)

    assert problem_of(lambda: read_body(Endless(), "", LIMIT))[0] == 413
    assert next(chunks) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"plain",
        gzip.compress(b"{}", mtime=0)[:-3],
        gzip.compress(b"{}", mtime=0) + b"rest",
        gzip.compress(b"", mtime=0) * 65,
        b"",
    ],
    ids=["not gzip", "cut off", "trailing rubbish", "65 members", "nothing"],
)
def test_a_body_that_is_not_the_gzip_it_claims_is_refused(body):
    assert problem_of(lambda: read_body(io.BytesIO(body), "gzip", LIMIT))[:2] == (400, "malformed-gzip")


def test_a_body_that_ends_before_its_announced_length_is_refused():
    whole = b'{"a": 1}\n{"a": 2}\n'
    assert read_body(io.BytesIO(whole), "", LIMIT, len(whole)) == whole
    assert problem_of(lambda: read_body(io.BytesIO(whole), "", LIMIT, len(whole) + 1))[:2] == (400, "body-cut-off")


def test_a_body_that_is_announced_as_too_long_is_not_read():
    body = io.BytesIO(b"{}")
    assert problem_of(lambda: read_body(body, "", LIMIT, LIMIT + 1))[:2] == (413, "body-too-large")
    assert body.tell() == 0


def test_an_unknown_encoding_is_refused():
    assert problem_of(lambda: read_body(io.BytesIO(b""), "br", LIMIT))[:2] == (415, "unsupported-encoding")


@pytest.mark.parametrize(
    "mimetype",
    ["", "application/json", "application/x-ndjson", "application/cloudevents+json", "application/jsonl", "text/plain"],
)
def test_json_and_unsaid_types_are_taken(mimetype):
    check_type(mimetype, "utf-8")


@pytest.mark.parametrize(
    ("mimetype", "charset"),
    [("text/csv", ""), ("multipart/form-data", ""), ("application/xml", ""), ("application/json", "utf-16")],
)
def test_what_is_clearly_not_json_in_utf8_is_refused(mimetype, charset):
    assert problem_of(lambda: check_type(mimetype, charset))[:2] == (415, "unsupported-media-type")
