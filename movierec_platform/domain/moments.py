"""Moments that people write."""

from datetime import datetime, timezone

from movierec_platform.errors import UsageError


def epoch_ms(moment: str) -> int:
    """Epoch ms of an ISO-8601 time; without a zone it is UTC. Raises UsageError for anything else."""
    try:
        parsed = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        shown = moment if len(moment) <= 40 else f"{moment[:37]}..."
        raise UsageError(f"{shown!r} is no ISO-8601 time, such as 2026-05-01 or 2026-05-01T12:00:00Z") from None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)).timestamp() * 1000)
