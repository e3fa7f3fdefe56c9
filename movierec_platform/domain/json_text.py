"""JSON as every part of the platform reads and writes it: one reader with one set of limits.

Requests, raw lines, messages and bodies in quarantine are read by `read_json`. What is to be landed goes through
`landable`: it can then be read back whatever wraps it, and sent in every kind of message.
"""

import codecs
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pydantic_core

EVENT_BYTES = 64 * 1024
"""One event, encoded, at most."""
EVENT_DEPTH = 100
"""Nesting of one event, at most: a line and a message wrap it, and the reader stops at 201 levels."""
_PLACE = re.compile(r" at line (\d+) column (\d+)$")
_CONTAINERS = frozenset((dict, list))
_LOOKED_AT = frozenset((dict, list, float))


class NotJson(ValueError):
    """Text that the reader does not take: str() says why; `line` and `column`, from 1, where it is known."""

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


class NotLandable(ValueError):
    """An event that could not be sent, or read back, once it were landed: `index` says which of those given."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"event {index} {reason}")
        self.index = index


def read_json(text: str | bytes) -> Any:
    """The value in this text. Raises NotJson: NaN, Infinity and numbers that overflow to it are not JSON, and neither
    is what is nested deeper than 201 levels. A byte order mark may be in front."""
    bare = text.removeprefix("\ufeff") if isinstance(text, str) else text.removeprefix(codecs.BOM_UTF8)
    try:
        value = pydantic_core.from_json(bare, allow_inf_nan=False)
    except ValueError as error:
        place = _PLACE.search(str(error))
        if place is None:
            raise NotJson(str(error)) from None
        raise NotJson(str(error)[: place.start()], int(place[1]), int(place[2])) from None
    if _overflows(value):
        raise NotJson("a number is beyond 1.8e308, where readers stop")
    return value


def encode(value: Any) -> bytes:
    """The value as compact JSON, in characters that SQS takes: two code points stand there escaped."""
    return escaped(pydantic_core.to_json(value))


def escaped(text: bytes) -> bytes:
    """The JSON text with U+FFFE and U+FFFF escaped: sizes are taken afterwards."""
    if b"\xef\xbf" not in text:
        return text
    return text.replace(b"\xef\xbf\xbe", rb"\ufffe").replace(b"\xef\xbf\xbf", rb"\uffff")


def landable(events: Sequence[Any]) -> list[bytes]:
    """Each event as it is landed: read back from a line, a message or a refusal it is the same.

    Raises NotLandable for the first of which that is not so.
    """
    texts = [encode(event) for event in events]
    for index, (event, text) in enumerate(zip(events, texts, strict=True)):
        if len(text) > EVENT_BYTES:
            raise NotLandable(index, f"has {len(text)} bytes; an event has {EVENT_BYTES} at most")
        if text.count(b"[") + text.count(b"{") > EVENT_DEPTH and deeper_than(event, EVENT_DEPTH):
            raise NotLandable(index, f"is nested deeper than {EVENT_DEPTH} levels")
    if not _read_back(b"[%s]" % b",".join(texts), events):
        faulty = next((index for index, text in enumerate(texts) if not _read_back(text, events[index])), 0)
        raise NotLandable(faulty, "could not be read back as it is")
    return texts


def deeper_than(value: Any, depth: int) -> bool:
    """Whether the value has more levels of arrays and objects than this."""
    level = _containers((value,))
    for _ in range(depth):
        level = _containers(inner for outer in level for inner in _values(outer))
    return bool(level)


def _read_back(text: bytes, value: Any) -> bool:
    try:
        return bool(read_json(text) == value)
    except NotJson:
        return False


def _overflows(value: Any) -> bool:
    """Whether a number somewhere in the value became infinite when it was read."""
    level = [value] if type(value) in _LOOKED_AT else []
    while level:
        floats = [one for one in level if type(one) is float]
        if math.inf in floats or -math.inf in floats:
            return True
        level = [
            inner
            for outer in level
            if type(outer) is not float
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _LOOKED_AT
        ]
    return False


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if type(value) in _CONTAINERS]


def _values(container: Any) -> Iterable[Any]:
    return container.values() if type(container) is dict else container
