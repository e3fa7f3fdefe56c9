"""The commands in the order of `movierec --help`, and what becomes of their errors."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from movierec_platform import __version__
from movierec_platform.cli import (
    backups,
    batch,
    docs,
    evaluate,
    infrastructure,
    keys,
    parity,
    quarantine,
    recommend,
    recovery,
    serve,
    similarity,
    stack,
    status,
    traffic,
)
from movierec_platform.cli.printing import err, out, plain
from movierec_platform.config import Settings, variable_of
from movierec_platform.errors import CheckFailed, MovierecError, Transient

HELP_NAMES = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="movierec",
    help="A self-hosted movie recommender: ratings stream into a graph, a nightly batch learns from all of them.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


def _add(panel: str, *commands: Callable[..., None], **settings: Any) -> None:
    """The commands are in this group of `movierec --help`."""
    for command in commands:
        name = command.__name__.removesuffix("_page").replace("_", "-")
        app.command(name, rich_help_panel=panel, **settings)(command)


_add("Run it here", stack.up, stack.stop, status.status, stack.logs, stack.open_page, stack.demo, docs.docs)
_add("Recommend and learn", recommend.recommend, batch.load, batch.nightly, evaluate.evaluate)
app.add_typer(similarity.app, name="similarity", rich_help_panel="Recommend and learn")
_add("Events", traffic.traffic)
app.add_typer(quarantine.app, name="quarantine", rich_help_panel="Events")
_add("Prove and recover", parity.verify, parity.repair, recovery.replay)
app.add_typer(recovery.rebuild_app, name="rebuild", rich_help_panel="Prove and recover")
_add("Prove and recover", backups.backup, backups.restore)
_add("Deploy", infrastructure.provision, infrastructure.destroy)
app.add_typer(keys.app, name="keys", rich_help_panel="Deploy")
app.add_typer(serve.app, name="serve", rich_help_panel="Deploy")
_add(
    "Change it", stack.test, context_settings={"allow_extra_args": True, "ignore_unknown_options": True, **HELP_NAMES}
)


def main() -> None:
    """Runs the CLI; every error is one sentence on stderr and an exit code."""
    try:
        app()
    except MovierecError as error:
        err.print(f"[red]movierec:[/red] {plain(str(error))}")
        sys.exit(_exit_code(error))
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            where = str(one["loc"][0])
            variable = variable_of(where) if where in Settings.model_fields else where
            err.print(f"[red]movierec:[/red] {plain(variable)}: {plain(one['msg'])}")
        sys.exit(2)


def _exit_code(error: MovierecError) -> int:
    if isinstance(error, CheckFailed):
        return 1
    return 3 if isinstance(error, Transient) else 2
