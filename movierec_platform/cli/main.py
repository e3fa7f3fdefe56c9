"""The commands in the order of `movierec --help`, and what becomes of their errors."""

import sys
from typing import Annotated

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
    traffic,
)
from movierec_platform.cli.printing import err, out, plain
from movierec_platform.config import Settings, variable_of
from movierec_platform.errors import CheckFailed, MovierecError, Transient

app = typer.Typer(
    name="movierec",
    help="A self-hosted movie recommender: ratings stream into a graph, a nightly batch learns from all of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


app.command()(stack.up)
app.command()(stack.demo)
app.command()(docs.docs)
app.command()(batch.load)
app.command()(batch.nightly)
app.command()(recommend.recommend)
app.command()(traffic.traffic)
app.command()(parity.verify)
app.command()(parity.repair)
app.command()(recovery.replay)
app.command()(backups.backup)
app.command()(backups.restore)
app.command()(evaluate.evaluate)
app.command()(infrastructure.provision)
app.command()(infrastructure.destroy)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(stack.test)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(keys.app, name="keys")
app.add_typer(recovery.rebuild_app, name="rebuild")
app.add_typer(similarity.app, name="similarity")
app.add_typer(serve.app, name="serve")


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
