"""`movierec quarantine`: list, show, patch, redrive and discard what the gate or the graph refused."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from movierec_platform.cli.invocation import HomeOption, JsonOption, actor, settings_of
from movierec_platform.cli.printing import counted, err, moment, out, plain, print_json, show
from movierec_platform.domain.moments import epoch_ms
from movierec_platform.errors import CheckFailed

if TYPE_CHECKING:
    from movierec_platform.config import Settings
    from movierec_platform.domain.quarantine import Filter
    from movierec_platform.services.quarantine import Outcome, Quarantine

app = typer.Typer(no_args_is_help=True, help="Look at the events that the gate or the graph refused.")

RowArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of a row, or the beginning of one.")]
RowsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of rows, or their beginnings.")]
ReasonOption = Annotated[str | None, typer.Option(help="Only this reason code.")]
SinceOption = Annotated[str | None, typer.Option(help="Only events first received since then (ISO-8601).")]
UserOption = Annotated[int | None, typer.Option(min=1, max=2**63 - 1, help="Only events of this user.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every event that is held.")]
MOST_ROWS = 10_000
SKIPPED = {
    "attempts_used_up": "whose five attempts are used up: discard them, or post new events instead",
    "cannot_travel": "too long or nested too deep to be sent: patch them first",
    "redriving": "whose redrive has begun: `movierec quarantine redrive` finishes it",
    "redriven": "redriven already",
    "discarded": "discarded already",
    "held": "held",
}


@app.command("list")
def quarantine_list(
    reason: ReasonOption = None,
    since: SinceOption = None,
    user: UserOption = None,
    status: Annotated[
        str, typer.Option(help="held (with those whose redrive has begun), redriving, redriven, discarded or all.")
    ] = "held",
    limit: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="Rows to print, the latest first.")] = 20,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """List refused events with their standing, and count them by reason."""
    from movierec_platform.domain.quarantine import statuses_named

    statuses = statuses_named(status)
    page = _quarantine(settings_of(home, "state")).page(_filter(reason, since, user), statuses, limit)
    there = sum(page.by_reason.values())
    if len(page.rows) < there:
        err.print(f"the latest {len(page.rows)} of {there} are shown: --limit {min(there, MOST_ROWS)} shows more")
    if as_json:
        print_json([asdict(row) for row in page.rows])
        return
    table = Table()
    for name in ("id", "status", "attempts", "reason", "user", "received"):
        table.add_column(name, no_wrap=True)
    table.add_column("detail", overflow="fold")
    for row in page.rows:
        user_id = "" if row.user_id is None else str(row.user_id)
        cells = (row.id, row.status, str(row.attempts), row.reason_code, user_id, moment(row.received_at_ms))
        table.add_row(*cells, plain(row.detail))
    show(table)
    out.print(f"{'in all' if status == 'all' else status}: {counted(page.by_reason)}")


@app.command("show")
def quarantine_show(row_id: RowArgument, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show one refused event whole: its body, why it was refused, where it was landed, all that was done to it."""
    quarantine = _quarantine(settings_of(home, "state"))
    row = quarantine.row(row_id)
    history = quarantine.history(row)
    if as_json:
        print_json({**asdict(row), "history": [asdict(act) for act in history]})
        return
    for name, value in asdict(row).items():
        shown = moment(value) if name.endswith("_at_ms") else "" if value is None else value
        out.print(f"{name.removesuffix('_at_ms'):12} {plain(str(shown))}".rstrip())
    table = Table("when", "act", "by", "attempt", "reason", title="history", title_justify="left")
    table.add_column("what changed", overflow="fold")
    for act in history:
        changed = [act.detail, act.body and f"body {act.body}", act.raw_key and f"landed as {act.raw_key}"]
        cells = (moment(act.at_ms), act.act, act.actor, str(act.attempt), act.reason_code)
        table.add_row(*cells, plain("\n".join(one for one in changed if one)))
    show(table)


@app.command("patch")
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
    patched = _quarantine(settings_of(home, "state")).patch(
        row_id, sys.stdin.read() if event == "-" else event, actor(), force
    )
    if as_json:
        print_json(asdict(patched))
    elif patched.stored:
        verdict = (
            f"the gate would refuse it: {patched.refusal.detail}" if patched.refusal else "the gate would accept it"
        )
        out.print(f"{patched.row.id} is patched; {plain(verdict)}")
    if not patched.stored and patched.refusal:
        raise CheckFailed(
            f"the gate would refuse it still, so {patched.row.id} stays as it was (--force stores it): "
            f"{patched.refusal.reason_code}, {patched.refusal.detail}"
        )


@app.command("redrive")
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

    settings = settings_of(home, "state", "lake", "queues")
    quarantine = _quarantine(settings)
    selection = quarantine.selection(row_ids or (), _filter(reason, since, user), everything)
    outcome = Redrive.open(settings, quarantine.state).redrive(selection, actor())
    _print_outcome("redriven", outcome, as_json)


@app.command("discard")
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
    quarantine = _quarantine(settings_of(home, "state"))
    selection = quarantine.selection(row_ids or (), _filter(reason, since, user), everything)
    _print_outcome("discarded", quarantine.discard(selection, actor()), as_json)


def _quarantine(settings: "Settings") -> "Quarantine":
    from movierec_platform.adapters.state import State
    from movierec_platform.services.quarantine import Quarantine

    return Quarantine(State.open(settings))


def _filter(reason: str | None, since: str | None, user: int | None) -> "Filter":
    from movierec_platform.domain.quarantine import Filter

    return Filter(reason, None if since is None else epoch_ms(since), user)


def _print_outcome(done: str, outcome: "Outcome", as_json: bool) -> None:
    if as_json:
        print_json({done: outcome.done, "skipped": outcome.skipped, "finished": outcome.finished})
        return
    if outcome.finished:
        out.print(f"finished what an earlier redrive had begun: {counted(outcome.finished)}")
    out.print(f"{done}: {counted(outcome.done)}")
    for why, count in outcome.skipped.items():
        out.print(f"left alone: {count} {SKIPPED[why]}")
