"""Tests marked `both_graphs` run on the embedded graph and on a real Neo4j, where there is a JDK and Maven.

Where there is none, those tests run on the embedded graph alone; with --all and CI=true nothing runs.
`both_graphs(long=True)` runs on Neo4j with --long only, and a test marked `long` not at all without it: these cost more
CPU than what a Neo4j could do differently is worth in every run.
Whatever runs on Neo4j is one work unit of pytest-xdist, so that one worker starts one Neo4j for all of it.
"""

import os
import re
from functools import cache

import pytest
from xdist.scheduler import LoadFileScheduling

from movierec_platform.errors import ServerFailed
from movierec_platform.local.neo4j import find_java, find_maven

GRAPHS = ("embedded", "neo4j")
ON_NEO4J = pytest.mark.parametrize("graph_kind", ["neo4j"], indirect=True, scope="session")


@cache
def why_no_neo4j() -> str | None:
    """What this machine lacks for it, in a sentence; None: nothing."""
    try:
        find_java()
        find_maven()
    except ServerFailed as error:
        return str(error)
    return None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_graphs(long): runs on the embedded graph and a Neo4j, if long by --long")
    config.addinivalue_line("markers", "long: runs with --long only")
    everything = config.getoption("--all") or config.getoption("--long")
    if everything and os.environ.get("CI") == "true" and (lack := why_no_neo4j()):
        raise pytest.UsageError(f"CI tests a real Neo4j too: {lack}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("both_graphs")
    if marker and "graph_kind" in metafunc.fixturenames:
        too_long = marker.kwargs.get("long") and not metafunc.config.getoption("--long")
        kinds = GRAPHS[:1] if too_long or why_no_neo4j() else GRAPHS
        metafunc.parametrize("graph_kind", kinds, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        items[:] = [one for one in items if not one.get_closest_marker("long")]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> "ByFileAndGraph | None":
    return ByFileAndGraph(config, log) if config.getvalue("dist") == "loadfile" else None


class ByFileAndGraph(LoadFileScheduling):
    """A file is a work unit, and so is everything that runs on Neo4j."""

    def _split_scope(self, nodeid: str) -> str:
        on_neo4j = re.search(r"[\[-]neo4j[-\]]", nodeid) or nodeid.startswith("movierec_tests/neo4j/")
        return "neo4j" if on_neo4j else super()._split_scope(nodeid)
