"""A terminal in which `movierec up` runs, and another for commands: the platform as its users meet it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import neo4j
import psutil

from movierec_platform.config import Settings, inherited_environment, load_settings

PORTS = {f"MOVIEREC_{name}_PORT": "0" for name in ("API", "METRICS", "DAGSTER", "BOLT", "AWS")}
DEADLINE_S = 90.0
COMMAND_WITHIN_S = 300.0


class Terminal:
    """A shell in which MOVIEREC_HOME is set, and the stack that `movierec up` started in another."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        self.environment = {
            **inherited_environment(),
            **PORTS,
            "MOVIEREC_HOME": str(home),
            "COLUMNS": "200",
            "PYTHONUNBUFFERED": "1",
            **variables,
        }
        self.up: subprocess.Popen[bytes] | None = None
        self._output = home.with_name(f"{home.name}-up.log")

    def start(self) -> None:
        """`movierec up`, until it has printed where everything is."""
        command = [sys.executable, "-m", "movierec_platform.cli", "up"]
        with self._output.open("wb") as output:
            self.up = subprocess.Popen(command, env=self.environment, stdout=output)
        while "Ctrl-C" not in self.said():
            assert self.up.poll() is None, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        """What `movierec up` has printed since it was started last."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def stop(self, number: int = signal.SIGINT) -> int:
        """The exit status of `movierec up` after this signal."""
        assert self.up is not None
        self.up.send_signal(number)
        return self.up.wait(DEADLINE_S)

    def kill_everything(self) -> None:
        """SIGKILL to `up` and all that it started, at once."""
        everything = [psutil.Process(self.up.pid), *psutil.Process(self.up.pid).children(recursive=True)]
        for process in everything:
            process.suspend()  # so that nobody sees another die
        for process in everything:
            process.kill()
        psutil.wait_procs(everything, timeout=DEADLINE_S)
        self.up.wait(DEADLINE_S)

    def movierec(self, *arguments: str, status: int = 0) -> str:
        """What the command prints on its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "movierec_platform.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_WITHIN_S,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if status in (0, 1) else done.stderr

    @property
    def settings(self) -> Settings:
        return load_settings({"home": self.home})

    def cypher(self, query: str, **parameters: Any) -> list[list[Any]]:
        """The rows, read as any program would: with the plain driver and stack.env."""
        at = self.settings
        auth = (at.neo4j_user, at.neo4j_password.get_secret_value())
        with neo4j.GraphDatabase.driver(at.neo4j_uri, auth=auth) as driver:
            return [row.values() for row in driver.execute_query(query, parameters, database_="neo4j").records]


def until(condition: Callable[[], Any], what: str, within_s: float = DEADLINE_S, poll_s: float = 0.2) -> Any:
    """What the condition gave when it was true at last; fails after that time."""
    ends = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < ends, f"{what}: not within {within_s:.0f} s"
        time.sleep(poll_s)
    return found
