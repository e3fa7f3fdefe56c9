"""The steps of a work that is tried again as a whole when one of them fails: what was done is not done again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Once(Protocol):
    """Does a step of the work that is under way, unless that was done; returns what it returned then."""

    def __call__(self, step: str, do: Callable[..., T], *arguments: Any) -> T: ...


@dataclass(slots=True)
class Steps:
    """What was done of the work that failed last. For one thread."""

    _work: Sequence[str] = ()
    _done: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def of(self, work: Sequence[str]) -> Iterator[Once]:
        """The steps of this work, which is named by what it is about. Once it is through, it starts anew."""
        if work != self._work:
            self._work, self._done = work, {}

        def once(step: str, do: Callable[..., T], *arguments: Any) -> T:
            if step not in self._done:
                self._done[step] = do(*arguments)
            done: T = self._done[step]
            return done

        yield once
        self._work, self._done = (), {}
