"""`movierec keys`: create, list, revoke and rotate API keys."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import day, err, moment, out, plain, print_json, print_line, show

if TYPE_CHECKING:
    from movierec_platform.domain.keys import Key
    from movierec_platform.services.keys import Keys, Made

app = typer.Typer(no_args_is_help=True, help="API keys, for an API that others reach.")

KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of a key: its part between the underscores.")]


@app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who uses it.")],
    scope: Annotated[
        list[str],
        typer.Option(help="What it is good for: ingest (POST /ingest), read, or admin (quarantine, keys); repeat it."),
    ],
    expires_days: Annotated[int | None, typer.Option(min=1, help="Days after which it ends; else never.")] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Make an API key and print it, this once: only a hash of it is kept.

    --json: as `list --json`, of this key, and key, its text.
    """
    _print_made(_keys(home).create(name, scope, expires_days), as_json)


@app.command("list")
def keys_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the API keys with what they are good for; their secrets are not known."""
    from movierec_platform.services.keys import now_ms

    now = now_ms()
    shown = [key.shown(now) for key in _keys(home).all()]
    if as_json:
        print_json([asdict(key) for key in shown])
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
        standing = f"{key.standing}{until} {day(since)}".strip()
        scopes = ", ".join(key.scopes)
        table.add_row(key.id, plain(key.name), scopes, standing, day(key.created_at_ms), key.last_used_on or "")
    show(table)


@app.command("revoke")
def keys_revoke(key_id: KeyArgument, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """End an API key now; a running API looks again within MOVIEREC_KEY_CACHE_S seconds.

    --json: as `list --json`, of this key.
    """
    key = _keys(home).revoke(key_id)
    if as_json:
        print_json(_as_json(key))
        return
    out.print(f"key {key.id} ({plain(key.name)}) is revoked")


@app.command("rotate")
def keys_rotate(
    key_id: KeyArgument,
    overlap_hours: Annotated[int, typer.Option(min=0, help="Hours for which the old key holds beside it.")] = 24,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Make a key with the same name, scopes and time to live, print it, this once, and let the old one expire.

    --json: as `create --json`.
    """
    _print_made(_keys(home).rotate(key_id, overlap_hours), as_json)


def _keys(home: Path | None) -> "Keys":
    from movierec_platform.adapters.state import State
    from movierec_platform.services.keys import Keys

    return Keys(State.open(settings_of(home, "state")).keys)


def _as_json(key: "Key") -> dict[str, object]:
    from movierec_platform.services.keys import now_ms

    return asdict(key.shown(now_ms()))


def _print_made(made: "Made", as_json: bool) -> None:
    """The key alone to standard output, so that a script can take it."""
    if as_json:
        print_json({**_as_json(made.key), "key": made.text})
        return
    print_line(made.text)
    ends = f", until {moment(made.key.expires_at_ms)}" if made.key.expires_at_ms else ""
    err.print(
        f"key {made.key.id} ({plain(made.key.name)}: {', '.join(made.key.scopes)}{ends}) is shown this once; keep it"
    )
