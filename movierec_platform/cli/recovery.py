"""`movierec replay` and `rebuild`: put landed events back on the queue, rebuild from the lake what was lost."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import err, moment, out, plain, print_json, print_line
from movierec_platform.domain.moments import epoch_ms

rebuild_app = typer.Typer(no_args_is_help=True, help="Rebuild from the lake what was lost.")


def replay(
    since: Annotated[str, typer.Option(help="Put back what was received since then (ISO-8601).")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Put landed events back on the raw queue. Harmless: those that took effect already change nothing.

    --json: since_ms, objects, set_aside (raw objects that could not be read: key, reason).
    """
    from movierec_platform.domain.set_aside import SetAside, told_by_day
    from movierec_platform.services.replay import replay as put_back

    since_ms = epoch_ms(since)
    set_aside: list[SetAside] = []
    count = put_back(settings_of(home, "lake", "queues"), since_ms, set_aside.append)
    if as_json:
        print_json({"since_ms": since_ms, "objects": count, "set_aside": [asdict(one) for one in set_aside]})
        return
    out.print(f"{count} objects received since {moment(since_ms)} are on the raw queue again")
    for sentence in told_by_day(set_aside):
        out.print(plain(sentence))


@rebuild_app.command("graph")
def rebuild_graph(
    as_of: Annotated[
        str | None, typer.Option(help="Make it as it would have been then (ISO-8601); without it, as it is now.")
    ] = None,
    files: Annotated[
        Path | None, typer.Option(help="Write files for neo4j-admin into this folder instead, and print its command.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Make the whole graph from the lake, in an empty database, by its fastest way in.

    Killed at any time, it is finished by running it again. The graph ingest rests meanwhile: what lands waits in the
    queue. With --files, for a Neo4j that is not running: run the printed command, start Neo4j, then run this again
    without --files, which adds the constraints.
    """
    from movierec_platform.local.progress import phases
    from movierec_platform.services.rebuild import rebuild
    from movierec_platform.services.rebuild_files import write_files

    settings = settings_of(home, "lake") if files is not None else settings_of(home, "lake", "graph")
    as_of_ms = None if as_of is None else epoch_ms(as_of)
    if files is not None:
        with phases(err) as advance:
            command = write_files(settings, files, as_of_ms, time.time_ns() // 1_000_000, advance)
        if as_json:
            print_json({"command": command})
        else:
            print_line(command)
        return
    with phases(err) as advance:
        rebuilt = rebuild(settings, as_of_ms, lambda: time.time_ns() // 1_000_000, advance, on_wait=err.print)
    if as_json:
        print_json(asdict(rebuilt))
        return
    out.print(
        f"the graph stands as of {moment(rebuilt.as_of_ms)}, by {rebuilt.way}: {rebuilt.movies} movies, "
        f"{rebuilt.users} users, {rebuilt.pairs} pairs"
    )
    if rebuilt.version:
        before = f"; before it {rebuilt.previous}" if rebuilt.previous else ""
        out.print(f"it publishes similarity {rebuilt.version}, {rebuilt.similarity_edges} edges{before}")
    else:
        out.print("the lake keeps no similarity from before then: nothing is published until `movierec nightly`")
    if rebuilt.resumed:
        out.print("it had been interrupted: `movierec verify` tells whether the ingest came between")
