"""The API keys in the state database; of their secrets it has salted digests only. Every method is one transaction."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from movierec_platform.domain.keys import Key, checked_scopes

metadata = sa.MetaData()

_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("scopes", sa.String, nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_at_ms", sa.BigInteger),
    sa.Column("revoked_at_ms", sa.BigInteger),
    sa.Column("last_used_on", sa.String),
    sa.Column("digest", sa.LargeBinary),
)

Turn = Callable[[sa.Table | None], AbstractContextManager[sa.Connection]]


class KeysTable:
    """The keys of one state database; thread-safe."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def add(self, key: Key) -> None:
        """The key is kept."""
        with self._turn(None) as connection:
            _add(connection, key)

    def found(self, key_id: str) -> Key | None:
        """The key with this id."""
        with self._turn(None) as connection:
            return _found(connection, key_id)

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        with self._turn(None) as connection:
            rows = connection.execute(sa.select(_keys).order_by(_keys.c.created_at_ms, _keys.c.id)).all()
        return [_key(row) for row in rows]

    def revoke(self, key_id: str, at_ms: int) -> Key | None:
        """The key as it is once it is revoked, which it stays since the first time; None when there is none."""
        unless_before = sa.update(_keys).where(_keys.c.id == key_id, _keys.c.revoked_at_ms.is_(None))
        with self._turn(_keys) as connection:
            connection.execute(unless_before.values(revoked_at_ms=at_ms))
            return _found(connection, key_id)

    def replace(self, key_id: str, expires_at_ms: int, successor: Key) -> bool:
        """The key expires then at the latest, and its successor is kept; False, and nothing, where it was revoked or
        will expire earlier."""
        later = sa.or_(_keys.c.expires_at_ms.is_(None), _keys.c.expires_at_ms >= expires_at_ms)
        holds = sa.update(_keys).where(_keys.c.id == key_id, _keys.c.revoked_at_ms.is_(None), later)
        with self._turn(_keys) as connection:
            if not connection.execute(holds.values(expires_at_ms=expires_at_ms)).rowcount:
                return False
            _add(connection, successor)
            return True

    def learn_digest(self, key_id: str, digest: bytes) -> None:
        """The key is known by this digest from now on."""
        with self._turn(None) as connection:
            connection.execute(sa.update(_keys).where(_keys.c.id == key_id).values(digest=digest))

    def used(self, key_id: str, day: str) -> None:
        """The key was last used on this day."""
        with self._turn(None) as connection:
            connection.execute(sa.update(_keys).where(_keys.c.id == key_id).values(last_used_on=day))


def _add(connection: sa.Connection, key: Key) -> None:
    row = {column.name: getattr(key, column.name) for column in _keys.c}
    connection.execute(sa.insert(_keys), row | {"scopes": ",".join(key.scopes)})


def _found(connection: sa.Connection, key_id: str) -> Key | None:
    row = connection.execute(sa.select(_keys).where(_keys.c.id == key_id)).first()
    return None if row is None else _key(row)


def _key(row: sa.Row[Any]) -> Key:
    kept = dict(row._mapping)
    return Key(**kept | {"scopes": checked_scopes(kept["scopes"].split(","))})
