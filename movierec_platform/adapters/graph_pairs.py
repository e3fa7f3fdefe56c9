"""Pairs in Cypher: what users have seen (VIO) and taken back (RETIRO), how they stand and how they change."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import neo4j
from typing_extensions import LiteralString

from movierec_platform.adapters.graph_catalogue import KNOWN_MOVIES
from movierec_platform.adapters.graph_changes import announce
from movierec_platform.adapters.graph_connection import run
from movierec_platform.domain.differences import Difference, edge_type
from movierec_platform.domain.registers import UNSEEN, Pair, PairState, state_of


@dataclass(frozen=True, slots=True)
class Watched:
    """One movie in a user's history; `rating` is None for a view, `seen_at_ms` 0 where the edge tells no time."""

    movie_id: int
    rating: float | None
    seen_at_ms: int


LAST_MS = 253_402_300_799_999
"""The end of the year 9999: what a clock can show."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of differences that were to be replaced."""

    done: frozenset[Pair]
    changed: frozenset[Pair]
    """Not as they had been read any more, and left as they are."""
    unknown_movies: frozenset[int]
    """Those that the graph lacks: their pairs are neither."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """How a pair stands in the graph."""

    edge: Literal["VIO", "RETIRO"] | None
    state: PairState


USER_IDS: LiteralString = "MATCH (u:Usuario) WHERE u.id IS NOT NULL RETURN u.id ORDER BY u.id"
PAIR_COUNT: LiteralString = "MATCH (:Usuario)-[e:VIO]->(:Pelicula) RETURN count(e)"
# One record, a list, instead of one a row where many are read: the driver spends a third of the time on records.
_STATE: LiteralString = "e.rating, e.rated_at_ms, e.event_id, e.seen_at_ms, e.retracted_at_ms"
EDGES_OF_USERS: LiteralString = f"""
UNWIND $ids AS id
MATCH (u:Usuario {{id: id}})-[e:VIO|RETIRO]->(m:Pelicula)
RETURN id, collect([coalesce(m.id, 0), type(e), {_STATE}])
"""
USERS_FROM: LiteralString = """
MATCH (u:Usuario) WHERE u.id >= $first
WITH u ORDER BY u.id LIMIT $n
OPTIONAL MATCH (u)-[e:VIO]->(:Pelicula)
RETURN u.id AS id, count(e) AS seen ORDER BY id
"""
HISTORY: LiteralString = """
MATCH (u:Usuario {id: $user_id})-[e:VIO]->(m:Pelicula)
RETURN collect([m.id, e.rating, e.seen_at_ms])
"""
# Two writers of one user take turns: the change takes the node's write lock on Neo4j, and on ArcadeDB fails the later
# commit, which is tried again. It must last, come after MERGE has the node and before its edges are read: ArcadeDB sees
# no conflict in one that is undone, or equal to what was there. New users are guarded by their constraint.
_TAKE_TURN: LiteralString = "SET u.turn = coalesce(u.turn, 0) + 1"
_STATES_OF_PAIRS: LiteralString = f"""
UNWIND $pairs AS pair
MATCH (m:Pelicula {{id: pair[1]}})
MERGE (u:Usuario {{id: pair[0]}})
{_TAKE_TURN}
WITH u, m
OPTIONAL MATCH (m)<-[e:VIO|RETIRO]-(u)
RETURN collect([u.id, m.id, type(e), {_STATE}])
"""
_STATES_OF_USERS: LiteralString = f"""
UNWIND $ids AS id
MERGE (u:Usuario {{id: id}})
{_TAKE_TURN}
WITH u
MATCH (u)-[e:VIO|RETIRO]->(m:Pelicula)
RETURN collect([u.id, coalesce(m.id, 0), type(e), {_STATE}])
"""

# Values in a row's own list, not in a map: the driver, which packs in Python, would pack every key of every row.
SET: LiteralString = (
    "e = {rating: row[2], rated_at_ms: row[3], event_id: row[4], seen_at_ms: row[5], retracted_at_ms: row[6]}"
)
_ENDS: LiteralString = "UNWIND $rows AS row MATCH (m:Pelicula {id: row[1]}) MATCH (u:Usuario {id: row[0]})"
CREATE_EDGE: Mapping[str, LiteralString] = {
    "VIO": f"{_ENDS} CREATE (u)-[e:VIO]->(m) SET {SET}",
    "RETIRO": f"{_ENDS} CREATE (u)-[e:RETIRO]->(m) SET {SET}",
}
_UPDATE_EDGE: Mapping[str, LiteralString] = {
    "VIO": f"{_ENDS} MATCH (m)<-[e:VIO]-(u) SET {SET}",
    "RETIRO": f"{_ENDS} MATCH (m)<-[e:RETIRO]-(u) SET {SET}",
}
_DELETE_EDGE: Mapping[str, LiteralString] = {
    "VIO": f"{_ENDS} MATCH (m)<-[e:VIO]-(u) DELETE e",
    "RETIRO": f"{_ENDS} MATCH (m)<-[e:RETIRO]-(u) DELETE e",
}

# From the user, and by `coalesce`, so that an edge to a movie without an id is found as it was read.
_DELETE_EDGES: LiteralString = """
UNWIND $rows AS row
MATCH (u:Usuario {id: row[0]})-[e:VIO|RETIRO]->(m:Pelicula)
WHERE coalesce(m.id, 0) = row[1]
DELETE e
"""


def watched(rows: Iterable[Sequence[Any]]) -> list[Watched]:
    """The history in these rows of HISTORY, latest first, each movie once.

    An edge may have been made by hand: without properties, with values of other types, twice. Its movie was seen; what
    it says beside that counts only where an event could have said it.
    """
    latest: dict[int, Watched] = {}
    for movie_id, rating, seen_at_ms in rows:
        if type(movie_id) is not int:
            continue
        known_rating = type(rating) in (int, float) and 0.5 <= rating <= 5.0
        known_time = type(seen_at_ms) is int and 0 <= seen_at_ms <= LAST_MS
        one = Watched(movie_id, rating if known_rating else None, seen_at_ms if known_time else 0)
        if movie_id not in latest or latest[movie_id].seen_at_ms < one.seen_at_ms:
            latest[movie_id] = one
    return sorted(latest.values(), key=lambda one: (-one.seen_at_ms, one.movie_id))


def states_of_pairs(transaction: neo4j.ManagedTransaction, pairs: Collection[Pair]) -> dict[Pair, _Stored]:
    """How each of these pairs stands, by pair; a pair whose movie is unknown is missing."""
    [[rows]] = run(transaction, _STATES_OF_PAIRS, pairs=[list(pair) for pair in sorted(pairs)])
    return {(user, movie): _Stored(edge, state_of(*state)) for user, movie, edge, *state in rows}


def states_of_users(transaction: neo4j.ManagedTransaction, pairs: Collection[Pair]) -> dict[Pair, _Stored]:
    """As `states_of_pairs`, read as whole histories."""
    known = {row[0] for row in run(transaction, KNOWN_MOVIES, ids=sorted({movie for _, movie in pairs}))}
    stored = {pair: _Stored(None, UNSEEN) for pair in pairs if pair[1] in known}
    [[rows]] = run(transaction, _STATES_OF_USERS, ids=sorted({user for user, _ in pairs}))
    for user, movie, edge, *state in rows:
        if (user, movie) in stored:
            stored[user, movie] = _Stored(edge, state_of(*state))
    return stored


ReadStates = Callable[[neo4j.ManagedTransaction, Collection[Pair]], dict[Pair, _Stored]]


class Unchanged(Exception):
    """Nothing is to be written: the transaction is rolled back, and with it the turn that was taken."""

    def __init__(self, unknown_movies: Collection[int] = ()) -> None:
        super().__init__()
        self.unknown_movies = set(unknown_movies)


def merge_states(transaction: neo4j.ManagedTransaction, pairs: Mapping[Pair, PairState], read: ReadStates) -> set[int]:
    """Writes what merging changes of what `read` finds; returns the movies that are not in the graph.

    Raises Unchanged when it changes nothing.
    """
    stored = read(transaction, pairs)
    unknown_movies = {movie for user, movie in pairs if (user, movie) not in stored}
    create: dict[str, list[list[Any]]] = {"VIO": [], "RETIRO": []}
    update: dict[str, list[list[Any]]] = {"VIO": [], "RETIRO": []}
    delete: dict[str, list[list[Any]]] = {"VIO": [], "RETIRO": []}
    for pair, before in stored.items():
        after = before.state.merged_with(pairs[pair])
        if after == before.state:
            continue
        edge = edge_type(after)
        (update if before.edge == edge else create)[edge].append([*pair, *values(after)])
        if before.edge is not None and before.edge != edge:
            delete[before.edge].append(list(pair))
    if not any(rows for kind in (create, update) for rows in kind.values()):
        raise Unchanged(unknown_movies)
    for statements, rows_of_edge in ((_DELETE_EDGE, delete), (_UPDATE_EDGE, update), (CREATE_EDGE, create)):
        for name, rows in rows_of_edge.items():
            if rows:
                run(transaction, statements[name], rows=rows)
    announce(transaction, {row[0] for kind in (create, update) for rows in kind.values() for row in rows})
    return unknown_movies


def replace_edges(transaction: neo4j.ManagedTransaction, wanted: Mapping[Pair, Difference]) -> frozenset[Pair]:
    """Writes what the lake says of each pair that stands as it was read; returns the others.

    Raises Unchanged when that is all of them.
    """
    from movierec_platform.domain.edges import edges_table
    from movierec_platform.domain.parity import edges_of

    edges: dict[int, list[list[Any]]] = {user_id: [] for user_id, _ in wanted}
    for user_id, *edge in run(transaction, _STATES_OF_USERS, ids=sorted(edges))[0][0]:
        edges[user_id].append(edge)
    stored = edges_of(edges_table(edges))
    # As text, so that not-a-number equals itself.
    same = [
        one for pair, one in wanted.items() if sorted(map(repr, stored.get(pair, ()))) == sorted(map(repr, one.edges))
    ]
    if not same:
        raise Unchanged
    if held := [list(one.pair) for one in same if one.edges]:
        run(transaction, _DELETE_EDGES, rows=held)
    wanted_states = [(one.pair, one.lake) for one in same if one.lake is not None]
    for edge, statement in CREATE_EDGE.items():
        created = [[*pair, *values(state)] for pair, state in wanted_states if edge_type(state) == edge]
        if created:
            run(transaction, statement, rows=created)
    announce(transaction, {one.user_id for one in same})
    return frozenset(wanted) - {one.pair for one in same}


def values(state: PairState) -> list[Any]:
    """In the order of `SET`."""
    return [state.rating, state.rated_at_ms, state.event_id, state.seen_at_ms, state.retracted_at_ms]
