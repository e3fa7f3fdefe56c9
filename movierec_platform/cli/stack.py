"""`movierec up`, `demo` and `test`: the whole platform on this machine, and its tests."""

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from movierec_platform.cli.invocation import HomeOption, settings_of, tests_folder
from movierec_platform.cli.printing import out
from movierec_platform.errors import UsageError


class GraphKind(str, Enum):
    """What a local stack can run."""

    embedded = "embedded"
    neo4j = "neo4j"


GraphOption = Annotated[
    GraphKind | None,
    typer.Option(
        "--graph", help="The graph that it runs: embedded, or neo4j, which needs a JDK and Maven [$MOVIEREC_GRAPH]."
    ),
]


def up(home: HomeOption = None, graph: GraphOption = None) -> None:
    """Start the whole platform here and keep it running; Ctrl-C stops it."""
    from movierec_platform.local.run import run_stack

    run_stack(settings_of(home, graph=graph and graph.value), out)


def demo(
    home: HomeOption = None,
    graph: GraphOption = None,
    user: Annotated[int, typer.Option(min=1, help="The user whose recommendations are shown before and after.")] = 123,
    events: Annotated[int, typer.Option(min=100, max=100_000, help="Events to send over HTTP.")] = 2_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running afterwards, until Ctrl-C.")] = False,
) -> None:
    """Show the whole platform at work on real MovieLens ratings, and check everything that it claims."""
    from movierec_platform.local.demo import run_demo

    run_demo(settings_of(home, graph=graph and graph.value), out, user_id=user, events=events, keep=keep)


def test(context: typer.Context) -> None:
    """Run the tests of everyday work on all cores; --all runs what CI runs, --changed what a change can break.

    --long runs also what takes hours. What follows is given to pytest. However it ends, it leaves no process.
    """
    from importlib.util import find_spec

    from movierec_platform.local.processes import run_and_leave_nothing

    checkout = tests_folder().parent
    if find_spec("pytest") is None:
        raise UsageError(
            "pytest is not installed: run `python3 -m movierec_platform test` in the clone, "
            "or pip install 'movierec-platform[test,load,traces]'"
        )
    # A worker has servers of its own (a JVM among them): beyond four they are in each other's way. The files with few
    # tests, which pytest-xdist would leave for the end, are the long ones: whole stacks.
    side_by_side = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    if len([word for word in context.args if Path(word.partition("::")[0]).is_file()]) == 1:
        side_by_side = []  # one file is one worker's work
    here = ["--rootdir", str(checkout), "-c", str(checkout / "pyproject.toml"), "--durations=15"]
    sys.exit(run_and_leave_nothing([sys.executable, "-m", "pytest", *here, *side_by_side, *context.args]))
