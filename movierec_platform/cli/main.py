"""The commands in the order of `movierec --help`, and what becomes of their errors."""

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

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
from movierec_platform.errors import CheckFailed, Interrupted, MovierecError, Transient

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

INTERRUPTED, CLOSED_PIPE = 128 + signal.SIGINT, 128 + signal.SIGPIPE
DEFECT = 70
"""EX_SOFTWARE of sysexits.h."""
OF_A_PATH = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL),
}
"""What the system says of a path that the caller should not have given."""

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
_add("Change it", stack.test, context_settings={"allow_extra_args": True, "ignore_unknown_options": True, **HELP_NAMES})


def main() -> None:
    """Runs the CLI; every error is one sentence on stderr and an exit code, whatever it is."""
    try:
        status = _run()
        _flush(sys.stdout)
    except BaseException as error:
        status = _told(error)
    sys.exit(status)


def _run() -> int | str | None:
    """What the command leaves with."""
    try:
        app()
    except SystemExit as end:
        # Typer and rich make 1 of a closed pipe, which is what a check says.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        return end.code
    return 0


def _told(error: BaseException) -> int:
    """The exit code of what went wrong, which was told on stderr."""
    with suppress(OSError):  # what was printed before it
        _flush(sys.stdout)
    if isinstance(error, BrokenPipeError):  # whoever reads our output has seen enough
        return CLOSED_PIPE
    with suppress(OSError, SystemExit):
        for sentence in _sentences(error):
            err.print(f"[red]movierec:[/red] {sentence}")
        _flush(sys.stderr)
    return _exit_code(error)


def _sentences(error: BaseException) -> list[str]:
    """What went wrong, for a person."""
    # Here and below: `movierec --help` does without these.
    from pydantic import ValidationError

    if isinstance(error, MovierecError):
        return [plain(str(error))]
    if isinstance(error, KeyboardInterrupt):
        return ["interrupted"]
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename else "what this command writes or reads: "
        return [plain(f"{what}{error.strerror or error}")]
    if isinstance(error, ValidationError):
        return [_of_setting(one) for one in error.errors(include_url=False, include_input=False)]
    said = " ".join(str(error).split())[:500]
    return [plain(f"this is a defect of movierec, {type(error).__name__}: {said}{_trace_kept(error)}")]


def _of_setting(error: "ErrorDetails") -> str:
    from movierec_platform.config import Settings, variable_of

    where = str(error["loc"][0])
    return f"{plain(variable_of(where) if where in Settings.model_fields else where)}: {plain(error['msg'])}"


def _trace_kept(error: BaseException) -> str:
    """Where the traceback is, for a report of the defect."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="movierec-", suffix=".txt", delete=False) as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return ""
    return f"; to report it, add {file.name}"


def _exit_code(error: BaseException) -> int:
    from pydantic import ValidationError

    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return INTERRUPTED
    if isinstance(error, CheckFailed):
        return 1
    if isinstance(error, Transient):
        return 3
    if isinstance(error, OSError):
        return 2 if error.errno in OF_A_PATH else 3
    return 2 if isinstance(error, (MovierecError, ValidationError)) else DEFECT


def _flush(stream: TextIO | None) -> None:
    """All is written. Raises OSError, and then the stream leads nowhere: or Python would try again at its end."""
    if stream is None:  # closed by whoever started us
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise
