"""What may be done with refused events: their standings, which of them are meant, what a redrive lands. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from movierec_platform.domain.envelope import unpack
from movierec_platform.domain.events import RANK_AHEAD_MS, epoch_ms
from movierec_platform.domain.gate import AHEAD_MS, REASON_CODES, Rejected, judge, parse_json
from movierec_platform.domain.json_text import EVENT_BYTES, NotLandable, landable
from movierec_platform.errors import UsageError

Status = Literal["held", "redriving", "redriven", "discarded"]
"""held -> redriving (a redrive claimed it) -> redriven -> held again if it is refused again; held -> discarded."""
STATUSES: tuple[Status, ...] = ("held", "redriving", "redriven", "discarded")
HELD_NOW: tuple[Status, ...] = ("held", "redriving")
"""Until a redrive is through, its rows are held."""
POISON = "poison"
"""The reason code of rows whose body is a whole message rather than one event."""
MAX_ATTEMPTS = 5
MAX_IDS = 1_000


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows with this reason code, first received since then (epoch ms), of this user; None: whatever it is.

    Raises UsageError for a reason code that does not exist.
    """

    reason: str | None = None
    since_ms: int | None = None
    user_id: int | None = None

    def __post_init__(self) -> None:
        if self.reason is not None and self.reason not in REASON_CODES:
            raise UsageError(f"{self.reason!r} is no reason code; there are: {', '.join(sorted(REASON_CODES))}")


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that a redrive or a discard is about: these ids, or else what the filter finds.

    Raises UsageError unless the caller said which: ids, a filter, or that all are meant.
    """

    ids: Sequence[str] = ()
    where: Filter = EVERYTHING
    everything: bool = False

    def __post_init__(self) -> None:
        said = [bool(self.ids), self.where != EVERYTHING, self.everything]
        if said.count(True) != 1:
            raise UsageError("say which rows are meant: by their ids, or by reason, since and user, or all of them")
        if len(self.ids) > MAX_IDS:
            raise UsageError(f"{len(self.ids)} ids are too many: {MAX_IDS} at most, or a filter")


def statuses_named(name: str) -> tuple[Status, ...]:
    """The statuses that this name asks for: `held` with what a redrive has begun, `all`, or one by itself.

    Raises UsageError for any other name.
    """
    named: dict[str, tuple[Status, ...]] = {
        "all": STATUSES,
        **{status: (status,) for status in STATUSES},
        "held": HELD_NOW,
    }
    if name not in named:
        raise UsageError(f"{name[:40]!r} is no status; there are: {', '.join(named)}")
    return named[name]


def user_id_in(body: str) -> int | None:
    """The user id of the event in this JSON text; None where there is none that could be one."""
    event = parse_json(body)
    user_id = event.get("user_id") if isinstance(event, dict) else None
    is_one = isinstance(user_id, int) and not isinstance(user_id, bool) and 0 < user_id < 2**63
    return user_id if is_one else None


def event_to_land(body: str, received_at_ms: int | None) -> bytes | None:
    """The event in this text, encoded, as a redrive lands it; None when it is too long or too deep to travel.

    Text that is not JSON is landed as a JSON string, as the gate does. An event has the time at which it would have
    ranked when it was first received, so that a redrive makes it no newer.
    """
    if len(body.encode()) > EVENT_BYTES - 4:  # the gate may have cut it there
        return None
    value = parse_json(body)
    try:
        [encoded] = landable([_stamped(body if isinstance(value, Rejected) else value, received_at_ms)])
    except NotLandable:
        return None
    return encoded


def why_not_landable(message: str) -> str | None:
    """Why the gate cannot land this whole message; None if it can, or if there is nothing to land."""
    if unpack(message) is not None:
        return None
    value = parse_json(message)
    events = [message] if isinstance(value, Rejected) else value if isinstance(value, list) else [value]
    try:
        landable(events)
    except NotLandable as error:
        return str(error)
    return None


def verdict_on(body: str, reason_code: str, received_at_ms: int | None, now_ms: int) -> Rejected | None:
    """What the gate would refuse if this body were redriven now; None when it would accept it.

    In a whole message it is the first event that would be refused. Which movies there are, the gate does not know.
    """
    value = parse_json(body)
    if isinstance(value, Rejected):
        return value
    if reason_code != POISON:
        verdict = judge(_stamped(value, received_at_ms), now_ms)
        return verdict if isinstance(verdict, Rejected) else None
    envelope = unpack(body)
    events = envelope.events if envelope else value if isinstance(value, list) else [value]
    received_at_ms = envelope.received_at_ms if envelope else now_ms
    for index, event in enumerate(events):
        verdict = judge(event, received_at_ms)
        if isinstance(verdict, Rejected):
            return Rejected(verdict.reason_code, verdict.field, f"event {index} of the message: {verdict.detail}")
    return None


def _stamped(event: Any, received_at_ms: int | None) -> Any:
    """The event with the time at which it would have ranked, had the gate accepted it when it was received."""
    if not isinstance(event, dict) or received_at_ms is None:
        return event
    posted = event.get("timestamp")
    claimed_ms = received_at_ms if posted is None else epoch_ms(posted)
    if claimed_ms is None or claimed_ms > received_at_ms + AHEAD_MS:  # out of range then: the gate judges it by today
        return event
    rank_ms = min(claimed_ms, received_at_ms + RANK_AHEAD_MS)
    return event if posted is not None and rank_ms == claimed_ms else {**event, "timestamp": rank_ms}
