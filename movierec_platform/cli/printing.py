"""Where a command prints, and how what it prints is written."""

import time
from collections.abc import Mapping

from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


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
    """The text with rich's markup escaped."""
    from rich.markup import escape

    return escape(text)
