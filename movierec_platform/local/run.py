"""`movierec up`: the stack in the foreground, until Ctrl-C."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.table import Table

from movierec_platform.config import Settings
from movierec_platform.local.stack import Report, Stack
from movierec_platform.local.tables import print_table


def run_stack(settings: Settings, console: Console) -> None:
    """Starts everything, prints where it is, and returns once it has been stopped by SIGINT or SIGTERM.

    Raises UsageError when this home has a running stack and ServerFailed when a server keeps ending by itself.
    """
    with on_first_signal(leave), Stack(settings) as stack:
        start(stack, console)
        say_what_is_next(console)
        keep(stack, console)


def keep(stack: Stack, console: Console) -> None:
    """The stack runs until SIGINT or SIGTERM, and is then stopped."""
    console.print("Ctrl-C stops it.")
    with on_first_signal(lambda number: stack.request_stop()):
        stack.watch(reporter(console))
        stop(stack, console)


def start(stack: Stack, console: Console) -> None:
    """The stack is up, and its addresses are printed."""
    console.print(f"Starting in {stack.settings.home} ...", markup=False)
    stack.start(reporter(console))
    print_table(console, address_table(stack))
    console.print(f"Variables for other programs: {stack.env_file}", markup=False)


def say_what_is_next(console: Console) -> None:
    """What people do with a stack first."""
    console.print("next, in another terminal: `movierec load`, `movierec nightly`, `movierec open`", markup=False)


def stop(stack: Stack, console: Console) -> None:
    """Nothing of the stack is left."""
    console.print("Stopping ...")
    stack.stop(reporter(console))


def reporter(console: Console) -> Report:
    """Prints what happens to each server."""
    return lambda part, message: console.print(f"  {part:9} {message}", markup=False)


def address_table(stack: Stack) -> Table:
    """Where each server is."""
    table = Table("what", "where", title=f"ready in {stack.seconds_to_ready:.1f} s")
    table.add_column("note", overflow="fold")
    for row in stack.addresses():
        table.add_row(*row)
    return table


def leave(number: int) -> None:
    """Ends the program, with all `with` blocks left in order."""
    sys.exit(128 + number)


@contextmanager
def on_first_signal(act: Callable[[int], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM does this; later ones nothing, so that nobody interrupts the stopping."""
    given = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal given
        if not given:
            given = True
            act(number)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
