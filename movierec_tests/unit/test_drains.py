"""When a drain run is launched, replaced, or left alone; and that no clock decides it but the ticks' own."""

import math
from collections.abc import Sequence

import pytest

from movierec_platform.domain.drains import (
    FREE,
    ActiveRun,
    DrainPolicy,
    LeaseView,
    Memory,
    Phase,
    SeenRun,
    SeenWork,
    plan,
    remember,
)

POLICY = DrainPolicy(linger_s=60, max_runtime_s=600, overlap_s=30, grace_s=20)
WORK_S = 1_790_000_000.0
HELD = LeaseView("a", WORK_S)
GIVEN_BACK = LeaseView(None, WORK_S, "a", WORK_S + 1)
GIVEN_BACK_BY_B = LeaseView(None, WORK_S, "b", WORK_S + 1)
KILLED = LeaseView(None, WORK_S, lost_by="a")
KILLED_B = LeaseView(None, WORK_S, lost_by="b")

A = ActiveRun("a", "started")
B = ActiveRun("b", "started")


def holds(age_s: float) -> SeenRun:
    return SeenRun("holds", age_s, age_s)


def absent(seconds: float) -> SeenRun:
    return SeenRun("absent", seconds, seconds)


def waits(seconds: float) -> SeenRun:
    return SeenRun("waits", seconds, seconds)


def starts(seconds: float) -> SeenRun:
    return SeenRun("starting", seconds, 0)


@pytest.mark.parametrize(
    ("case", "waiting", "runs", "lease", "idle_s", "launch", "dead"),
    [
        ("nothing to do", 0, {}, FREE, 0, (), ()),
        ("messages wait and nobody drains", 5, {}, FREE, 0, (0,), ()),
        ("a run waits for its launch", 5, {ActiveRun("a", "queued"): SeenRun("queued", 900, 0)}, FREE, 0, (), ()),
        ("a run is being launched", 5, {ActiveRun("a", "starting"): starts(59)}, FREE, 0, (), ()),
        ("a launch that never ends", 5, {ActiveRun("a", "starting"): starts(60)}, FREE, 0, (0,), ("a",)),
        ("a run is at work", 5, {A: holds(300)}, HELD, 0, (), ()),
        ("a run has only just started", 5, {A: absent(10)}, FREE, 0, (), ()),
        ("a run hands over soon", 5, {A: holds(570)}, HELD, 0, (0,), ()),
        ("it hands over soon and worked lately", 0, {A: holds(570)}, HELD, 59, (0,), ()),
        ("it hands over soon but idles", 0, {A: holds(570)}, HELD, 60, (), ()),
        ("its successor waits already", 5, {A: holds(590), B: waits(19)}, HELD, 0, (), ()),
        ("its successor waits until it gives up", 5, {A: holds(650), B: waits(69)}, HELD, 0, (), ()),
        ("the successor is gone", 5, {A: holds(620), B: waits(70)}, HELD, 0, (0,), ("b",)),
        ("the predecessor's record never ended", 5, {B: waits(70), A: holds(100)}, HELD, 0, (), ("b",)),
        ("a killed run is replaced", 5, {A: absent(20)}, FREE, 0, (0,), ("a",)),
        ("a killed run without messages is only buried", 0, {A: absent(20)}, FREE, 0, (), ("a",)),
        ("a run that gave its lease back is ending", 5, {A: SeenRun("absent", 5, 500)}, GIVEN_BACK, 0, (), ()),
        ("one that never ended after that is dead", 5, {A: SeenRun("absent", 20, 500)}, GIVEN_BACK, 0, (0,), ("a",)),
        ("a holder that was killed is replaced at once", 5, {A: SeenRun("lost", 0, 300)}, FREE, 0, (0,), ("a",)),
        ("worker and successor are gone", 5, {A: absent(25), B: absent(25)}, FREE, 0, (0,), ("a", "b")),
        ("a holder whose record has ended drains on", 5, {}, HELD, 0, (), ()),
    ],
)  # fmt: skip
def test_one_slot(
    case: str, waiting: int, runs: dict[ActiveRun, SeenRun], lease: LeaseView, idle_s: float, launch: tuple, dead: tuple
) -> None:
    memory = Memory({run.run_id: seen for run, seen in runs.items()}, {"0": SeenWork(lease.last_work_s, idle_s)})
    decided = plan(waiting, {0: list(runs)}, {0: lease}, 1, memory, POLICY)
    assert (decided.launch, decided.dead) == (launch, dead), case


RESIDENT = DrainPolicy(linger_s=math.inf, max_runtime_s=600, overlap_s=30, grace_s=20)


@pytest.mark.parametrize(
    ("case", "runs", "lease", "launch", "dead"),
    [
        ("nobody drains", {}, FREE, (0,), ()),
        ("a run has never had work", {A: holds(300)}, LeaseView("a", WORK_S), (), ()),
        ("it hands over soon", {A: holds(570)}, HELD, (0,), ()),
        ("its successor waits already", {A: holds(590), B: waits(19)}, HELD, (), ()),
        ("the successor begins, the run before is ending", {B: holds(1), A: absent(1)}, LeaseView("b", WORK_S), (), ()),
        ("a killed run is replaced", {A: absent(20)}, FREE, (0,), ("a",)),
        ("another work has its place", {}, LeaseView("rebuild", WORK_S), (), ()),
    ],
)
def test_one_slot_with_resident_runs_and_no_messages(
    case: str, runs: dict[ActiveRun, SeenRun], lease: LeaseView, launch: tuple, dead: tuple
) -> None:
    memory = Memory({run.run_id: seen for run, seen in runs.items()}, {"0": SeenWork(lease.last_work_s, 9_000)})
    decided = plan(0, {0: list(runs)}, {0: lease}, 1, memory, RESIDENT)
    assert (decided.launch, decided.dead) == (launch, dead), case


def test_every_free_slot_is_filled_and_busy_ones_are_left_alone() -> None:
    decided = plan(5, {1: [A]}, {1: HELD}, 3, Memory({"a": holds(100)}), POLICY)
    assert decided.launch == (0, 2)


def test_a_slot_that_is_configured_no_more_gets_no_run_but_its_dead_are_found() -> None:
    decided = plan(5, {0: [A], 3: [B]}, {0: HELD}, 1, Memory({"a": holds(100), "b": absent(20)}), POLICY)
    assert (decided.launch, decided.dead) == ((), ("b",))


Tick = tuple[float, Phase, LeaseView]


@pytest.mark.parametrize(
    ("case", "ticks", "seen"),
    [
        ("seen first", [(0, "started", HELD)], SeenRun("holds", 0, 0)),
        ("time adds up", [(0, "started", HELD), (5, "started", HELD), (6, "started", HELD)], SeenRun("holds", 11, 11)),
        ("it begins", [(0, "starting", FREE), (5, "starting", FREE), (5, "started", FREE)], SeenRun("absent", 0, 5)),
        ("it takes the lease", [(0, "started", FREE), (9, "started", HELD)], SeenRun("holds", 0, 9)),
        ("another has it", [(0, "started", FREE), (5, "started", LeaseView("b"))], SeenRun("waits", 0, 5)),
        ("it gives it back", [(0, "started", HELD), (5, "started", GIVEN_BACK)], SeenRun("absent", 0, 5)),
        ("it vanishes", [(0, "started", HELD), (5, "started", KILLED)], SeenRun("lost", 0, 5)),
        ("it vanished unseen", [(0, "starting", FREE), (5, "started", KILLED)], SeenRun("lost", 0, 5)),
        ("after one gave it back", [(0, "started", FREE), (5, "started", GIVEN_BACK_BY_B)], SeenRun("absent", 5, 5)),
        ("after one vanished", [(0, "started", FREE), (5, "started", KILLED_B)], SeenRun("absent", 5, 5)),
        ("a queued run has no age", [(0, "queued", FREE), (5, "queued", FREE)], SeenRun("queued", 5, 0)),
        ("a clock set back an hour", [(0, "started", FREE), (-3600, "started", FREE)], SeenRun("absent", 0, 0)),
        ("a clock set forward an hour", [(0, "started", FREE), (3600, "started", FREE)], SeenRun("absent", 15, 15)),
    ],
)  # fmt: skip
def test_what_ticks_remember_of_a_run(case: str, ticks: Sequence[Tick], seen: SeenRun) -> None:
    memory = Memory()
    for elapsed_s, phase, lease in ticks:
        memory = remember(memory, {0: [ActiveRun("a", phase)]}, {0: lease}, elapsed_s)
    assert memory.runs == {"a": seen}, case


def test_a_run_that_ended_is_forgotten() -> None:
    memory = remember(Memory(), {0: [A]}, {0: HELD}, 0)
    assert remember(memory, {}, {0: GIVEN_BACK}, 5).runs == {}


def test_work_is_recent_as_long_as_its_time_changes_whatever_that_time_is() -> None:
    memory = Memory()
    for last_work_s, elapsed_s, idle_s in [
        (WORK_S, 5, 0.0),
        (WORK_S, 5, 5.0),
        (WORK_S, 6, 11.0),
        (WORK_S - 3600, 5, 0.0),
        (WORK_S - 3600, 5, 5.0),
        (WORK_S + 3600, 5, 0.0),
    ]:
        memory = remember(memory, {}, {0: LeaseView("a", last_work_s)}, elapsed_s)
        assert memory.work == {"0": SeenWork(last_work_s, idle_s)}


@pytest.mark.parametrize("jump_s", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize("tick_s", [5.0, 9.8])
def test_a_run_killed_before_it_had_the_lease_is_replaced_within_grace_and_a_tick_although_the_clock_jumps(
    tick_s: float, jump_s: float
) -> None:
    memory, passed_s = remember(Memory(), {0: [A]}, {0: FREE}, tick_s), 0.0
    for tick in range(1, 10):
        view = LeaseView(None, WORK_S + jump_s)
        memory = remember(memory, {0: [A]}, {0: view}, tick_s + (jump_s if tick == 2 else 0.0))
        passed_s += tick_s
        decided = plan(5, {0: [A]}, {0: view}, 1, memory, POLICY)
        if decided.dead:
            break
    assert (decided.launch, decided.dead) == ((0,), ("a",))
    assert passed_s <= POLICY.grace_s + 2 * tick_s


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_healthy_holder_outlives_a_clock_that_jumps_at_any_tick(jump_s: float) -> None:
    for jumping in range(1, 100):
        memory = Memory()
        for tick in range(100):
            elapsed_s = 5 + (jump_s if tick == jumping else 0.0)
            view = LeaseView("a", WORK_S + tick + (jump_s if tick >= jumping else 0.0))
            memory = remember(memory, {0: [A]}, {0: view}, elapsed_s)
            decided = plan(5, {0: [A]}, {0: view}, 1, memory, POLICY)
            assert (decided.launch, decided.dead) == ((), ())


def test_the_memory_survives_the_cursor_and_any_other_text_is_none() -> None:
    memory = remember(Memory(), {0: [A], 1: [B]}, {0: HELD, 1: FREE}, 0)
    assert Memory.from_json(memory.as_json()) == memory
    for text in ("", "7", "null", "[]", '{"runs": 1}', '{"runs": {"a": {}}, "work": {}}', "\x00"):
        assert Memory.from_json(text) == Memory()
