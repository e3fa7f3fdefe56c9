"""Puts landed objects back on the raw queue. Harmless at any time: events that took effect already change nothing."""

from datetime import datetime, timezone

from movierec_platform.adapters.objects import ObjectStore, open_objects
from movierec_platform.adapters.queues import QUEUE_NAMES, Queue, Queues, open_queue
from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.budget import LANDING_MS
from movierec_platform.domain.envelope import (
    RAW_PREFIX,
    NotLanded,
    hour_prefix,
    pack,
    raw_content,
    received_at_of,
)
from movierec_platform.domain.json_text import encode
from movierec_platform.domain.set_aside import STRANGE_KEY, SetAside, lines_set_aside
from movierec_platform.errors import MessageRefused
from movierec_platform.services.set_aside import Aside, in_the_log, note_set_aside

DRAINED_MARK = "drained_before_ms"
TALLIES_KEPT_MS = 24 * 60 * 60 * 1000
"""What is through may still be handed out again by SQS, whose depths are approximate: it is not counted again."""


def replay(settings: Settings, since_ms: int, aside: Aside = in_the_log) -> int:
    """Every object received since then (epoch ms) is on the raw queue again; returns how many objects.

    What cannot be read, or sent, costs only itself: `aside` is told of it, and the exporter counts it.
    """
    objects = open_objects(settings)
    raw = open_queue(settings, "raw")
    found: list[SetAside] = []

    def tell(one: SetAside) -> None:
        found.append(one)
        aside(one)

    replayed = 0
    for key in objects.keys(RAW_PREFIX, after=hour_prefix(_moment(since_ms))):
        received_at_ms = received_at_of(key)
        if received_at_ms is None:
            tell(SetAside(key, STRANGE_KEY))
        elif received_at_ms >= since_ms:
            replayed += _replay_object(objects, raw, key, received_at_ms, tell)
    if found:
        note_set_aside(settings, found)
    return replayed


def _replay_object(objects: ObjectStore, raw: Queue, key: str, received_at_ms: int, tell: Aside) -> bool:
    """Whether the object's events are on the raw queue again; what of them cannot be is told."""
    try:
        content = raw_content(objects.get(key))
    except NotLanded as error:
        tell(SetAside(key, str(error)))
        return False
    if faulty := lines_set_aside(key, content.lines, content.faults):
        tell(faulty)
    try:
        raw.send(pack(key, received_at_ms, [encode(event) for event in content.events], content.numbers))
    except MessageRefused as refused:
        tell(SetAside(key, f"part of it: {refused}"))
    return bool(content.events or not content.faults)


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


def replay_after_unclean_stop(settings: Settings, aside: Aside = in_the_log) -> int:
    """Replays what was landed since the queues were last seen empty, for an emulator that forgot them."""
    state = State.open(settings)
    since_ms = state.marked(DRAINED_MARK) or 0
    state.close()
    return replay(settings, since_ms, aside)


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(max(at_ms, 0) / 1000, tz=timezone.utc)
