"""What every command is given: options that several have, its settings, and who calls it."""

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movierec_platform.errors import UsageError

if TYPE_CHECKING:
    from movierec_platform.config import Settings
    from movierec_platform.local.identity import Part

HomeOption = Annotated[Path | None, typer.Option("--home", help="Folder of the stack's state [$MOVIEREC_HOME].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def settings_of(home: Path | None, *needs: "Part", **options: str | None) -> "Settings":
    """Those of the stack in this folder; without one, of the folder that the environment names. `options` go before.

    Raises NoStack when neither a stack that runs there nor a setting names each part that the command needs, and
    OtherStack when another one answers in its place: before anything is called or written.
    """
    # Imported here: reading settings takes half of the time that `movierec --help` has.
    from movierec_platform.config import home_of, load_settings
    from movierec_platform.local.identity import require_named, require_ours
    from movierec_platform.local.record import is_running

    given = {name: value for name, value in {"home": home, **options}.items() if value is not None}
    # The addresses that a killed stack left behind may be those of others by now.
    settings = load_settings(given, with_stack=is_running(home_of(given)))
    require_named(settings, needs)
    require_ours(settings, needs)
    return settings


def tests_folder() -> Path:
    """`movierec_tests` beside the package. Raises UsageError where it is not: in an installed package."""
    tests = Path(__file__).parents[2] / "movierec_tests"
    if not tests.is_dir():
        raise UsageError(
            "movierec_tests is in the source repository, not in the installed package: run this in a clone"
        )
    return tests


def actor() -> str:
    """Who acts, for the history."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # in a container with a user id that has no name
        return f"cli:{os.getuid()}"
