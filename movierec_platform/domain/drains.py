"""When to launch a drain run: decided from queue depth, the active runs and the lease of each slot. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """Seconds: a run leaves after `linger_s` without work, or hands over at `max_runtime_s` to a successor that was
    launched `overlap_s` before. A started run may be without its lease for `grace_s` while nobody else holds it."""

    linger_s: float
    max_runtime_s: float
    overlap_s: float
    grace_s: float


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A drain run that has not ended; `started_at_s` (epoch) is None until its worker has begun."""

    run_id: str
    started_at_s: float | None


@dataclass(frozen=True, slots=True)
class LeaseView:
    """Which run holds a slot's lease, when a holder last had work, and which run gave it back and when (epoch s)."""

    holder: str | None = None
    last_work_s: float | None = None
    released_by: str | None = None
    released_at_s: float = 0.0


FREE = LeaseView()


@dataclass(frozen=True, slots=True)
class Plan:
    """Slots that need a run now, and runs that are dead although their records say that they are active."""

    launch: tuple[int, ...]
    dead: tuple[str, ...]


def plan(
    waiting: int,
    runs: Mapping[int, Sequence[ActiveRun]],
    leases: Mapping[int, LeaseView],
    slots: int,
    now_s: float,
    policy: DrainPolicy,
) -> Plan:
    """What to do for the slots 0..slots-1 of a queue with this many waiting messages.

    A slot without a living run gets one when messages wait. A slot whose only run is about to hand over gets a
    successor while there is work or was within `linger_s`.
    """
    launch: list[int] = []
    dead: list[str] = []
    for slot in range(slots):
        lease = leases.get(slot, FREE)
        active = runs.get(slot, ())
        slot_dead = [run.run_id for run in active if _is_dead(run, lease, now_s, policy)]
        dead += slot_dead
        living = [run for run in active if run.run_id not in slot_dead]
        busy = waiting > 0 or (lease.last_work_s is not None and now_s - lease.last_work_s < policy.linger_s)
        if (not living and waiting > 0) or (len(living) == 1 and busy and _hands_over(living[0], now_s, policy)):
            launch.append(slot)
    return Plan(tuple(launch), tuple(dead))


def _is_dead(run: ActiveRun, lease: LeaseView, now_s: float, policy: DrainPolicy) -> bool:
    """A started run that does not take a free lease is dead: its worker was killed and nobody noticed.

    One that has just given the lease back is only about to end.
    """
    if lease.holder is not None or run.started_at_s is None:
        return False
    alone_since_s = max(run.started_at_s, lease.released_at_s if lease.released_by == run.run_id else 0.0)
    return now_s - alone_since_s > policy.grace_s


def _hands_over(run: ActiveRun, now_s: float, policy: DrainPolicy) -> bool:
    return run.started_at_s is not None and now_s - run.started_at_s >= policy.max_runtime_s - policy.overlap_s
