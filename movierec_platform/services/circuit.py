"""Whether to ask a dependency that did not answer."""

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ParamSpec, TypeVar

from movierec_platform.errors import StateUnavailable

Parameters = ParamSpec("Parameters")
Held = TypeVar("Held")


class Circuit:
    """Whether to ask a dependency at all: after a failure nobody does for `retry_after_s`, then one caller tries.

    Failures that may be due to what was asked about count only once `distinct` such things have failed in a row.
    """

    def __init__(
        self, retry_after_s: float, monotonic_s: Callable[[], float] = time.monotonic, distinct: int = 1
    ) -> None:
        self._retry_after_s = retry_after_s
        self._monotonic_s = monotonic_s
        self._distinct = distinct
        self._failing: set[Hashable] = set()
        self._lock = threading.Lock()
        self._ask_again_at_s: float | None = None

    def may_ask(self) -> bool:
        """True when the last answer was good; else for one caller every `retry_after_s`."""
        if self._ask_again_at_s is None:
            return True
        with self._lock:
            now_s = self._monotonic_s()
            if self._ask_again_at_s is None or now_s < self._ask_again_at_s:
                return self._ask_again_at_s is None
            self._ask_again_at_s = now_s + self._retry_after_s
            return True

    def succeeded(self) -> None:
        """Everybody may ask."""
        if self._ask_again_at_s is not None or self._failing:
            with self._lock:
                self._ask_again_at_s = None
                self._failing.clear()

    def failed(self, about: Hashable = None) -> None:
        """Nobody asks for `retry_after_s`: at once, or when it is about something that alone may be at fault, only with
        others of its kind."""
        with self._lock:
            self._failing.add(about)
            if about is None or len(self._failing) >= self._distinct or self._ask_again_at_s is not None:
                self._ask_again_at_s = self._monotonic_s() + self._retry_after_s


def spared(
    circuit: Circuit, turn: Callable[Parameters, AbstractContextManager[Held]]
) -> Callable[Parameters, AbstractContextManager[Held]]:
    """As `turn`, of the state database, but StateUnavailable at once while that is known not to answer.

    Without, each of those who ask would wait for as long as the first.
    """

    @contextmanager
    def guarded(*arguments: Parameters.args, **named: Parameters.kwargs) -> Iterator[Held]:
        if not circuit.may_ask():
            raise StateUnavailable("the state database did not answer a moment ago: try again in a few seconds")
        try:
            with turn(*arguments, **named) as held:
                yield held
        except StateUnavailable:
            circuit.failed()
            raise
        circuit.succeeded()

    return guarded
