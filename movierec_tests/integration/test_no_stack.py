"""A command uses the servers of its own stack, or those that a setting names: in an empty folder it does nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from movierec_platform.cli.main import app
from movierec_platform.config import STACK_ENV, inherited_environment, write_env_file
from movierec_platform.local.record import HomeLock

RUN_ALL = """
import contextlib, io, json, sys
done = []
def seen(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        done.append(f"{event} {arguments[1:]}")
sys.addaudithook(seen)
from movierec_platform.cli.main import main
for words in json.load(sys.stdin):
    said, sys.argv, status = io.StringIO(), ["movierec", *words], 0
    done.clear()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as exit:
            status = exit.code
    print(json.dumps([words, status, said.getvalue(), done]))
"""
NEEDS_NONE = {"up", "demo", "test", "restore", "provision", "destroy", "docs", "logs"}
"""They make a stack or its resources, or, like a restore, what a new machine gets first; or they only read files."""
WORDS = {
    "recommend": ["7"],
    "keys create": ["shop", "--scope", "read"],
    "keys revoke": ["abc"],
    "keys rotate": ["abc"],
    "quarantine show": ["abc"],
    "quarantine patch": ["abc", "{}"],
    "quarantine redrive": ["--all"],
    "quarantine discard": ["--all"],
    "replay": ["--since", "2026-01-01T00:00:00Z"],
    "similarity show": ["v"],
    "similarity publish": ["v"],
    "backup": ["copy"],
}


def leaves(command: object, name: str = "") -> list[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [name]
    return [leaf for word, one in inner.items() for leaf in leaves(one, f"{name} {word}".strip())]


COMMANDS = [[*name.split(), *WORDS.get(name, [])] for name in leaves(typer.main.get_command(app))]
STACK_COMMANDS = [words for words in COMMANDS if words[0] not in NEEDS_NONE]
MORE = [["traffic", "--locust"], ["rebuild", "graph", "--files", "files"], ["evaluate", "--tune"]]


def run_all(folder: Path, commands: list[list[str]], **variables: str) -> list[tuple[list[str], int, str, list[str]]]:
    """(words, exit code, what it said, network calls) of each command, run in this folder."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(commands),
        cwd=folder,
        env={**inherited_environment(), "HOME": str(folder), "COLUMNS": "500", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]  # type: ignore[misc]


def test_without_a_stack_every_command_says_so_and_does_nothing(tmp_path: Path) -> None:
    assert len(STACK_COMMANDS) > 20
    for words, status, said, done in run_all(tmp_path, STACK_COMMANDS + MORE):
        assert (words, status, done) == (words, 3, []), said
        assert said.count("\n") == 1, said
        assert said.startswith("movierec: no stack "), said
        assert str(tmp_path / ".movierec") in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["recommend", "7"], ["load"]])
def test_what_a_killed_stack_left_behind_names_nothing(tmp_path: Path, words: list[str]) -> None:
    home = tmp_path / ".movierec"
    home.mkdir()
    write_env_file(home / STACK_ENV, {"MOVIEREC_API_URL": "http://127.0.0.1:9", "DAGSTER_URL": "http://127.0.0.1:9"})
    with HomeLock(home):
        ((_, status, said, done),) = run_all(tmp_path, [words])
        assert (status, bool(done)) == (3, True), said
        assert "127.0.0.1:9 does not answer" in said, "it runs, and they are its own"
    ((_, status, said, done),) = run_all(tmp_path, [words])
    assert (status, done) == (3, [])
    assert said.startswith(f"movierec: no stack runs in {home} ")
