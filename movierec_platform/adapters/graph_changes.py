"""The change feed of the graph: whose history changed since, without clocks.

`(:Cambios {name, feed, turn})` counts the transactions that changed histories, and `(:Cambio {slot, turn, users})` has
the users of the last SLOTS of them, in a ring. Both are written by the transaction that changes the histories, as its
last step: a reader sees the turn and the change together or neither. The counter is one node that every writer takes
(its write lock on Neo4j, on ArcadeDB a conflict that fails the later commit, which is tried again), so that turns have
no gaps and are committed in their order. A reader that comes too late, or to another database, is told so.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import neo4j
from typing_extensions import LiteralString

SLOTS = 1024
MOST_USERS = 5_000
"""One transaction names as many users at most; of more it says that anybody's history may have changed."""

SCHEMA: tuple[LiteralString, ...] = (
    "CREATE CONSTRAINT cambios_name IF NOT EXISTS FOR (f:Cambios) REQUIRE f.name IS UNIQUE",
    # An index and no constraint: the counter keeps two transactions from one slot, by a conflict that is tried again.
    "CREATE INDEX cambio_slot IF NOT EXISTS FOR (c:Cambio) ON (c.slot)",
)

# The right side reads what it sets, so that Neo4j takes the lock before it reads.
_ANNOUNCE: LiteralString = """
MERGE (f:Cambios {name: 'historias'})
ON CREATE SET f.feed = $feed, f.turn = 0
SET f.turn = f.turn + 1
WITH f.turn AS turn
MERGE (c:Cambio {slot: turn % $slots})
SET c.turn = turn, c.users = $users
"""
_HEAD: LiteralString = "MATCH (f:Cambios {name: 'historias'}) RETURN f.feed, f.turn"
_SLOTS: LiteralString = "UNWIND $slots AS slot MATCH (c:Cambio {slot: slot}) RETURN collect([c.turn, c.users])"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader has followed a feed: everything up to this turn."""

    feed: str
    turn: int


NO_FEED = Position("", 0)
"""Of a graph in which nobody has changed a history yet."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a position, and the one to go on from."""

    position: Position
    users: frozenset[int] | None
    """None: anybody's history may have changed."""


def announce(transaction: neo4j.ManagedTransaction, users: Collection[int] | None) -> None:
    """Readers learn, once this transaction is committed, that these users' histories changed; None: anybody's."""
    named = None if users is None or len(users) > MOST_USERS else sorted(users)
    transaction.run(_ANNOUNCE, {"feed": uuid.uuid4().hex, "slots": SLOTS, "users": named}).consume()


def read_changes(transaction: neo4j.ManagedTransaction, since: Position | None) -> Changes:
    """What was committed after `since`; None: whatever there is."""
    heads = [Position(*row.values()) for row in transaction.run(_HEAD)]
    head = heads[0] if heads else NO_FEED
    if head == since:
        return Changes(head, frozenset())
    if since is None or head.feed != since.feed or not 0 < head.turn - since.turn <= SLOTS:
        return Changes(head, None)
    turns = range(since.turn + 1, head.turn + 1)
    record = transaction.run(_SLOTS, {"slots": [turn % SLOTS for turn in turns]}).single(strict=True)
    found: dict[int, Any] = dict(record.values()[0])
    named = [found.get(turn) for turn in turns]  # None: it was overwritten meanwhile, or names nobody
    if any(users is None for users in named):
        return Changes(head, None)
    return Changes(head, frozenset(user for users in named for user in users or ()))
