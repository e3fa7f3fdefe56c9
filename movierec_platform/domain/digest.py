"""An order-independent digest of pairs, so that two stores can be compared by 256 numbers each.

A row is hashed to 64 bits that depend on every column: h starts at 0, and for each column h becomes mix(h ^ value),
where `mix` is one step of SplitMix64 (Steele, Lea, Flood 2014, figure 14), a bijection. So any change of one number, of
whether it is there, or of which edge the pair has gives another hash, always; an event id goes in as its SipHash-2-4
(pandas.util.hash_array), so two ids give one hash once in 2**64. Nulls count as 0 and are told from zeros by one more
value, the bits of which columns are null.

The hashes of a bucket of users are added modulo 2**64 (a multiset hash; Clarke et al. 2003, MSet-Add-Hash), beside how
many there are. There is no key: it finds accidents, not adversaries. Changes to several pairs cancel out once in 2**64.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.domain.edges import visibility
from movierec_platform.domain.registers import BUCKETS
from movierec_platform.domain.tables import INTERACTIONS

SLICE_ROWS = 64 * 1024

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Digest:
    """For each bucket (index), how many pairs it has and the sum of their hashes; both uint64, shape (256,)."""

    counts: Hashes
    sums: Hashes

    @property
    def pairs(self) -> int:
        return int(self.counts.sum())

    def differing(self, other: "Digest") -> frozenset[int]:
        """The buckets in which the two are not the same pairs."""
        return frozenset(np.flatnonzero((self.counts != other.counts) | (self.sums != other.sums)).tolist())


def digest(tables: Iterable[pa.Table]) -> Digest:
    """The digest of all rows of these tables (INTERACTIONS or EDGES), however they are ordered and cut."""
    counts, sums = np.zeros(BUCKETS, np.uint64), np.zeros(BUCKETS, np.uint64)
    for table in tables:
        buckets = table["user_id"].to_numpy() % BUCKETS
        counts += np.bincount(buckets, minlength=BUCKETS).astype(np.uint64)
        np.add.at(sums, buckets, pair_hashes(table))
    return Digest(counts, sums)


def pair_hashes(pairs: pa.Table) -> Hashes:
    """64 bits for each row (uint64, shape (rows,)) that depend on its ids, all registers, and whether it is visible."""
    # Cut, since each text becomes a Python string on the way.
    cuts = range(0, pairs.num_rows, SLICE_ROWS)
    return np.concatenate([np.zeros(0, np.uint64), *(_hashes(pairs.slice(start, SLICE_ROWS)) for start in cuts)])


def _hashes(pairs: pa.Table) -> Hashes:
    flags = _as_uint64(visibility(pairs))
    hashes = np.zeros(pairs.num_rows, np.uint64)
    for position, name in enumerate(INTERACTIONS.names, start=1):
        column = pairs[name]
        flags |= _as_uint64(pc.is_null(column)) << np.uint64(position)
        hashes = _mixed(hashes ^ _bits(column))
    return _mixed(hashes ^ flags)


def _bits(column: pa.ChunkedArray) -> Hashes:
    """64 bits for each value; 0 for a null. Equal values have equal bits."""
    if pa.types.is_string(column.type):
        texts = pc.fill_null(column, "").to_numpy(zero_copy_only=False)
        hashed = pd.util.hash_array(texts.astype(object), categorize=False)
        return np.where(pc.is_null(column).to_numpy(), np.uint64(0), hashed).astype(np.uint64)
    # Adding 0.0 makes a negative zero positive.
    numbers = pc.fill_null(column, 0).to_numpy() + column.type.to_pandas_dtype()(0)
    bits: Hashes = numbers.view(np.uint64)
    return bits


def _as_uint64(column: pa.ChunkedArray) -> Hashes:
    numbers: Hashes = column.cast(pa.uint64()).to_numpy().copy()
    return numbers


def _mixed(bits: Hashes) -> Hashes:
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
