"""Every Cypher statement of the project as a Neo4j plans it: by the indexes, in a syntax that stays."""

import ast
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import neo4j

from movierec_platform import adapters
from movierec_platform.adapters import graph_changes, graph_pairs
from movierec_platform.adapters.graph import Graph
from movierec_platform.config import Settings
from movierec_tests.both_graphs import ON_NEO4J

MODULES = [
    import_module(f"{adapters.__name__}.{module.name}")
    for module in pkgutil.iter_modules(adapters.__path__)
    if module.name.startswith("graph")
]
FRAGMENTS = {graph_pairs._ENDS, graph_pairs.SET, graph_pairs._STATE, graph_pairs._TAKE_TURN}
OF_ONE_NODE = "(r:Reconstruccion"
"""Its label has one node at most, and no index."""
OF_ALL = (
    "MATCH (m:Pelicula) ",
    "MATCH (:Pelicula)-[s:SIMILAR]->(:Pelicula) ",
    "MATCH (:Usuario)-[e:VIO]->(:Pelicula) RETURN count(e)",
    "MATCH (n) RETURN labels(n)[0]",
    "MATCH (n)\nWITH n LIMIT 20000\nDELETE n",
)
"""These read, or delete, all that there is."""


def constants(module: ModuleType) -> Iterator[str]:
    """Every string that stands in the source, or is a constant of the module or in one."""
    composed: set[ast.AST] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.JoinedStr):
            composed.update(node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in composed:
            yield node.value
    for value in vars(module).values():
        values = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
        yield from (one for one in values if isinstance(one, str))


def statements() -> set[str]:
    found = {text.strip() for module in MODULES for text in constants(module)}
    return {one for one in found if one.startswith(("MATCH ", "MERGE ", "UNWIND ", "CREATE "))} - FRAGMENTS


def operators(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["operatorType"].partition("@")[0]
    for child in plan.get("children", ()):
        yield from operators(child)


@ON_NEO4J
def test_every_statement_goes_by_an_index_and_none_is_deprecated(clean_graph: Graph, settings: Settings) -> None:
    scanning, warned = set(), set()
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    with (
        neo4j.GraphDatabase.driver(settings.neo4j_uri, auth=auth) as driver,
        driver.session(database=settings.neo4j_database) as session,
    ):
        for statement in statements():
            with session.begin_transaction() as transaction:
                summary = transaction.run("EXPLAIN " + statement).consume()  # type: ignore[arg-type]
            assert summary.plan is not None, statement
            if {"AllNodesScan", "NodeByLabelScan"} & set(operators(summary.plan)):
                scanning.add(statement)
            warned |= {
                f"{one.status_description}: {statement}"
                for one in summary.gql_status_objects
                if one.raw_classification in ("DEPRECATION", "PERFORMANCE")
            }
    assert warned == set()
    assert {one for one in scanning if OF_ONE_NODE not in one and not one.startswith(OF_ALL)} == set()


def test_the_statements_are_found() -> None:
    found = statements()
    assert len(found) > 40
    assert {graph_pairs.HISTORY.strip(), graph_pairs.CREATE_EDGE["RETIRO"], graph_changes._ANNOUNCE.strip()} <= found
    assert "MATCH (m:Pelicula) RETURN m.id" in found
