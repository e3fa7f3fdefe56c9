"""API keys: their text, what they are good for, how they are kept, and whether they hold. Pure."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from movierec_platform.errors import UsageError

Scope = Literal["ingest", "read", "admin"]
"""ingest: POST /ingest; admin: quarantine and keys; read: everything else. None of them implies another."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

ID_BYTES = 6
SECRET_BYTES = 32
SALT_BYTES = 16
DIGEST_BYTES = 32
MAX_NAME_CHARS = 100
_TEXT = re.compile(r"mrk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_SCRYPT_COST = 2**14
"""16 MiB and about 50 ms (RFC 7914)."""

Standing = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is kept: its secret is hashed. Times are epoch ms; `last_used_on` is a day (UTC, ISO)."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    salt: bytes = field(repr=False)
    hash: bytes = field(repr=False)
    created_at_ms: int
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    last_used_on: str | None = None
    digest: bytes | None = field(default=None, repr=False)
    """Of the secret; None: the key was made by a release that kept the slow hash only."""

    def standing(self, now_ms: int) -> Standing:
        """Only an active key opens anything; it ends in the millisecond of its expiry."""
        if self.revoked_at_ms is not None:
            return "revoked"
        return "expired" if self.expires_at_ms is not None and self.expires_at_ms <= now_ms else "active"

    def shown(self, now_ms: int) -> "ShownKey":
        """What may be known of it."""
        times = (self.created_at_ms, self.expires_at_ms, self.revoked_at_ms)
        return ShownKey(self.id, self.name, self.scopes, self.standing(now_ms), *times, self.last_used_on)

    def opened_by(self, secret: str) -> bool:
        """Whether this is the key's secret; slow for a key without a digest. In constant time."""
        if self.digest is not None:
            return hmac.compare_digest(digest_of(secret, self.salt), self.digest)
        return hmac.compare_digest(hashed(secret, self.salt), self.hash)


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A key without anything secret; times are epoch ms, `last_used_on` a day (UTC)."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    standing: Standing
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    last_used_on: str | None


def key_text(key_id: str, secret: str) -> str:
    """The key as its owner has it."""
    return f"mrk_{key_id}_{secret}"


def parted(text: str) -> tuple[str, str] | None:
    """Id and secret of a key's text; None for what is no such text."""
    match = _TEXT.fullmatch(text)
    return (match[1], match[2]) if match else None


def digest_of(secret: str, salt: bytes) -> bytes:
    """What a secret is known by: BLAKE2b keyed with the salt, in a microsecond.

    A slow hash defends passwords that can be guessed. The secret has 256 random bits: here it would only let requests
    with wrong keys take the server's time.
    """
    return hashlib.blake2b(secret.encode(), key=salt, digest_size=DIGEST_BYTES).digest()


def hashed(secret: str, salt: bytes) -> bytes:
    """What the release before knows a secret by, which may be at work on the same database: scrypt (RFC 7914)."""
    return hashlib.scrypt(secret.encode(), salt=salt, n=_SCRYPT_COST, r=8, p=1)


def checked_name(name: str) -> str:
    """The name. Raises UsageError for one that is empty, too long, or cannot be printed on a line."""
    if not name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise UsageError(f"{name[:40]!r} is no name for a key: 1 to {MAX_NAME_CHARS} printable characters")
    return name


def checked_scopes(scopes: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes, each once and in their order. Raises UsageError where there is none, or one that does not exist."""
    given = set(scopes)
    unknown = sorted(given - set(SCOPES))
    if unknown or not given:
        wrong = f"{unknown[0][:40]!r} is no scope" if unknown else "a key without a scope opens nothing"
        raise UsageError(f"{wrong}; give some of: {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in given)
