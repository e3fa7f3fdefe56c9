"""Compiled code that lets go of the interpreter, run over pieces of equal work by a few threads."""

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np

from movierec_platform.domain.similarity.edges import Ints

State = TypeVar("State")
Piece = tuple[int, int]

PIECES_PER_THREAD = 24


def pieces_of(work: Ints, n_threads: int) -> list[Piece]:
    """Runs [first, last) that cover the indexes of `work` (costs, shape (n,)) in order and cost about the same each."""
    upto = np.cumsum(work)
    n_pieces = min(len(work), n_threads * PIECES_PER_THREAD)
    shares = np.arange(1, n_pieces) * (upto[-1] / n_pieces) if n_pieces else []
    cuts = np.unique([0, *np.searchsorted(upto, shares), len(work)])
    return [(int(first), int(last)) for first, last in pairwise(cuts)]


def in_threads(
    pieces: list[Piece],
    states: list[State],
    work: Callable[[State, int, int], None],
    progress: Callable[[Piece], None] = lambda _: None,
) -> None:
    """Every piece was worked on, as many at once as there are states; no state by two threads at once.

    `progress` is called in this thread with each piece that is done, in their order.
    """
    free: queue.SimpleQueue[State] = queue.SimpleQueue()
    for state in states:
        free.put(state)

    def run(piece: Piece) -> Piece:
        state = free.get()
        try:
            work(state, *piece)
        finally:
            free.put(state)
        return piece

    with ThreadPoolExecutor(len(states)) as pool:
        for piece in pool.map(run, pieces):
            progress(piece)
