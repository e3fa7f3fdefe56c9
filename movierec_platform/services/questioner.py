"""Asks the parts of the platform how they are, so that none of them can hold up who asks."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

from movierec_platform.errors import MovierecError, Transient

ASK_TIMEOUT_S = 5.0
"""Half of Prometheus's default scrape timeout."""
KEEP_S = 60.0
OLDEST_S = 600.0
WAIT_S = 2.0

Asked = Mapping[str, Callable[[], Any]]
Answer = TypeVar("Answer")


class Questioner:
    """Asks the parts of the platform side by side; one that hangs costs `timeout_s`, never the others' answers."""

    def __init__(self, parts: Asked, timeout_s: float = ASK_TIMEOUT_S) -> None:
        self.parts = parts
        self._timeout_s = timeout_s
        # A thread for each: with a shared pool, questions that hang would in time take all of its threads.
        self._askers = {name: ThreadPoolExecutor(1, thread_name_prefix=f"ask-{name}") for name in parts}

    def ask(self) -> dict[str, Any]:
        """Each part's answer, or the MovierecError that it raised; Transient when it took too long."""
        asked = {name: self._askers[name].submit(_answer, question) for name, question in self.parts.items()}
        _, late = wait(asked.values(), timeout=self._timeout_s)
        for future in late:
            future.cancel()
        too_slow = Transient(f"no answer within {self._timeout_s:g} s")
        return {name: too_slow if future in late else future.result() for name, future in asked.items()}

    def close(self) -> None:
        """No more questions; one in flight is not waited for."""
        for asker in self._askers.values():
            asker.shutdown(wait=False, cancel_futures=True)


class Kept(Generic[Answer]):
    """A costly question's answer, kept for `keep_s`. Call it from one thread at a time, as a Questioner does.

    While a new answer takes longer than `wait_s` the kept one is given again, until it is `oldest_s` old: then, and
    before the first, Transient is raised. A question that fails raises what it raised for as long as an answer is kept.
    """

    def __init__(
        self,
        question: Callable[[], Answer],
        keep_s: float = KEEP_S,
        oldest_s: float = OLDEST_S,
        wait_s: float = WAIT_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._question = question
        self._keep_s, self._oldest_s, self._wait_s = keep_s, oldest_s, wait_s
        self._monotonic_s = monotonic_s
        self._asker = ThreadPoolExecutor(1, thread_name_prefix="ask-again")
        self._asked: Future[Answer] | None = None
        self._kept: Future[Answer] | None = None
        self._asked_at_s = self._kept_at_s = 0.0

    def __call__(self) -> Answer:
        now_s = self._monotonic_s()
        if self._asked is None and (self._kept is None or now_s - self._kept_at_s >= self._keep_s):
            self._asked, self._asked_at_s = self._asker.submit(self._question), now_s
        if self._asked is not None and wait([self._asked], timeout=self._wait_s).done:
            self._kept, self._kept_at_s, self._asked = self._asked, self._asked_at_s, None
        if self._kept is None or now_s - self._kept_at_s >= self._oldest_s:
            raise Transient(f"no answer within {now_s - self._asked_at_s + self._wait_s:.0f} s")
        return self._kept.result()


def _answer(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except MovierecError as error:
        return error
