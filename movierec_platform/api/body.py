"""The events in the body of a request: read within bounds, decompressed within bounds, parsed as strict JSON."""

import codecs
import io
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from movierec_platform.api.errors import Problem
from movierec_platform.domain.json_text import EVENT_DEPTH, NotJson, deeper_than, read_json
from movierec_platform.errors import LandingBusy

CHUNK_BYTES = 64 * 1024
MAX_GZIP_MEMBERS = 64

NDJSON = "application/x-ndjson"
NDJSON_TYPES = frozenset({NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonlines"})
UNSAID_TYPES = frozenset({"", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"})
"""What clients send when nobody told them (the last is curl's): the body is JSON or it is refused as malformed."""


def check_type(mimetype: str, charset: str) -> None:
    """415 when the client says that the body is something else than JSON in UTF-8."""
    if "json" not in mimetype and mimetype not in UNSAID_TYPES:
        detail = f"{mimetype} is not JSON: send application/json or application/x-ndjson"
        raise Problem(415, "unsupported-media-type", detail, {"Accept": "application/json, application/x-ndjson"})
    if charset.lower() not in ("", "utf-8", "utf8", "us-ascii"):
        raise Problem(415, "unsupported-media-type", f"charset {charset!r} is not taken: JSON is UTF-8")


class Room:
    """Room for the bodies that are being worked on, all requests together. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._lock = threading.Lock()

    def hold(self) -> "Hold":
        """The share of one request, nothing yet; to be used as a context, at whose end it is given back."""
        return Hold(self)

    def _add(self, size: int) -> None:
        with self._lock:
            if size > 0 and self._held_bytes + size > self._limit_bytes:
                raise LandingBusy(f"requests of {self._held_bytes} bytes are being worked on; post the events later")
            self._held_bytes += size


class Hold:
    """What one request holds of a room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._bytes = 0

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self._room._add(-self._bytes)

    def take(self, size: int) -> None:
        """So many bytes more are held. Raises LandingBusy when there is no room."""
        self._room._add(size)
        self._bytes += size


def read_body(
    stream: IO[bytes],
    encoding: str,
    limit: int,
    length: int | None = None,
    take: Callable[[int], None] = lambda size: None,
) -> bytes:
    """The body, decompressed; `take` is told of each piece before the next is read.

    `length` is what the client announced; 400 when it sent less. 413 as soon as there are more than `limit` bytes,
    however small they were compressed.
    """
    if length is not None and length > limit:
        raise _too_long(limit)
    chunks = _bounded(_announced(stream, length), limit)
    if encoding in ("gzip", "x-gzip"):
        chunks = _bounded(_gunzipped(chunks), limit)
    elif encoding not in ("", "identity"):
        detail = f"Content-Encoding {encoding!r} is not taken: send gzip, or no encoding"
        raise Problem(415, "unsupported-encoding", detail, {"Accept-Encoding": "gzip"})
    pieces = []
    for chunk in chunks:
        take(len(chunk))
        pieces.append(chunk)
    return b"".join(pieces)


def parse_events(body: bytes, ndjson: bool, max_events: int) -> list[Any]:
    """The events in their order: one object, an array's elements, or a line each.

    400 with the position when anything in it is not JSON (NaN and Infinity are not); 413 above `max_events`. A byte
    order mark may be in front.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise Problem(400, "no-events", "the body is empty: send an event, an array of events or NDJSON")
    events = _lines(body, max_events) if ndjson else _document(body, max_events)
    if not events:
        raise Problem(400, "no-events", "the array is empty: send at least one event")
    if len(events) > max_events:
        raise _too_many(max_events)
    if body.count(b"[") + body.count(b"{") > len(events) + 1:  # else every event is flat
        for index, event in enumerate(events):
            if deeper_than(event, EVENT_DEPTH):
                raise Problem(400, "too-deep", f"event {index} is nested deeper than {EVENT_DEPTH} levels")
    return events


def _announced(stream: IO[bytes], length: int | None) -> Iterator[bytes]:
    """The body as it was sent. Without a length it ends where the stream does."""
    left = length
    while left is None or left > 0:
        chunk = stream.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
        if not chunk:
            break
        yield chunk
        left = None if left is None else left - len(chunk)
    if left:  # the server ends the body of a client that went away as if it were whole
        raise Problem(400, "body-cut-off", f"the body ends {left} bytes before the announced {length}")


def _bounded(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise _too_long(limit)
        yield chunk


def _too_long(limit: int) -> Problem:
    detail = f"the body is longer than {limit} bytes (decompressed): send less at a time"
    return Problem(413, "body-too-large", detail)


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The decompressed bytes, 64 KiB at most a piece: what nobody asks for is never decompressed."""
    members = 0
    member = None
    for chunk in chunks:
        data = chunk
        while data:
            if member is None:
                members += 1
                member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            if members > MAX_GZIP_MEMBERS:
                raise Problem(400, "malformed-gzip", f"the gzip has more than {MAX_GZIP_MEMBERS} members")
            try:
                yield member.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                raise Problem(400, "malformed-gzip", f"the body is not gzip, as its encoding says: {error}") from None
            data = member.unused_data if member.eof else member.unconsumed_tail
            if member.eof:
                member = None
    if member is not None or not members:
        raise Problem(400, "malformed-gzip", "the gzip ends before its end mark: it was cut off")


def _document(body: bytes, max_events: int) -> list[Any]:
    try:
        value = read_json(body)
    except NotJson as error:
        if _starts_with_a_json_line(body):
            return _lines(body, max_events)
        raise _malformed(error, error.line) from None
    return value if isinstance(value, list) else [value]


def _starts_with_a_json_line(body: bytes) -> bool:
    """Whether this is NDJSON without its content type: the first of several lines is JSON by itself."""
    first, newline, _ = body.strip().partition(b"\n")
    try:
        read_json(first)
    except NotJson:
        return False
    return bool(newline)


def _lines(body: bytes, max_events: int) -> list[Any]:
    events: list[Any] = []
    for number, line in enumerate(io.BytesIO(body), 1):
        if not line.strip():
            continue
        if len(events) == max_events:
            raise _too_many(max_events)
        try:
            events.append(read_json(line))
        except NotJson as error:
            raise _malformed(error, number) from None
    return events


def _malformed(error: NotJson, line: int | None) -> Problem:
    place = (f" at line {line}" if line else "") + (f", column {error.column}" if error.column else "")
    return Problem(400, "malformed-json", f"not JSON: {error}{place}; nothing was landed")


def _too_many(max_events: int) -> Problem:
    return Problem(413, "too-many-events", f"a request takes {max_events} events at most: send several requests")
