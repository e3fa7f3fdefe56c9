"""Those who write much take turns, by a lease, and who has to wait says for what."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from movierec_platform.adapters.leases import open_lease
from movierec_platform.config import Settings
from movierec_platform.errors import GraphConflict, LeaseHeld

BULK_WAIT_S = 3600.0
"""25 million ratings are in the graph in less."""

OnWait = Callable[[str], None]
"""Told, once, what is waited for."""


def unheard(sentence: str) -> None:
    """Nobody is told."""


@contextmanager
def turn(settings: Settings, lease: str, doing: str, wait_s: float, on_wait: OnWait = unheard) -> Iterator[None]:
    """Nobody else holds this lease meanwhile. Raises LeaseHeld when another, who is `doing`, kept it for `wait_s`."""
    owner = f"{lease}-{uuid.uuid4()}"
    with ExitStack() as held:
        try:
            held.enter_context(open_lease(settings, lease, 0).held(owner, timeout_s=0))
        except LeaseHeld:
            on_wait(f"another job {doing}: waiting until it has ended, for {wait_s:g} s at most")
            held.enter_context(open_lease(settings, lease, 0).held(owner, wait_s))
        yield


@contextmanager
def writing_in_bulk(settings: Settings, on_wait: OnWait = unheard, wait_s: float = BULK_WAIT_S) -> Iterator[None]:
    """Nobody else writes movies or whole histories into the graph meanwhile: two would meet in the same nodes.

    Raises GraphConflict when another does so for all of `wait_s`. The graph ingest goes on; a few pairs at a time meet
    others seldom, and both sides try again.
    """
    with ExitStack() as held:
        try:
            held.enter_context(turn(settings, "bulk", "writes much into the graph", wait_s, on_wait))
        except LeaseHeld:
            raise GraphConflict(
                f"another job has been writing into the graph for {wait_s:g} s: do this again when it has ended"
            ) from None
        yield
