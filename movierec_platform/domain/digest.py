"""An order-independent digest of pair states, so that two stores can be compared without moving them.

Each pair is hashed to 64 bits and the hashes of a bucket of users are added modulo 2**64 (a multiset hash; Clarke et
al. 2003, MSet-Add-Hash, unkeyed: it finds accidents, not adversaries). Equal digests and counts mean equal buckets.
"""

import hashlib
import struct
from collections.abc import Iterable

from movierec_platform.domain.registers import Pair, PairState

BUCKETS = 256


def bucket_of(user_id: int) -> int:
    """The bucket of a user, 0 to 255."""
    return user_id % BUCKETS


def pair_hash(pair: Pair, state: PairState) -> int:
    """64 bits that depend on every register of the pair."""
    numbers = struct.pack(
        "<qqdqqq",
        *pair,
        -1.0 if state.rating is None else state.rating,
        *(-1 if at_ms is None else at_ms for at_ms in (state.rated_at_ms, state.seen_at_ms, state.retracted_at_ms)),
    )
    digest = hashlib.blake2b(numbers + (state.event_id or "").encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def bucket_digests(pairs: Iterable[tuple[Pair, PairState]]) -> dict[int, tuple[int, int]]:
    """For each bucket that has pairs: how many, and the sum of their hashes modulo 2**64."""
    digests: dict[int, tuple[int, int]] = {}
    for pair, state in pairs:
        bucket = bucket_of(pair[0])
        count, total = digests.get(bucket, (0, 0))
        digests[bucket] = (count + 1, (total + pair_hash(pair, state)) % 2**64)
    return digests
