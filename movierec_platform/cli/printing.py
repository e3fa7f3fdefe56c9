"""Where a command prints, and how what it prints is written.

Commands print by way of this module only: titles, bodies and messages of others reach no terminal with control
characters in them.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from movierec_platform.domain.texts import harmless, with_escapes
from movierec_platform.local.tables import print_table

# A width of nothing, as some terminals of editors say: rich, and typer's help with it, would print nothing.
if not os.environ.get("COLUMNS", "").strip("0"):
    os.environ.pop("COLUMNS", None)


class _Harmless(Console):
    """A console that prints styles of its own, and of what it is given text without control characters."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)


out = _Harmless(highlight=False, soft_wrap=True)
err = _Harmless(stderr=True, highlight=False, soft_wrap=True)


def print_line(text: str) -> None:
    """The text is on stdout as it is: no markup, no wrapping."""
    print(harmless(text))


def print_json(value: Any) -> None:
    """The value is on stdout as a line of JSON."""
    print(with_escapes(json.dumps(value, ensure_ascii=False)))


def show(table: Table) -> None:
    """Prints the table on standard output, whole."""
    print_table(out, table)


def moment(at_ms: int | None) -> str:
    """ISO-8601, in UTC, to the second; nothing for None."""
    if at_ms is None:
        return ""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))


def day(at_ms: int | None) -> str:
    """The day of it, in UTC."""
    return moment(at_ms)[:10]


def counted(by_reason: Mapping[str, int]) -> str:
    """The sum, and its parts where there are any."""
    parts = ", ".join(f"{code} {n}" for code, n in sorted(by_reason.items()) if n)
    return f"{sum(by_reason.values())}{f' ({parts})' if parts else ''}"


def plain(text: str) -> str:
    """The text with rich's markup escaped, and as wide as it is printed."""
    from rich.markup import escape

    return escape(harmless(text))
