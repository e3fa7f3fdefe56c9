"""`movierec similarity`: list and show the versions of the movie similarity, publish one, go back to one."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from movierec_platform.cli.invocation import HomeOption, JsonOption, actor, settings_of
from movierec_platform.cli.printing import err, moment, out, plain, print_json, show

if TYPE_CHECKING:
    from movierec_platform.services.publish import Published
    from movierec_platform.services.versions import Evaluated, Standing

app = typer.Typer(
    no_args_is_help=True, help="Look at the versions of the movie similarity, publish one, go back to one."
)

VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version, or any part of its name that no other has.")
]


@app.command("list")
def similarity_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the versions that the lake holds, the newest first: what each is worth, and which readers are served.

    NDCG@10 is that of its parameters, learned without the test, with the 95 % interval over users.

    --json: all that `show --json` says, of each.
    """
    from movierec_platform.services.similarity_versions import list_versions

    standings = list_versions(settings_of(home, "lake", "graph"))
    if as_json:
        print_json([one.as_json() for one in standings])
        return
    table = Table()
    for name in ("version", "made", "method", "edges", "NDCG@10", "gate", "readers"):
        table.add_column(name, no_wrap=name == "version", justify="right" if name == "edges" else "left")
    for one in standings:
        learned = one.learned
        made = ("", "", "")
        if learned is not None:
            at = moment(learned.made_at_ms)[:16].replace("T", " ")
            made = (at, learned.parameters["method"], f"{learned.edges:,}")
        readers = (one.pointer or "") if one.held else f"{one.pointer}, but the lake has lost it"
        table.add_row(one.version, *made, _ndcg(one.evaluated), _judgement(one), readers)
    show(table)
    if not standings:
        out.print("the lake holds no similarity: `movierec nightly` makes one")


@app.command("show")
def similarity_show(version: VersionArgument, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show one version whole: how it was learned, what it is worth, what the gate found, when it was published.

    --json: version, held (the lake has its edges), pointer (published, previous or null), learned (made_at_ms,
    parameters, edges, movies, pairs, interactions), evaluated (evaluated_at_ms, published: beside which, passed,
    reason, users, ndcg, ndcg_low, ndcg_high, protocol, models: metrics with their intervals, rules), published (each
    time: published_at_ms, previous, why).
    """
    from movierec_platform.services.similarity_versions import show_version

    one = show_version(settings_of(home, "lake", "graph"), version)
    if as_json:
        print_json(one.as_json())
    else:
        _print_standing(one)


@app.command("publish")
def similarity_publish(
    version: VersionArgument,
    waive: Annotated[
        str | None,
        typer.Option("--waive", metavar="REASON", help="Why it goes out although the gate blocks it; is kept."),
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Give readers this version, if the gate passes it; exit 1 and the gate's reason if it does not.

    The kept verdict counts, if it was reached beside the version that readers have now; else it is judged again.

    --json: version, previous (or null), edges, unchanged (readers had it already), withheld (a newer
    version from which somebody has gone back, or null).
    """
    from movierec_platform.local.progress import phases
    from movierec_platform.services.similarity_versions import publish_named

    settings = settings_of(home, "lake", "graph")
    with phases(err) as advance:
        published = publish_named(settings, version, waive, actor(), time.time_ns() // 1_000_000, advance)
    _print_published(published, as_json)


@app.command("rollback")
def similarity_rollback(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="One that readers had; without it, the one before.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Give readers again what they had before. The nightly leaves it so until it learns another similarity.

    --json: as `publish --json`.
    """
    from movierec_platform.local.progress import phases
    from movierec_platform.services.similarity_versions import roll_back_named

    settings = settings_of(home, "lake", "graph")
    with phases(err) as advance:
        published = roll_back_named(settings, version, actor(), time.time_ns() // 1_000_000, advance)
    _print_published(published, as_json)


def _print_standing(one: "Standing") -> None:
    """All that is known of a version, as text."""
    learned, evaluated = one.learned, one.evaluated
    rows = [("version", one.version), ("readers", one.pointer or "not served")]
    rows += [] if one.held else [("lake", "has lost its edges")]
    if learned is not None:
        parameters = " ".join(f"{name}={value}" for name, value in learned.parameters.items())
        size = f"{learned.edges:,} of {learned.movies:,} movies, from {learned.pairs:,} pairs"
        rows += [("made", moment(learned.made_at_ms)), ("parameters", parameters), ("edges", size)]
    rows.append(("gate", _judgement(one)))
    if evaluated is not None:
        rows += [("judged", moment(evaluated.evaluated_at_ms)), ("beside", evaluated.published or "nothing published")]
        rows += [
            ("test", f"{evaluated.protocol['split']} split, {evaluated.users} users"),
            ("reason", evaluated.reason),
        ]
    rows += [("served", f"{moment(move.published_at_ms)}, {move.why}") for move in one.published]
    for name, value in rows:
        out.print(f"{name:10} {plain(value)}")
    if evaluated is not None and evaluated.models:
        from movierec_platform.domain.evaluation.metrics import LABELS

        table = Table("", *evaluated.models)
        for name, label in LABELS.items():
            values = [metrics.get(name, {}).get("value") for metrics in evaluated.models.values()]
            if any(value is not None for value in values):
                table.add_row(label, *("" if value is None else f"{value:.4f}" for value in values))
        show(table)
    if evaluated is not None and evaluated.rules:
        table = Table("rule", "")
        table.add_column("found", overflow="fold")
        for rule in evaluated.rules:
            table.add_row(rule["check"], "passed" if rule["passed"] else "[red]failed[/red]", plain(rule["detail"]))
        show(table)


def _print_published(published: "Published", as_json: bool) -> None:
    if as_json:
        print_json(asdict(published))
        return
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
