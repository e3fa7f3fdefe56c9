"""`movierec up`, `stop`, `logs`, `open`, `demo` and `test`: the whole platform on this machine, and its tests."""

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from movierec_platform.cli.invocation import HomeOption, settings_of, tests_folder
from movierec_platform.cli.printing import out, print_line
from movierec_platform.errors import UsageError


class GraphKind(str, Enum):
    """What a local stack can run."""

    embedded = "embedded"
    neo4j = "neo4j"


NEXT = (
    "next: `movierec load` loads the MovieLens set, `movierec nightly` learns from it, `movierec open` shows the page"
)

GraphOption = Annotated[
    GraphKind | None,
    typer.Option(
        "--graph", help="The graph that it runs: embedded, or neo4j, which needs a JDK and Maven [$MOVIEREC_GRAPH]."
    ),
]


def up(
    home: HomeOption = None,
    graph: GraphOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it is ready; `movierec stop` ends it.")
    ] = False,
) -> None:
    """Start the whole platform here and keep it running; Ctrl-C stops it."""
    settings = settings_of(home, graph=graph and graph.value)
    if detach:
        from movierec_platform.local.running import start_detached

        out.print(f"Starting in {settings.home} ...", markup=False)
        pid = start_detached(settings.home, ["--graph", settings.graph])
        out.print(f"ready (pid {pid}): `movierec status` shows it, `movierec stop` ends it", markup=False)
        out.print(NEXT, markup=False)
        return
    from movierec_platform.local.run import run_stack

    run_stack(settings, out)


def stop(home: HomeOption = None) -> None:
    """Stop the stack that runs in this home: requests are answered, queues saved."""
    from movierec_platform.local.running import stop_running

    settings = settings_of(home)
    out.print(f"the stack in {settings.home} (pid {stop_running(settings.home)}) is stopped", markup=False)


def logs(
    server: Annotated[
        str | None, typer.Argument(metavar="[SERVER]", help="Whose log; without it: which there are.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")] = False,
    last: Annotated[int, typer.Option("-n", min=0, help="Lines to begin with.")] = 50,
    home: HomeOption = None,
) -> None:
    """Show the log of a server of the local stack."""
    from movierec_platform.local.running import log_lines, log_names

    folder = settings_of(home).home
    if server is None:
        print_line("\n".join(log_names(folder)) or f"there are no logs in {folder}")
        return
    for line in log_lines(folder, server, last, follow):
        print_line(line)
        if follow:
            sys.stdout.flush()


def open_page(home: HomeOption = None) -> None:
    """Open the page in a browser, and print its address."""
    import webbrowser

    address = settings_of(home, "api").api_url
    print_line(address)
    webbrowser.open(address)


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
