"""When a drain run is launched, replaced, or left alone."""

import pytest

from movierec_platform.domain.drains import FREE, ActiveRun, DrainPolicy, LeaseView, plan

POLICY = DrainPolicy(linger_s=60, max_runtime_s=600, overlap_s=30, grace_s=20)
NOW = 10_000.0
GAVE_BACK = LeaseView(None, None, "a", NOW - 1)
LONG_BACK = LeaseView(None, None, "a", NOW - 21)


def held_by(run_id: str, worked_ago_s: float = 0.0) -> LeaseView:
    return LeaseView(run_id, NOW - worked_ago_s)


def started_ago(run_id: str, seconds: float) -> ActiveRun:
    return ActiveRun(run_id, NOW - seconds)


@pytest.mark.parametrize(
    ("case", "waiting", "runs", "lease", "launch", "dead"),
    [
        ("nothing to do", 0, [], FREE, (), ()),
        ("messages wait and nobody drains", 5, [], FREE, (0,), ()),
        ("a run is being launched", 5, [ActiveRun("a", None)], FREE, (), ()),
        ("a run is at work", 5, [started_ago("a", 300)], held_by("a"), (), ()),
        ("a run has only just started", 5, [started_ago("a", 10)], FREE, (), ()),
        ("a run hands over soon", 5, [started_ago("a", 571)], held_by("a"), (0,), ()),
        ("it hands over soon and worked lately", 0, [started_ago("a", 571)], held_by("a", 59), (0,), ()),
        ("it hands over soon but idles", 0, [started_ago("a", 571)], held_by("a", 61), (), ()),
        ("its successor waits already", 5, [started_ago("a", 590), started_ago("b", 19)], held_by("a"), (), ()),
        ("its successor waits long", 5, [started_ago("a", 599), started_ago("b", 25)], held_by("a"), (), ()),
        ("a killed run is replaced", 5, [started_ago("a", 300)], FREE, (0,), ("a",)),
        ("a killed run without messages is only buried", 0, [started_ago("a", 300)], FREE, (), ("a",)),
        ("a run that gave its lease back is ending", 5, [started_ago("a", 300)], GAVE_BACK, (), ()),
        ("one that never ended after that is dead", 5, [started_ago("a", 300)], LONG_BACK, (0,), ("a",)),
    ],
)  # fmt: skip
def test_one_slot(case: str, waiting: int, runs: list[ActiveRun], lease: LeaseView, launch: tuple, dead: tuple) -> None:
    decided = plan(waiting, {0: runs}, {0: lease}, 1, NOW, POLICY)
    assert (decided.launch, decided.dead) == (launch, dead), case


def test_every_free_slot_is_filled_and_busy_ones_are_left_alone() -> None:
    decided = plan(5, {1: [started_ago("b", 100)]}, {1: held_by("b")}, 3, NOW, POLICY)
    assert decided.launch == (0, 2)
