"""`movierec up`, `demo`, `traffic` and `test`: the whole platform on this machine, something to feed it, its tests."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from movierec_platform.cli.invocation import HomeOption, settings_of
from movierec_platform.cli.printing import err, out
from movierec_platform.errors import UsageError


def up(home: HomeOption = None) -> None:
    """Start the whole platform here and keep it running; Ctrl-C stops it."""
    from movierec_platform.local.run import run_stack

    run_stack(settings_of(home), out)


def demo(
    home: HomeOption = None,
    user: Annotated[int, typer.Option(min=1, help="The user whose recommendations are shown before and after.")] = 123,
    events: Annotated[int, typer.Option(min=100, max=100_000, help="Events to send over HTTP.")] = 2_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running afterwards, until Ctrl-C.")] = False,
) -> None:
    """Show the whole platform at work on real MovieLens ratings, and check everything that it claims."""
    from movierec_platform.local.demo import run_demo

    run_demo(settings_of(home), out, user_id=user, events=events, keep=keep)


def traffic(
    events: Annotated[int, typer.Option(min=1, help="How many events to post.")] = 1_000,
    rate: Annotated[float, typer.Option(min=0, help="Events a second; 0 is as fast as they are acknowledged.")] = 100.0,
    bad: Annotated[float, typer.Option(min=0, max=1, help="Share of events that the gate must refuse.")] = 0.0,
    duplicate: Annotated[float, typer.Option(min=0, max=1, help="Share of events that are sent again.")] = 0.0,
    late: Annotated[float, typer.Option(min=0, max=1, help="Share of events that happened up to 30 days ago.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Equal seeds make equal choices.")] = 0,
    home: HomeOption = None,
) -> None:
    """Post synthetic but lifelike events, and print as JSON what was posted by kind."""
    from movierec_platform.local.client import credentials
    from movierec_platform.local.progress import progress
    from movierec_platform.local.traffic import Mix, post_traffic, stream_of

    settings = settings_of(home)
    stream = stream_of(settings, Mix(bad=bad, duplicate=duplicate, late=late, seed=seed))
    with progress(err, "posting events", events) as advance:
        posted = post_traffic(
            settings.api_url, stream, events, rate, lambda so_far: advance(so_far.events), headers=credentials(settings)
        )
    print(json.dumps(posted.as_json()))


def test(context: typer.Context) -> None:
    """Run the test suite, its files side by side on all cores; what follows is given to pytest."""
    checkout = Path(__file__).parents[2]
    if not (checkout / "movierec_tests").is_dir():
        raise UsageError("the tests are in the source repository, not in the installed package: run this in a clone")
    try:
        import pytest
    except ImportError:
        raise UsageError("pytest is not installed: pip install 'movierec-platform[test,load]'") from None
    # A worker has servers of its own (a JVM among them): beyond four they are in each other's way. The files with few
    # tests, which pytest-xdist would leave for the end, are the long ones: whole stacks.
    side_by_side = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    here = ["--rootdir", str(checkout), "-c", str(checkout / "pyproject.toml")]
    sys.exit(pytest.main([*here, *side_by_side, *context.args]))
