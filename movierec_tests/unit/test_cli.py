"""The command line explains itself."""

import subprocess
import sys

import click
import pytest
import typer.main
from typer.testing import CliRunner

from movierec_platform.cli.main import app

HEAVY = {"boto3", "dagster", "deltalake", "flask", "neo4j", "numba", "numpy", "pandas", "requests", "scipy"}


def leaves(command: click.Command, name: str = "") -> list[tuple[str, click.Command]]:
    """(the words that call it, the command) for each command that does something."""
    if not hasattr(command, "commands"):
        return [(name, command)]
    return [leaf for word, inner in command.commands.items() for leaf in leaves(inner, f"{name} {word}".strip())]


COMMANDS = leaves(typer.main.get_command(app))


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_every_command_and_option_is_explained(words: str, command: click.Command) -> None:
    assert command.help
    assert all(getattr(parameter, "help", None) for parameter in command.params), "an option without help"


WITHOUT_JSON = {"up", "stop", "logs", "open", "docs", "demo", "test", "serve api", "serve metrics"}
"""They run servers, jobs or programs, and answer nothing that a program would read."""


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_what_a_command_answers_it_answers_as_json_too(words: str, command: click.Command) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert words in WITHOUT_JSON or "--json" in options


def test_help_and_version_work_without_any_settings() -> None:
    assert "Recommend movies to a user." in CliRunner().invoke(app, ["--help"]).output
    assert CliRunner().invoke(app, ["--version"]).output == "0.1.0\n"
    assert CliRunner().invoke(app, ["recommend", "--help"]).exit_code == 0
    assert CliRunner().invoke(app, ["no-such-command"]).exit_code == 2


def test_a_command_waits_for_nothing_heavy_that_it_does_not_need() -> None:
    code = "import sys, movierec_platform.cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert not HEAVY & set(loaded)
