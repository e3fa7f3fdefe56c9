"""`movierec backup` and `restore`: the stores in a folder, and back."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import err, moment, out, plain, print_json

if TYPE_CHECKING:
    from movierec_platform.config import Settings


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty folder, or one that is not there yet.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Copy the stores into a folder, with checksums, while the platform runs.

    State database, Dagster's storage, and the emulator's lake and raw objects. On AWS the bucket is not copied: it
    keeps its versions. The graph is made from the lake by a restore.

    --json: folder, release, made_at_ms, bucket (empty: not copied), objects, files, bytes.
    """
    from movierec_platform.local.dagster import dagster_home
    from movierec_platform.local.progress import phases
    from movierec_platform.services.backup import back_up

    with _stores(settings_of(home), while_running=True) as settings, phases(err) as advance:
        made = back_up(settings, dagster_home(settings.home), folder, time.time_ns() // 1_000_000, advance)
    if as_json:
        print_json({"folder": str(folder), **made.as_json()})
        return
    out.print(f"{plain(str(folder))} has {plain(made.summary())}")
    if not made.bucket:
        out.print(f"the bucket {settings.bucket} stays on AWS, which keeps its versions; replicate it for more")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a backup.")],
    force: Annotated[bool, typer.Option("--force", help="Replace what the stores hold, for good.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Put a backup back, make the graph from it, and replay what was not known to be through.

    The platform is stopped meanwhile: of a local stack this starts emulator and graph by itself; elsewhere only the
    stores run. Refused (exit 1) for a damaged backup, and while the stores hold anything.

    --json: backup (as `backup --json`, without folder), graph (as `rebuild graph --json`; null: the lake has no
    catalogue), replayed (raw objects).
    """
    from movierec_platform.local.dagster import dagster_home
    from movierec_platform.local.progress import phases
    from movierec_platform.services.restore import restore as put_back

    with _stores(settings_of(home), while_running=False) as settings, phases(err) as advance:
        restored = put_back(settings, dagster_home(settings.home), folder, force, advance, on_wait=err.print)
    if as_json:
        graph = restored.graph
        print_json(
            {
                "backup": restored.manifest.as_json(),
                "graph": None if graph is None else asdict(graph),
                "replayed": restored.replayed,
            }
        )
        return
    out.print(f"restored {plain(restored.manifest.summary())}, as of {moment(restored.manifest.made_at_ms)}")
    if restored.graph is None:
        out.print("the lake has no catalogue, so the graph is empty")
    else:
        graph = restored.graph
        published = f", similarity {graph.version} published" if graph.version else ", no similarity published"
        out.print(f"the graph has {graph.movies} movies, {graph.users} users, {graph.pairs} pairs{published}")
    out.print(f"{restored.replayed} raw objects are on the queue again: `movierec verify --wait` once all is started")


@contextmanager
def _stores(settings: "Settings", while_running: bool) -> Iterator["Settings"]:
    """Where the stores are. Those of a local stack that does not run are started for the time being."""
    from movierec_platform.config import STACK_ENV
    from movierec_platform.errors import NoStack
    from movierec_platform.local.record import has_run, is_running
    from movierec_platform.local.run import leave, on_first_signal, reporter
    from movierec_platform.local.stack import Stack

    local = not settings.raw_queue_url or (settings.home / STACK_ENV).is_file()
    if not local or (while_running and is_running(settings.home)):
        yield settings
        return
    if while_running and not has_run(settings.home):
        raise NoStack(
            f"no stack has run in {settings.home.absolute()} and no setting names the queues: give the --home of one, "
            "or set MOVIEREC_RAW_QUEUE_URL and the other addresses"
        )
    report = reporter(err)
    with on_first_signal(leave), Stack(settings) as stack:
        yield stack.start(report, only_stores=True)
        stack.stop(report)
