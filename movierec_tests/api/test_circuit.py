"""After a failure a dependency is left alone, then one caller tries it for all."""

import pytest

from movierec_platform.services.circuit import Circuit


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock) -> Circuit:
    return Circuit(2.0, clock)


def test_everybody_asks_what_answers(circuit):
    assert [circuit.may_ask() for _ in range(3)] == [True, True, True]


def test_nobody_asks_for_a_while_after_a_failure_then_one_does(circuit, clock):
    circuit.failed()
    clock.now_s += 1.9
    assert not circuit.may_ask()
    clock.now_s += 0.1
    assert [circuit.may_ask() for _ in range(3)] == [True, False, False]
    clock.now_s += 2.0
    assert [circuit.may_ask() for _ in range(2)] == [True, False]


def test_everybody_asks_again_after_the_one_succeeded(circuit, clock):
    circuit.failed()
    clock.now_s += 2.0
    assert circuit.may_ask()
    circuit.succeeded()
    assert [circuit.may_ask() for _ in range(2)] == [True, True]


def test_failures_about_one_thing_alone_leave_everybody_asking(clock):
    circuit = Circuit(2.0, clock, distinct=2)
    for _ in range(5):
        circuit.failed("one user")
        assert circuit.may_ask()
    circuit.succeeded()
    circuit.failed("another user")
    assert circuit.may_ask()
    circuit.failed("one user")
    assert not circuit.may_ask()


def test_a_failure_about_nothing_in_particular_counts_at_once(clock):
    circuit = Circuit(2.0, clock, distinct=2)
    circuit.failed()
    assert not circuit.may_ask()
