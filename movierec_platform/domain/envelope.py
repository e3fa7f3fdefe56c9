"""How events travel: raw objects in S3 and packed messages in the queues. Version 1 of both, and the only one.

A raw object is gzip NDJSON, a line an event. A message carries many events of one raw object, each with the line that
it stands on, so that wherever an event ends up it can be found again. A rejection message carries the refused ones.

What is only added (a field of a message, of a line) keeps the version: readers pass over what they do not know. Where a
reader must not do that, a message has a higher `v`, still with `raw_key`, and whoever does not know that version leaves
it whole to the quarantine. So a release that writes another version comes after one that reads it.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeGuard

from movierec_platform.domain.gate import REASON_CODES, Rejected, parse_json
from movierec_platform.domain.json_text import EVENT_BYTES, NotJson, encode, escaped, read_json

VERSION = 1
MESSAGE_BYTES = 240_000
"""Of the 256 KiB that SQS takes."""
HEAD_BYTES = 16 * 1024
"""Of those, for all but events, used or not: so the borders between the messages of an object depend on its events
alone, and a replay, which knows nothing of the requests that brought them, sends the same messages."""
LATEST_RECEIVED_MS = 2**62
"""Far above any clock, and 24 hours more still fit in 64 bits."""
RAW_PREFIX = "raw/"
RAW_SUFFIX = ".ndjson.gz"
CARRIED_REQUESTS = 100
CARRIED_CHARS = 64
_EVENTS_BYTES = MESSAGE_BYTES - HEAD_BYTES
_KEY = re.compile(r"raw/date=[0-9]{4}-[0-9]{2}-[0-9]{2}/hour=[0-9]{2}/([0-9]{1,18})-[^/]+\.ndjson\.gz")


class NotLanded(ValueError):
    """Bytes that neither the API nor the gate wrote as a raw object, or as a line of one; str() says why."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes with events from the request to the graph, for logs and traces; nothing is decided by it.

    `requests` are the ids of the first CARRIED_REQUESTS requests that brought them, `trace` is a W3C traceparent.
    """

    requests: tuple[str, ...] = ()
    trace: str | None = None


NOTHING_CARRIED = Carried()


@dataclass(frozen=True, slots=True)
class Envelope:
    """Parsed events of one raw object; `lines[i]` is the 0-based line of `events[i]`."""

    raw_key: str
    received_at_ms: int
    events: Sequence[Any]
    lines: Sequence[int]
    carried: Carried = NOTHING_CARRIED


@dataclass(frozen=True, slots=True)
class Refused:
    """One event that was refused, in its own JSON text."""

    line: int
    rejection: Rejected
    body: str


@dataclass(frozen=True, slots=True)
class Rejections:
    """Refused events of one raw object, all for the same reason."""

    raw_key: str
    received_at_ms: int
    refused: Sequence[Refused]
    carried: Carried = NOTHING_CARRIED


def raw_key(received_at_ms: int, token: str) -> str:
    """Where a raw object stands: by the hour received, in order of arrival within it. `token` makes it unique."""
    hour = datetime.fromtimestamp(received_at_ms / 1000, tz=timezone.utc)
    return f"{hour_prefix(hour)}{received_at_ms}-{token}{RAW_SUFFIX}"


def batch_id_of(raw_key: str) -> str:
    """What made the key of a raw object unique: of those that the API landed, the `batch_id` of its receipts."""
    return raw_key.rpartition("/")[2].partition("-")[2].removesuffix(RAW_SUFFIX)


def received_at_of(key: str) -> int | None:
    """When the raw object of this key was received (epoch ms); None for a key that is not of a raw object."""
    named = _KEY.fullmatch(key)
    return int(named[1]) if named else None


def hour_prefix(hour: datetime) -> str:
    """What the keys of this hour (UTC) start with."""
    return f"{RAW_PREFIX}date={hour:%Y-%m-%d}/hour={hour:%H}/"


def raw_object(encoded_events: Iterable[bytes], received_at_ms: int, source: str) -> bytes:
    """The bytes of a raw object."""
    head = b'{"received_at_ms":%d,"source":%s,"event":' % (received_at_ms, encode(source))
    lines = b"".join(b"%s%s}\n" % (head, event) for event in encoded_events)
    return gzip.compress(lines, compresslevel=1, mtime=0)


def raw_lines(body: bytes) -> list[bytes]:
    """The lines of a raw object. Raises NotLanded for what is not gzip."""
    try:
        return gzip.decompress(body).splitlines()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise NotLanded(f"not gzip: {error}") from None


def landed_event(line: bytes) -> tuple[Any, int]:
    """The event on this line of a raw object, and when it was received (epoch ms). Raises NotLanded."""
    try:
        record = read_json(line)
    except NotJson as error:
        raise NotLanded(f"not JSON: {error}") from None
    received_at_ms = record.get("received_at_ms") if isinstance(record, dict) else None
    if type(received_at_ms) is not int or not 0 <= received_at_ms <= LATEST_RECEIVED_MS or "event" not in record:
        raise NotLanded("no landed event")
    return record["event"], received_at_ms


def raw_events(body: bytes) -> Iterator[tuple[Any, int]]:
    """Each event of a raw object with the time it was received (epoch ms). Raises NotLanded."""
    return map(landed_event, raw_lines(body))


@dataclass(frozen=True, slots=True)
class RawContent:
    """What a raw object holds: `numbers[i]` is the 0-based line of `events[i]`, `faults` are the lines that could not
    be read, with what is wrong with each."""

    events: Sequence[Any]
    numbers: Sequence[int]
    faults: Sequence[tuple[int, str]]

    @property
    def lines(self) -> int:
        return len(self.events) + len(self.faults)


def raw_content(body: bytes) -> RawContent:
    """What of a raw object can be read. Raises NotLanded for what is not gzip."""
    events: list[Any] = []
    numbers: list[int] = []
    faults: list[tuple[int, str]] = []
    for number, line in enumerate(raw_lines(body)):
        try:
            event, _ = landed_event(line)
        except NotLanded as fault:
            faults.append((number, str(fault)))
        else:
            events.append(event)
            numbers.append(number)
    return RawContent(events, numbers, faults)


def message_borders(encoded_events: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """[start, end) of the events that each message of a raw object with these carries."""
    return _runs([len(event) + 8 for event in encoded_events], _EVENTS_BYTES)


def pack(
    raw_key: str,
    received_at_ms: int,
    encoded_events: Sequence[bytes],
    lines: Sequence[int],
    carried: Carried = NOTHING_CARRIED,
) -> list[str]:
    """Message bodies that carry these events in order, each of 240,000 bytes at most."""
    head = _head(raw_key, received_at_ms, carried)
    events = [escaped(event) for event in encoded_events]
    messages = []
    for start, end in message_borders(events):
        numbers = b",".join(b"%d" % line for line in lines[start:end])
        messages.append(b'%s,"lines":[%s],"events":[%s]}' % (head, numbers, b",".join(events[start:end])))
    return [message.decode() for message in messages]


def unpack(body: str) -> Envelope | None:
    """The envelope in a message body; None when it is something else."""
    message = parse_json(body)
    if not isinstance(message, dict) or message.get("v") != VERSION:
        return None
    key, received_at_ms = message.get("raw_key"), message.get("received_at_ms")
    events, lines = message.get("events"), message.get("lines")
    if not _is_text(key) or not _is_count(received_at_ms, 2**63) or not isinstance(events, list):
        return None
    if lines is None:
        lines = list(range(len(events)))
    if not isinstance(lines, list) or len(lines) != len(events):
        return None
    return Envelope(key, received_at_ms, events, lines, _carried(message))


def newer_version(body: str) -> int | None:
    """The version of a message that a newer release has sent, and this one cannot read; None for any other body."""
    message = parse_json(body)
    if not isinstance(message, dict) or not _is_text(message.get("raw_key")):
        return None
    version = message.get("v")
    return version if type(version) is int and version > VERSION else None


def pack_rejections(rejections: Rejections) -> list[str]:
    """Message bodies that carry these refused events, packed by reason, each of 240,000 bytes at most.

    A body that is longer than an event may be is cut, and the detail says so: quotes and backslashes double in it.
    """
    by_reason: dict[str, list[bytes]] = {}
    for one in rejections.refused:
        by_reason.setdefault(one.rejection.reason_code, []).append(_encoded_refusal(one))
    messages = []
    for reason, encoded in by_reason.items():
        head = _head(rejections.raw_key, rejections.received_at_ms, rejections.carried)
        head += b',"reason_code":%s' % encode(reason)
        for start, end in _runs([len(one) + 1 for one in encoded], _EVENTS_BYTES):
            messages.append(b'%s,"rejected":[%s]}' % (head, b",".join(encoded[start:end])))
    return [message.decode() for message in messages]


def unpack_rejections(body: str) -> Rejections | None:
    """The refused events in a message body; None when it is something else, such as a poison message."""
    message = parse_json(body)
    if not isinstance(message, dict) or message.get("v") != VERSION:
        return None
    key, received_at_ms, reason = message.get("raw_key"), message.get("received_at_ms"), message.get("reason_code")
    rejected = message.get("rejected")
    if not _is_text(key) or not _is_count(received_at_ms, 2**63) or not isinstance(rejected, list):
        return None
    if not _is_text(reason) or reason not in REASON_CODES or not all(map(_is_refused, rejected)):
        return None
    refused = [Refused(one["line"], Rejected(reason, one["field"], one["detail"]), one["body"]) for one in rejected]
    return Rejections(key, received_at_ms, refused, _carried(message))


def _encoded_refusal(one: Refused) -> bytes:
    body, detail = one.body.encode(), one.rejection.detail
    if len(body) > EVENT_BYTES:
        detail += f" (its body is cut: {EVENT_BYTES} of {len(body)} bytes; the raw object has all of it)"
    shown = body[:EVENT_BYTES].decode(errors="ignore")
    return encode({"line": one.line, "field": one.rejection.field, "detail": detail, "body": shown})


def _head(raw_key: str, received_at_ms: int, carried: Carried) -> bytes:
    """How a message begins: less than HEAD_BYTES."""
    head = b'{"v":%d,"raw_key":%s,"received_at_ms":%d' % (VERSION, encode(raw_key), received_at_ms)
    if requests := [one for one in carried.requests if _is_name(one)]:
        head += b',"requests":%s' % encode(requests[:CARRIED_REQUESTS])
    if carried.trace and _is_name(carried.trace):
        head += b',"trace":%s' % encode(carried.trace)
    return head


def _carried(message: dict[str, Any]) -> Carried:
    """What a message says goes with its events, without what cannot be that."""
    requests, trace = message.get("requests"), message.get("trace")
    return Carried(
        requests=tuple(filter(_is_name, requests))[:CARRIED_REQUESTS] if isinstance(requests, list) else (),
        trace=trace if _is_name(trace) else None,
    )


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= CARRIED_CHARS and value.isascii() and value.isprintable()


def _is_refused(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and _is_count(one.get("line"), 2**31)
        and (one.get("field") is None or _is_text(one["field"]))
        and _is_text(one.get("detail"))
        and _is_text(one.get("body"))
    )


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and "\0" not in value  # which no database takes


def _is_count(value: Any, below: int) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value < below


def _runs(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive [start, end) whose sizes add up to `limit` at most; one that is larger stands alone."""
    start, total = 0, 0
    for index, size in enumerate(sizes):
        if index > start and total + size > limit:
            yield start, index
            start, total = index, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)
