"""Moments as people and programs write them, in any form of ISO 8601."""

from datetime import datetime, timezone

from dateutil.parser import isoparse

from movierec_platform.errors import UsageError


def iso_moment(text: str) -> datetime | None:
    """The moment in ISO 8601, extended or basic, with a zone if it names one; None for anything else."""
    try:
        moment: datetime = isoparse(text)
    except (ValueError, OverflowError):
        return None
    return moment


def epoch_ms(moment: str) -> int:
    """Epoch ms of an ISO-8601 time; without a zone it is UTC. Raises UsageError for anything else."""
    parsed = iso_moment(moment)
    if parsed is None:
        shown = moment if len(moment) <= 40 else f"{moment[:37]}..."
        raise UsageError(f"{shown!r} is no ISO-8601 time, such as 2026-05-01 or 2026-05-01T12:00:00Z")
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)).timestamp() * 1000)
