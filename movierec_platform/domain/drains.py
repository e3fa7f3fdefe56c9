"""When to launch a drain run: decided from queue depth, the active runs and the lease of each slot. Pure.

Durations are what ticks have seen, added up: no time that another process or machine wrote is ever compared with this
one's clock. So a clock that jumps neither makes a run look dead or old, nor hides that it is.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

LONGEST_TICK_S = 15.0
"""What one tick adds at most: sensors may have been off, or have moved to a machine with another clock."""
MOST_DEFECTS = 5
"""Attempts on one message that a defect ended, or that ended their process; then it is poison."""
SUSPECT_RECEIVES = 3
"""From this receive on a message may be what kills the runs: it is worked on by itself."""
START_WITHIN_S = 60.0
"""A launched run has begun by then, or never will; Dagster's run monitoring allows as much, by the wall clock."""


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """Seconds: a run leaves after `linger_s` without work, or hands over at `max_runtime_s` to a successor that was
    launched `overlap_s` before. A started run may be without its lease for `grace_s` while nobody else holds it.
    An infinite `linger_s` keeps a run in each slot although nothing waits."""

    linger_s: float
    max_runtime_s: float
    overlap_s: float
    grace_s: float

    @property
    def resident(self) -> bool:
        return math.isinf(self.linger_s)


Phase = Literal["queued", "starting", "started"]


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A drain run that has not ended: it waits to be launched, is being launched, or its worker has begun."""

    run_id: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class LeaseView:
    """Which run holds a slot's lease, when a holder last had work, which run gave it back and when, or which lost it:
    the lease is free although its last holder, which must be dead, never gave it back.

    The times (epoch s) are of the clock of whoever wrote them: for people, and to see that something changed.
    """

    holder: str | None = None
    last_work_s: float | None = None
    released_by: str | None = None
    released_at_s: float = 0.0
    lost_by: str | None = None


FREE = LeaseView()

Situation = Literal["queued", "starting", "holds", "waits", "absent", "lost"]


@dataclass(frozen=True, slots=True)
class SeenRun:
    """How a run stands to its lease, for how many seconds on end, and for how many its worker has run.

    It `waits` while another holds the lease, and is `absent` while nobody does, or has `lost` it.
    """

    situation: Situation
    for_s: float
    age_s: float


@dataclass(frozen=True, slots=True)
class SeenWork:
    """The time of last work that a slot's lease tells, and for how many seconds it has told this one."""

    last_work_s: float | None
    for_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What the ticks so far have seen: active runs by id, and work by slot (as text, as JSON has it)."""

    runs: Mapping[str, SeenRun] = field(default_factory=dict)
    work: Mapping[str, SeenWork] = field(default_factory=dict)

    def as_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Memory":
        """The memory in this text; an empty one if there is none in it."""
        try:
            content = json.loads(text)
            return cls(
                {run_id: SeenRun(**seen) for run_id, seen in content["runs"].items()},
                {slot: SeenWork(**seen) for slot, seen in content["work"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()


@dataclass(frozen=True, slots=True)
class Plan:
    """Slots that need a run now, and runs that are dead although their records say that they are active."""

    launch: tuple[int, ...]
    dead: tuple[str, ...]


def is_suspect(receive_count: int) -> bool:
    """Whether a message that was received so often is worked on by itself, with its attempts counted."""
    return receive_count >= SUSPECT_RECEIVES


def remember(
    before: Memory, runs: Mapping[int, Sequence[ActiveRun]], leases: Mapping[int, LeaseView], elapsed_s: float
) -> Memory:
    """What is known after this tick, `elapsed_s` after the last one; a run seen first starts at 0 s."""
    passed_s = min(max(elapsed_s, 0.0), LONGEST_TICK_S)
    seen_runs = {
        run.run_id: _seen_run(before.runs.get(run.run_id), run, leases.get(slot, FREE), passed_s)
        for slot, active in runs.items()
        for run in active
    }
    seen_work = {
        str(slot): _seen_work(before.work.get(str(slot)), lease.last_work_s, passed_s) for slot, lease in leases.items()
    }
    return Memory(seen_runs, seen_work)


def plan(
    waiting: int,
    runs: Mapping[int, Sequence[ActiveRun]],
    leases: Mapping[int, LeaseView],
    slots: int,
    memory: Memory,
    policy: DrainPolicy,
) -> Plan:
    """What to do for the slots 0..slots-1 of a queue with this many waiting messages; memory includes this tick.

    A slot without a living run gets one when messages wait, or when runs are resident. A slot whose only run is about
    to hand over gets a successor in these cases, and if there was work within `linger_s`. A slot beyond them, once
    configured, only loses its dead.
    """
    launch: list[int] = []
    dead: list[str] = []
    for slot in sorted({*range(slots), *runs}):
        active = runs.get(slot, ())
        slot_dead = [run.run_id for run in active if _is_dead(memory.runs[run.run_id], policy)]
        dead += slot_dead
        living = [run for run in active if run.run_id not in slot_dead]
        if slot < slots and _needs_run(waiting, living, slot, leases.get(slot, FREE), memory, policy):
            launch.append(slot)
    return Plan(tuple(launch), tuple(dead))


def _needs_run(
    waiting: int, living: Sequence[ActiveRun], slot: int, lease: LeaseView, memory: Memory, policy: DrainPolicy
) -> bool:
    if not living:
        # A holder without an active record (somebody declared it ended) drains on: another could only wait for it.
        return (waiting > 0 or policy.resident) and lease.holder is None
    if len(living) > 1 or memory.runs[living[0].run_id].age_s < policy.max_runtime_s - policy.overlap_s:
        return False
    work = memory.work.get(str(slot))
    worked_lately = work is not None and work.last_work_s is not None and work.for_s < policy.linger_s
    return waiting > 0 or policy.resident or worked_lately


def _seen_run(last: SeenRun | None, run: ActiveRun, lease: LeaseView, passed_s: float) -> SeenRun:
    situation = _situation(run, lease)
    if last is None:
        return SeenRun(situation, 0.0, 0.0)
    return SeenRun(
        situation,
        for_s=last.for_s + passed_s if last.situation == situation else 0.0,
        age_s=last.age_s + passed_s if run.phase == "started" else 0.0,
    )


def _seen_work(last: SeenWork | None, last_work_s: float | None, passed_s: float) -> SeenWork:
    unchanged = last is not None and last.last_work_s == last_work_s
    return SeenWork(last_work_s, last.for_s + passed_s if last and unchanged else 0.0)


def _situation(run: ActiveRun, lease: LeaseView) -> Situation:
    if lease.holder == run.run_id:
        return "holds"
    if lease.lost_by == run.run_id:
        return "lost"
    if run.phase != "started":
        return run.phase
    return "absent" if lease.holder is None else "waits"


def _is_dead(seen: SeenRun, policy: DrainPolicy) -> bool:
    """Its worker is gone and nobody noticed: it lost its lease, does not begin, does not take a free lease, or waits
    for longer than it may before it gives up. One that has just given the lease back is only about to end."""
    allowed_s = {
        "lost": 0.0,
        "starting": START_WITHIN_S,
        "absent": policy.grace_s,
        "waits": policy.overlap_s + 2 * policy.grace_s,
    }.get(seen.situation)
    return allowed_s is not None and seen.for_s >= allowed_s
