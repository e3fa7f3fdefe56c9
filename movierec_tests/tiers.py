"""What runs when: the tests of everyday work, with --all everything that CI runs, with --long also what takes hours.

A test is left out of everyday work by its mark, `thorough("the browser")`, which says what it is about, or because it
uses a real Neo4j or Postgres. One whose file is named on the command line runs in any case. The last line of a run says
what was left out.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from movierec_tests.both_graphs import why_no_neo4j
from movierec_tests.postgres import postgres_binaries

USED = {
    "neo4j_server": "Neo4j",
    "postgres_server": "Postgres",
    "browser": "the browser",
    "prometheus": "Prometheus",
    "up": "whole stacks",
}
"""What a test is about that uses this fixture."""
left_out: Counter[str] = Counter()


def lacking() -> Iterator[str]:
    """What this machine does not have, so that --all would skip the tests that need it."""
    if why_no_neo4j():
        yield "a JDK with Maven"
    if postgres_binaries() is None:
        yield "Postgres"
    if shutil.which("chromium") is None:
        yield "Chromium"
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        yield "Prometheus"


def about(item: pytest.Item) -> str | None:
    """What this test is about that only --all runs; None: it runs every time."""
    if marker := item.get_closest_marker("thorough"):
        return str(marker.args[0])
    if getattr(item, "callspec", None) and item.callspec.params.get("graph_kind") == "neo4j":
        return USED["neo4j_server"]
    return next((subject for fixture, subject in USED.items() if fixture in item.fixturenames), None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run everything that CI runs")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough(about): runs with --all only, or when its file is named")
    config.addinivalue_line("markers", "tools: style and types, which are the same on every Python")
    config.pluginmanager.register(LeftOut(), "left out")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all") or config.getoption("--long"):
        return
    named = {Path(argument.split("::")[0]).resolve() for argument in config.args}
    subjects = {item: about(item) for item in items if item.path.resolve() not in named}
    dropped = [item for item, subject in subjects.items() if subject]
    left_out.update(subject for subject in subjects.values() if subject)
    items[:] = [item for item in items if not subjects.get(item)]
    config.hook.pytest_deselected(items=dropped)


class LeftOut:
    """Carries what workers left out to where the run is summed up; each has left out the same."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["left_out"] = dict(left_out)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        for subject, count in getattr(node, "workeroutput", {}).get("left_out", {}).items():
            left_out[subject] = count

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if left_out:
            tests = ", ".join(f"{subject} {count}" for subject, count in sorted(left_out.items()))
            lack = ", ".join(lacking())
            needs = f"; for some of them this machine lacks {lack}" if lack else ""
            terminalreporter.write_line(f"left out, and run by `movierec test --all`: tests of {tests}{needs}")
