"""Raw objects that could not be read, or not all of them: they are passed over, and the rest of their day goes on."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from itertools import groupby

from movierec_platform.domain.envelope import RAW_PREFIX, RAW_SUFFIX
from movierec_platform.domain.gate import AHEAD_MS

NAMED = 10
"""Objects of a day that are named, at most."""
STRANGE_KEY = f"its key is not {RAW_PREFIX}date=YYYY-MM-DD/hour=HH/MILLISECONDS-TOKEN{RAW_SUFFIX}"
_FOLDER = f"{RAW_PREFIX}date="


@dataclass(frozen=True, slots=True, order=True)
class SetAside:
    """An object under the prefix of raw objects, and why it was not read, or which part of it."""

    key: str
    reason: str

    @property
    def day(self) -> str | None:
        """The day (UTC) that it was landed on; None where it stands outside of the days."""
        folder = self.key.removeprefix(_FOLDER).partition("/")[0] if self.key.startswith(_FOLDER) else ""
        return folder if is_day(folder) else None


def is_day(text: str) -> bool:
    """Whether this is a date as the keys of raw objects have it."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def end_ms(day: str) -> int:
    """When this day (UTC) is over (epoch ms)."""
    end = datetime.combine(date.fromisoformat(day) + timedelta(days=1), datetime.min.time(), timezone.utc)
    return int(end.timestamp() * 1000)


def latest_claim_ms(set_aside: Iterable[SetAside]) -> int | None:
    """No event in these objects can claim a later time than this (epoch ms); None where none is of a day."""
    days = [one.day for one in set_aside if one.day]
    return end_ms(max(days)) + AHEAD_MS if days else None


def lines_set_aside(key: str, lines: int, faults: Iterable[tuple[int, str]]) -> SetAside | None:
    """The object of so many lines, if some are at fault: (0-based line, why) each."""
    found = list(faults)
    if not found:
        return None
    first, why = found[0]
    return SetAside(key, f"{len(found)} of its {lines} lines, first line {first + 1}: {why}")


def told_by_day(set_aside: Iterable[SetAside]) -> list[str]:
    """A sentence for each day."""
    sentences = []
    for day, ones in groupby(sorted(set(set_aside), key=lambda one: (one.day or "", one)), key=lambda one: one.day):
        found = list(ones)
        named = "; ".join(f"{one.key} ({one.reason})" for one in found[:NAMED])
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        where = day or "outside of the days"
        sentences.append(f"{where}: {len(found)} raw objects could not be read and were set aside: {named}{more}")
    return sentences
