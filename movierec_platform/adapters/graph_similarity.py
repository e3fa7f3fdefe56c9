"""The similarity in Cypher: its versions side by side, the one that is published, and who may write."""

from dataclasses import dataclass
from typing import Any

import neo4j
from typing_extensions import LiteralString

from movierec_platform.adapters.graph_connection import run
from movierec_platform.errors import LeaseLost

SimilarityEdge = tuple[int, int, float, int, int]
"""(source movie, target movie, score, rank within the target, support)"""


@dataclass(frozen=True, slots=True)
class Publication:
    """The similarity version that readers use, and the one that it replaced."""

    version: str
    previous: str | None
    published_at_ms: int
    why: str = ""
    """Who did it, how, and against what advice."""


PUBLICATION: LiteralString = """
MATCH (p:Publicacion {name: 'similarity'}) WHERE p.version IS NOT NULL
RETURN p.version, p.previous, coalesce(p.published_at_ms, 0), coalesce(p.why, '')
"""
TAKE_SIMILARITY: LiteralString = """
MERGE (p:Publicacion {name: 'similarity'})
SET p.writer = $writer, p.turn = coalesce(p.turn, 0) + 1
"""
# The turn makes every write of the writer conflict with another's taking of the similarity, as in `graph_pairs`.
_WRITER_TURN: LiteralString = """
MATCH (p:Publicacion {name: 'similarity'}) WHERE p.writer = $writer
SET p.turn = p.turn + 1
RETURN count(p)
"""
PUBLISH: LiteralString = """
MERGE (p:Publicacion {name: 'similarity'})
SET p.previous = CASE WHEN p.version = $version THEN p.previous ELSE p.version END,
    p.published_at_ms = CASE WHEN p.version = $version THEN p.published_at_ms ELSE $now END,
    p.why = CASE WHEN p.version = $version THEN p.why ELSE $why END
SET p.version = $version
"""
CREATE_SIMILAR: LiteralString = """
UNWIND $rows AS row
MATCH (source:Pelicula {id: row[0]})
MATCH (target:Pelicula {id: row[1]})
CREATE (source)-[:SIMILAR {score: row[2], rank: row[3], support: row[4], version: $version}]->(target)
"""
COUNT_SIMILAR: LiteralString = """
MATCH (:Pelicula)-[s:SIMILAR]->(:Pelicula) WHERE s.version = $version RETURN count(s)
"""
DROP_SIMILAR: LiteralString = """
UNWIND $ids AS id
MATCH (m:Pelicula {id: id})-[s:SIMILAR]->(:Pelicula)
WHERE NOT s.version IN $keep
DELETE s
RETURN count(s)
"""


def as_writer(
    transaction: neo4j.ManagedTransaction, writer: str | None, statement: LiteralString, /, **parameters: Any
) -> list[list[Any]]:
    """As `run`, if this writer (None: anybody) still has the similarity; else LeaseLost, and nothing is written."""
    if writer is not None and run(transaction, _WRITER_TURN, writer=writer) != [[1]]:
        raise LeaseLost("another publication of the similarity has begun since: this one leaves everything to it")
    return run(transaction, statement, **parameters)
