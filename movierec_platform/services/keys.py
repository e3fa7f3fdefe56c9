"""API keys: made, listed, revoked and rotated by those who run the platform; verified at each request."""

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone

from movierec_platform.adapters.keys import KeysTable
from movierec_platform.domain.keys import (
    ID_BYTES,
    SALT_BYTES,
    SECRET_BYTES,
    Key,
    checked_name,
    checked_scopes,
    digest_of,
    hashed,
    key_text,
    parted,
)
from movierec_platform.errors import Conflict, NotFound, StateUnavailable, UsageError

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MAX_DAYS = 3_650
MAX_OVERLAP_HOURS = 24 * 90
LOOK_UPS = 64
"""Of API keys at one time, at most."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new key, and its text, which is nowhere else."""

    key: Key
    text: str = field(repr=False)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one state database."""

    table: KeysTable
    now_ms: Callable[[], int] = now_ms

    def create(self, name: str, scopes: Iterable[str], expires_days: int | None = None) -> Made:
        """A new key. Raises UsageError for a name, a scope or a time that no key can have."""
        if expires_days is not None and not 1 <= expires_days <= MAX_DAYS:
            raise UsageError(f"a key expires after 1 to {MAX_DAYS} days, not {expires_days}")
        made = self._made(checked_name(name), checked_scopes(scopes), expires_days and expires_days * DAY_MS)
        self.table.add(made.key)
        return made

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        return self.table.all()

    def any_active(self) -> bool:
        """Whether somebody could come in."""
        now = self.now_ms()
        return any(key.standing(now) == "active" for key in self.table.all())

    def revoke(self, key_id: str) -> Key:
        """The key opens nothing any more. Raises NotFound."""
        key = self.table.revoke(key_id, self.now_ms())
        if key is None:
            raise _unknown(key_id)
        return key

    def rotate(self, key_id: str, overlap_hours: int) -> Made:
        """A new key with this one's name, scopes and time to live; this one holds for the overlap at most.

        Raises NotFound, UsageError for an overlap out of bounds, and Conflict for a key that is not active.
        """
        if not 0 <= overlap_hours <= MAX_OVERLAP_HOURS:
            raise UsageError(f"the old key holds for 0 to {MAX_OVERLAP_HOURS} hours more, not {overlap_hours}")
        old, now = self.table.found(key_id), self.now_ms()
        if old is None:
            raise _unknown(key_id)
        if old.standing(now) != "active":
            raise Conflict(f"the key {key_id} is {old.standing(now)}: make a new one with `movierec keys create`")
        to_live_ms = None if old.expires_at_ms is None else old.expires_at_ms - old.created_at_ms
        made, ends_ms = self._made(old.name, old.scopes, to_live_ms), now + overlap_hours * HOUR_MS
        ends_ms = ends_ms if old.expires_at_ms is None else min(ends_ms, old.expires_at_ms)
        if not self.table.replace(old.id, ends_ms, made.key):
            raise Conflict(f"the key {key_id} was revoked or rotated meanwhile: see `movierec keys list`")
        return made

    def _made(self, name: str, scopes: Iterable[str], to_live_ms: int | None) -> Made:
        secret, salt, now = secrets.token_urlsafe(SECRET_BYTES), secrets.token_bytes(SALT_BYTES), self.now_ms()
        key = Key(
            id=secrets.token_hex(ID_BYTES),
            name=name,
            scopes=checked_scopes(scopes),
            salt=salt,
            hash=hashed(secret, salt),
            created_at_ms=now,
            expires_at_ms=None if to_live_ms is None else now + to_live_ms,
            digest=digest_of(secret, salt),
        )
        return Made(key, key_text(key.id, secret))


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"there is no key {key_id[:40]!r}: see `movierec keys list`")


@dataclass(frozen=True, slots=True)
class _Known:
    key: Key
    until_s: float


class Verifier:
    """Tells whose key a text is; thread-safe.

    A key that was verified is not looked up again for `keep_s`: so long, at most, a revocation by another process takes
    to hold here, and so long a known key works while the state database is down. Those who ask with one text wait for
    one look-up; others do not wait for it. Of keys without a digest one is hashed at a time: it takes 16 MiB.
    """

    def __init__(
        self,
        table: Callable[[], KeysTable],
        keep_s: float,
        now_ms: Callable[[], int] = now_ms,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._keep_s = keep_s
        self._now_ms = now_ms
        self._monotonic_s = monotonic_s
        self._known: dict[bytes, _Known] = {}
        self._changing = threading.Lock()
        self._forgotten = 0
        self._hashing = threading.Lock()
        self._asking = tuple(threading.Lock() for _ in range(LOOK_UPS))

    def verify(self, text: str, before_look_up: Callable[[], object] = lambda: None) -> Key | None:
        """The active key whose text this is; None when there is none. Raises StateUnavailable.

        `before_look_up` is called, and may refuse by raising, before a text is looked up that is not known.
        """
        digest = hashlib.sha256(text.encode()).digest()  # so that no secret stays in memory
        known = self._known.get(digest)
        if known is None or known.until_s <= self._monotonic_s():
            if known is None:
                before_look_up()
            parts = parted(text)
            known = self._looked_up(digest, *parts) if parts else None
        return known.key if known and known.key.standing(self._now_ms()) == "active" else None

    def forget(self, key_id: str) -> None:
        """The key is looked up at its next use."""
        with self._changing:
            self._forgotten += 1
            for digest in [digest for digest, known in self._known.items() if known.key.id == key_id]:
                del self._known[digest]

    def _looked_up(self, digest: bytes, key_id: str, secret: str) -> _Known | None:
        with self._asking[digest[0] % LOOK_UPS]:
            known = self._known.get(digest)
            if known and known.until_s > self._monotonic_s():
                return known
            until_s = self._monotonic_s() + self._keep_s  # from before the look-up: what it reads may be older already
            forgotten = self._forgotten
            key = self._table().found(key_id)
            opened = key is not None and key.standing(self._now_ms()) == "active" and self._opens(key, secret)
            with self._changing:
                self._known.pop(digest, None)
                if key is None or not opened:
                    return None
                known = _Known(key, until_s)
                if forgotten == self._forgotten:  # else the key that was read may have been revoked since
                    self._known[digest] = known
        self._note_use(key)
        return known

    def _opens(self, key: Key, secret: str) -> bool:
        if key.digest is not None:
            return key.opened_by(secret)
        with self._hashing:
            if not key.opened_by(secret):
                return False
        try:
            self._table().learn_digest(key.id, digest_of(secret, key.salt))
        except StateUnavailable as error:
            log.warning("the digest of key %s is not kept: %s", key.id, error)
        return True

    def _note_use(self, key: Key) -> None:
        """The day is noted, once; that it cannot be is no reason to refuse the request."""
        today = datetime.fromtimestamp(self._now_ms() / 1000, timezone.utc).date().isoformat()
        if key.last_used_on != today:
            try:
                self._table().used(key.id, today)
            except StateUnavailable as error:
                log.warning("the use of key %s is not noted: %s", key.id, error)
