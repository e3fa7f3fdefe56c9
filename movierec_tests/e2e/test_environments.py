"""`movierec up` and every command that talks to a server, in environments left from other work.

It takes over two minutes: a whole stack is started, loaded and learned under all of them at once; then every command
runs under each of them, those of one kind in one process.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from movierec_platform.config import inherited_environment
from movierec_tests.archives import two_tastes
from movierec_tests.hostile import KINDS, hostile_environment
from movierec_tests.terminal import COMMAND_WITHIN_S, Terminal

pytestmark = pytest.mark.thorough("whole stacks")
HOME = """what's "this" #1 &@+;"""
RUN_ALL = """
import json, sys
from movierec_platform.cli.main import main

for arguments in json.load(sys.stdin):
    sys.argv = ["movierec", *arguments]
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code or 0
    if status:
        print(f"exit status {status} of {' '.join(arguments)}", file=sys.stderr, flush=True)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_tastes(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Iterator[Terminal]:
    """A stack with the small set loaded and learned, all of it in every hostile environment at once."""
    user = tmp_path_factory.mktemp("user")
    everything = {name: text for kind in KINDS for name, text in hostile_environment(kind, user).items()}
    terminal = Terminal(tmp_path_factory.mktemp("environments") / HOME, **everything)
    try:
        terminal.start()
        terminal.movierec("load", str(archive))
        terminal.movierec("nightly")
        yield terminal
    finally:
        if terminal.up is not None and terminal.up.poll() is None:
            terminal.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_reaches_the_stack(kind: str, terminal: Terminal, archive: Path, tmp_path: Path) -> None:
    since = "2020-01-01T00:00:00Z"
    commands = [
        ["load", str(archive)],
        ["recommend", "1"],
        ["traffic", "--events", "20", "--rate", "0"],
        ["verify", "--wait"],
        ["repair", "--dry-run"],
        ["replay", "--since", since],
        ["similarity", "list"],
        ["similarity", "show", "20"],
        ["evaluate", "--split", "random", "--users", "20"],
        ["rebuild", "graph", "--files", str(tmp_path / "files")],
        ["backup", str(tmp_path / "backup")],
        ["provision", "--dry-run"],
        ["provision", "--env-file", str(tmp_path / ".env")],
        ["destroy", "--dry-run", "--with-data"],
        ["quarantine", "redrive", "--all"],
        ["keys", "list"],
    ]
    own = {"MOVIEREC_HOME": str(terminal.home), "COLUMNS": "200", "HOME": str(tmp_path)}
    environment = {**inherited_environment(), **own, **hostile_environment(kind, tmp_path / "user")}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(commands),
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_WITHIN_S,
        check=False,
    )
    assert (done.returncode, "exit status" in done.stderr, "Traceback" in done.stderr) == (0, False, False), done.stderr
    assert "RECOMENDACIONES TOP 5 para Usuario 1:" in done.stdout
    assert "graph and lake are equal" in done.stdout
