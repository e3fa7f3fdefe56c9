"""Progress of long work: a moving bar in a terminal, plain lines anywhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

PLAIN_EVERY_S = 5.0


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function to call with how much of `total` is done."""
    if not console.is_terminal:
        yield _plain_progress(console, what, total)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def run_progress(console: Console) -> Iterator[Callable[[str, str, str], None]]:
    """A function to call with (step, status, message) as a Dagster run goes on."""
    said_s = 0.0
    with console.status("launching ...") as status:

        def on_progress(step: str, kind: str, message: str) -> None:
            nonlocal said_s
            if step and kind in ("started", "log"):
                line = f"{step} ..." if kind == "started" else f"{step}: {message}"
                status.update(line)
                if not console.is_terminal and (kind == "started" or time.monotonic() - said_s >= PLAIN_EVERY_S):
                    said_s = time.monotonic()
                    console.print(f"  {line}", markup=False)

        yield on_progress


@contextmanager
def reading_progress(console: Console) -> Iterator[Callable[[str, int], None]]:
    """A function to call with (what is counted, how many so far), where nobody knows how many there will be."""
    said_s = time.monotonic()
    with console.status("comparing graph and lake ...") as status:

        def on_progress(what: str, so_far: int) -> None:
            nonlocal said_s
            status.update(f"{what}: {so_far:,} pairs")
            if not console.is_terminal and time.monotonic() - said_s >= PLAIN_EVERY_S:
                said_s = time.monotonic()
                console.print(f"{what}: {so_far:,} pairs")

        yield on_progress


def _plain_progress(console: Console, what: str, total: int) -> Callable[[int], None]:
    said_s = time.monotonic()

    def advance(done: int) -> None:
        nonlocal said_s
        if done >= total or time.monotonic() - said_s >= PLAIN_EVERY_S:
            said_s = time.monotonic()
            console.print(f"{what}: {done} of {total}")

    return advance
