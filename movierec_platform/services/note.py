"""Notes in the state database what people look at, and nothing decides by."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from movierec_platform.adapters.state import State
from movierec_platform.config import Settings
from movierec_platform.domain.freshness import CounterKey, observe
from movierec_platform.errors import StateUnavailable

COMPACTED, NIGHTLY = "compacted_at_ms", "nightly_at_ms"
"""Marks: when a compaction, and a nightly, last ended well (epoch ms)."""

log = logging.getLogger(__name__)


def note(settings: Settings, counts: Mapping[CounterKey, float], mark: str | None = None) -> None:
    """The counters are greater by these counts, and the mark is now. Where the state database does not answer, the log
    says so: what was done is done."""
    try:
        with closing(State.open(settings)) as state:
            state.add(counts)
            if mark is not None:
                state.mark(mark, time.time_ns() // 1_000_000)
    except StateUnavailable as error:
        log.warning("not counted: %s: %s", ", ".join(sorted({name for name, _ in counts})) or mark, error)


def note_duration(settings: Settings, name: str, seconds: float, mark: str) -> None:
    """The histogram has one observation more, and the mark is now."""
    note(settings, observe(seconds, 1, name), mark)


class Run:
    """A drain run that goes on; `ended` says why it ended, when it does."""

    ended = "canceled"


@contextmanager
def noted_run(settings: Settings, queue: str) -> Iterator[Run]:
    """The counters tell that a drain run of this queue began, and how it ended."""
    run = Run()
    note(settings, {("movierec_drain_runs_started_total", (("queue", queue),)): 1})
    try:
        yield run
    except Exception:
        run.ended = "failed"
        raise
    finally:
        note_ending(settings, queue, run.ended)


def note_ending(settings: Settings, queue: str, because: str) -> None:
    """The counters tell that a drain run of this queue ended, and why."""
    note(settings, {("movierec_drain_runs_ended_total", (("queue", queue), ("because", because))): 1})
