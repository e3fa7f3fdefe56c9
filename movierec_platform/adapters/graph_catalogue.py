"""The catalogue in Cypher: movies and their genres."""

from collections.abc import Mapping, Sequence
from typing import Any

import neo4j
from typing_extensions import LiteralString

from movierec_platform.adapters.graph_connection import run

MOVIE_COUNT: LiteralString = "MATCH (m:Pelicula) RETURN count(m)"
MOVIE_IDS: LiteralString = "MATCH (m:Pelicula) RETURN m.id"
MOVIE_POPULARITY: LiteralString = "MATCH (m:Pelicula) RETURN m.id, coalesce(m.rating_count, 0) ORDER BY m.id"
KNOWN_MOVIES: LiteralString = "UNWIND $ids AS id MATCH (m:Pelicula {id: id}) RETURN m.id"
_MERGE_GENRES: LiteralString = "UNWIND $names AS name MERGE (:Genero {name: name})"
_MERGE_MOVIES: LiteralString = """
UNWIND $rows AS row
MERGE (m:Pelicula {id: row.id})
SET m.title = row.title, m.year = row.year, m.genres = row.genres,
    m.rating_count = row.rating_count, m.rating_mean = row.rating_mean
"""
_DROP_GENRES: LiteralString = """
UNWIND $rows AS row
MATCH (m:Pelicula {id: row.id})-[e:ES_DE]->(g:Genero)
WHERE NOT g.name IN row.genres
DELETE e
"""
_MERGE_GENRES_OF_MOVIES: LiteralString = """
UNWIND $rows AS row
MATCH (m:Pelicula {id: row.id})
UNWIND row.genres AS name
MATCH (g:Genero {name: name})
MERGE (m)-[:ES_DE]->(g)
"""


def merge_movies(
    transaction: neo4j.ManagedTransaction, rows: Sequence[Mapping[str, Any]], genres: Sequence[str]
) -> None:
    """These movies, of these genres all told, stand in the graph with exactly their own genres."""
    run(transaction, _MERGE_GENRES, names=genres)
    run(transaction, _MERGE_MOVIES, rows=rows)
    run(transaction, _DROP_GENRES, rows=rows)
    run(transaction, _MERGE_GENRES_OF_MOVIES, rows=rows)
