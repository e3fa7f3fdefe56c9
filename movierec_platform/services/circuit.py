"""Whether to ask a dependency that did not answer."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ParamSpec, TypeVar

from movierec_platform.errors import StateUnavailable

Parameters = ParamSpec("Parameters")
Held = TypeVar("Held")


class Circuit:
    """Whether to ask a dependency at all: after a failure nobody does for `retry_after_s`, then one caller tries."""

    def __init__(self, retry_after_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._retry_after_s = retry_after_s
        self._monotonic_s = monotonic_s
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
        if self._ask_again_at_s is not None:
            with self._lock:
                self._ask_again_at_s = None

    def failed(self) -> None:
        """Nobody asks for `retry_after_s`."""
        with self._lock:
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
