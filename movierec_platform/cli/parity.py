"""`movierec verify` and `repair`: does the graph hold what the lake says, and make it so."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import counted, err, out, plain, print_json, show
from movierec_platform.errors import CheckFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from movierec_platform.domain.registers import PairState
    from movierec_platform.domain.set_aside import SetAside
    from movierec_platform.services.verify import Parity


def verify(
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what is under way before saying no.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 120.0,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Prove that the graph holds what the lake says; exit 1 and the differing pairs if it does not.

    A pair is `behind` when the graph only lacks what a landed event will merge into it, perhaps one that is under way:
    --wait looks again until it has caught up, the time is over, or nothing is under way. Any other is `wrong`.

    --json: equal, differing_pairs (behind_pairs + wrong_pairs), kinds (missing, extra, altered, doubled), lake_pairs,
    graph_pairs (edges), differing_buckets (user id modulo 256), settled_pairs (that --wait saw catch up), pending
    (messages under way when it began), first_differences (20 at most: user_id, movie_id, kind, cause, lake: registers
    or null, edges: type and registers of each), set_aside (raw objects that could not be read: key, reason).
    """
    from movierec_platform.local.progress import reading_progress
    from movierec_platform.services import verify as parity_check

    settings = settings_of(home, "lake", "graph", "queues")
    with reading_progress(err) as on_progress:
        parity = parity_check.verify(settings, timeout if wait else 0.0, on_progress)
    if as_json:
        print_json(parity.as_json())
    else:
        _print_parity(parity)
    if not parity.equal:
        raise typer.Exit(1)


def repair(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be rewritten, and write nothing.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Rewrite the pairs of the graph that are not as the lake says, while ingest goes on; exit 1 if some are left.

    Missing edges are made, extra ones deleted, altered and doubled ones replaced. A pair that ingest changes meanwhile
    is looked at again, and never undone. What a raw object that could not be read may have said is never taken away.

    --json: dry_run, pairs (repaired), kinds (missing, extra, altered, doubled), left, unknown_movies (of the lake, that
    the graph lacks), differing_buckets, kept (pairs left as they are, as a raw object could not be read), set_aside.
    """
    from movierec_platform.local.progress import reading_progress
    from movierec_platform.services.repair import repair as make_equal

    settings = settings_of(home, "lake", "graph")
    with reading_progress(err) as on_progress:
        repaired = make_equal(settings, dry_run, progress=on_progress, on_wait=err.print)
    if as_json:
        print_json(repaired.as_json())
    else:
        out.print(f"{'would be repaired' if dry_run else 'repaired'}: {counted(repaired.kinds)}")
        if repaired.left:
            out.print(f"left as they are: {repaired.left}")
        _print_set_aside(repaired.set_aside)
        if repaired.kept:
            out.print(
                f"{repaired.kept} pairs are kept, because the unreadable raw objects may explain them: post again the"
                " events that can still be read, move those objects out of raw/, then repair again"
            )
    if repaired.unknown_movies:
        raise CheckFailed(
            f"the graph lacks {len(repaired.unknown_movies)} movies of the lake, such as {repaired.unknown_movies[0]}: "
            "run the asset catalog_graph, then repair again"
        )
    if repaired.left or repaired.kept:
        raise typer.Exit(1)


def _print_set_aside(set_aside: "Sequence[SetAside]") -> None:
    from movierec_platform.domain.set_aside import told_by_day

    for sentence in told_by_day(set_aside):
        out.print(plain(sentence))


def _print_parity(parity: "Parity") -> None:
    _print_set_aside(parity.set_aside)
    if parity.equal:
        out.print(f"graph and lake are equal: {parity.graph_pairs} pairs in each")
        return
    out.print(
        f"graph and lake differ in {parity.differing_pairs} pairs ({len(parity.differing_buckets)} buckets of users): "
        f"{', '.join(f'{kind} {count}' for kind, count in parity.kinds.items() if count)}"
    )
    if parity.behind_pairs:
        out.print(
            f"in {parity.behind_pairs} of them the graph is only behind; {parity.pending} messages were under way: "
            "--wait tells whether they catch up"
        )
    if len(parity.first_differences) < parity.differing_pairs:
        out.print(f"the first {len(parity.first_differences)} of {parity.differing_pairs}:")
    table = Table("user", "movie", "", Column("lake", overflow="fold"), Column("graph", overflow="fold"))
    for one in parity.first_differences:
        lake = "" if one.lake is None else _registers(one.lake)
        graph = "\n".join(f"{edge.type} {_registers(edge.state)}" for edge in one.edges)
        table.add_row(str(one.user_id), str(one.movie_id), f"{one.kind}, {one.cause}", plain(lake), plain(graph))
    show(table)
    if parity.wrong_pairs:
        out.print("`movierec repair` makes them as the lake says")


def _registers(state: "PairState") -> str:
    """Those that are set."""
    return " ".join(f"{name}={value}" for name, value in asdict(state).items() if value is not None)
