"""What is known of a (user, movie) pair: three last-write-wins registers.

Each register is a maximum over a total order, so merging is commutative, associative and idempotent: duplicates,
retries, replays and reordering all end in the same state (a state-based CRDT; Shapiro et al. 2011, section 3.2).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from movierec_platform.domain.events import Event

Pair = tuple[int, int]
"""(user_id, movie_id)"""

BUCKETS = 256


def bucket_of(user_id: int) -> int:
    """The bucket of a user, 0 to 255: what is compared, and mended, at once."""
    return user_id % BUCKETS


@dataclass(frozen=True, slots=True)
class PairState:
    """The registers of one pair, in normal form: a rating that a later retract hides is not kept.

    `rating` belongs to `(rated_at_ms, event_id)`, the greatest of all rating events; `seen_at_ms` is the latest rating
    or view, `retracted_at_ms` the latest retract. All times are epoch milliseconds.
    """

    rating: float | None = None
    rated_at_ms: int | None = None
    event_id: str | None = None
    seen_at_ms: int | None = None
    retracted_at_ms: int | None = None

    @property
    def visible(self) -> bool:
        """Whether the user counts as having seen the movie."""
        return self.seen_at_ms is not None and (self.retracted_at_ms is None or self.seen_at_ms > self.retracted_at_ms)

    def merged_with(self, other: "PairState") -> "PairState":
        """The state after what either side knows."""
        rated = max(self, other, key=_rating_order)
        retracted_at_ms = _latest(self.retracted_at_ms, other.retracted_at_ms)
        if rated.rated_at_ms is not None and retracted_at_ms is not None and rated.rated_at_ms <= retracted_at_ms:
            rated = UNSEEN
        return PairState(
            rating=rated.rating,
            rated_at_ms=rated.rated_at_ms,
            event_id=rated.event_id,
            seen_at_ms=_latest(self.seen_at_ms, other.seen_at_ms),
            retracted_at_ms=retracted_at_ms,
        )


UNSEEN = PairState()


def state_of(
    rating: object, rated_at_ms: object, event_id: object, seen_at_ms: object, retracted_at_ms: object
) -> PairState:
    """The state of registers as a store has them: a value of another type, set by hand, counts as never set."""
    return PairState(
        rating=rating if type(rating) is float or type(rating) is int else None,
        rated_at_ms=rated_at_ms if type(rated_at_ms) is int else None,
        event_id=event_id if isinstance(event_id, str) else None,
        seen_at_ms=seen_at_ms if type(seen_at_ms) is int else None,
        retracted_at_ms=retracted_at_ms if type(retracted_at_ms) is int else None,
    )


def registers_of(event: Event) -> PairState:
    """What one event alone says of its pair."""
    at_ms = event.timestamp_ms
    if event.event_type == "retract":
        return PairState(retracted_at_ms=at_ms)
    if event.event_type == "view":
        return PairState(seen_at_ms=at_ms)
    return PairState(rating=event.rating, rated_at_ms=at_ms, event_id=event.event_id, seen_at_ms=at_ms)


def fold(events: Iterable[Event]) -> dict[Pair, PairState]:
    """The state of every pair after these events, in whatever order and however often each is given."""
    states: dict[Pair, PairState] = {}
    for event in events:
        pair = (event.user_id, event.movie_id)
        states[pair] = states.get(pair, UNSEEN).merged_with(registers_of(event))
    return states


def _rating_order(state: PairState) -> tuple[int, str, float]:
    """Later wins; at the same instant the greater event id, then the greater rating (one id, two bodies)."""
    if state.rated_at_ms is None or state.event_id is None or state.rating is None:
        return (-1, "", 0.0)
    return (state.rated_at_ms, state.event_id, state.rating)


def _latest(left: int | None, right: int | None) -> int | None:
    if left is None or right is None:
        return right if left is None else left
    return max(left, right)
