"""Puts landed objects back on the raw queue. Harmless at any time: events that took effect already change nothing."""

from collections.abc import Iterator
from datetime import datetime, timezone

from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.adapters.queues import QUEUE_NAMES, Queues, open_queue
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.budget import LANDING_MS
from movierec_platform.domain.envelope import RAW_PREFIX, encode, hour_prefix, pack, raw_events

DRAINED_MARK = "drained_before_ms"
TALLIES_KEPT_MS = 24 * 60 * 60 * 1000
"""What is through may still be handed out again by SQS, whose depths are approximate: it is not counted again."""


def replay(settings: Settings, since_ms: int) -> int:
    """Every object received since then (epoch ms) is on the raw queue again; returns how many objects."""
    objects = open_objects(settings)
    raw = open_queue(settings, "raw")
    replayed = 0
    for key, received_at_ms in _landed_since(objects, since_ms):
        encoded = [encode(event) for event, _ in raw_events(objects.get(key))]
        raw.send(pack(key, received_at_ms, encoded, range(len(encoded))))
        replayed += 1
    return replayed


def note_drained(settings: Settings, state: State, queues: Queues, now_ms: int) -> bool:
    """Remembers that what was landed before now is through, if all queues are empty; returns whether they are."""
    if any(queues.named(name).depth().total for name in QUEUE_NAMES):
        return False
    drained_before_ms = now_ms - LANDING_MS
    state.mark(DRAINED_MARK, drained_before_ms)
    state.forget_tallies(drained_before_ms - TALLIES_KEPT_MS)
    return True


def replay_from(state: State, at_ms: int) -> None:
    """After an unclean stop, what was received since then is replayed too, although it was through before."""
    if at_ms < (state.marked(DRAINED_MARK) or 0):
        state.mark(DRAINED_MARK, at_ms)


def replay_after_unclean_stop(settings: Settings) -> int:
    """Replays what was landed since the queues were last seen empty, for an emulator that forgot them."""
    state = State.open(settings)
    since_ms = state.marked(DRAINED_MARK) or 0
    state.close()
    return replay(settings, since_ms)


def _landed_since(objects: ObjectStore, since_ms: int) -> Iterator[tuple[str, int]]:
    """(key, time received) of each object received since then, in order."""
    start = datetime.fromtimestamp(max(since_ms, 0) / 1000, tz=timezone.utc)
    for key in objects.keys(RAW_PREFIX, after=hour_prefix(start)):
        received_at_ms = int(key.rpartition("/")[2].partition("-")[0])
        if received_at_ms >= since_ms:
            yield key, received_at_ms
