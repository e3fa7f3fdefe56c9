"""Who is tested with what: interactions cut in a part to learn from, queries, and what should be recommended for them.

The temporal split is global: nothing that models learn from is later than what they are tested on (Meng et al.,
"Exploring Data Splitting Strategies for the Evaluation of Recommendation Models", RecSys 2020, section 2).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from movierec_platform.domain.evaluation.protocol import Protocol

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NEWCOMER_QUERY_SHARE = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """What users have seen: columns of one length, by user, then by movie; no pair repeats.

    rating: 0.5 to 5, NaN where the movie was only viewed. seen_at_ms: epoch ms.
    """

    user_id: Ints
    movie_id: Ints
    rating: Floats
    seen_at_ms: Ints

    def __len__(self) -> int:
        return len(self.user_id)

    def where(self, rows: Bools) -> "Interactions":
        """These rows of it."""
        return Interactions(self.user_id[rows], self.movie_id[rows], self.rating[rows], self.seen_at_ms[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A part to learn from, and for each of the test users a query and what is relevant; both hold a row at least."""

    train: Interactions
    user_ids: Ints
    """Shape (users,), ascending."""
    query: Interactions
    """What the test users had seen, of movies to learn from or not; of newcomers it is not in `train`."""
    relevant: Interactions
    newcomers: int
    """Test users without a row in `train`."""
    candidates: int
    """Users who could have been tested."""
    cut_ms: int | None
    """First moment of the test (epoch ms); None for a random split."""


def interactions_of(user_id: Ints, movie_id: Ints, rating: Floats, seen_at_ms: Ints) -> Interactions:
    """The columns, shape (rows,), in any order, each pair once, by user and movie."""
    order = np.lexsort((movie_id, user_id))
    return Interactions(user_id[order], movie_id[order], rating[order], seen_at_ms[order])


def split_by(protocol: Protocol, seen: Interactions) -> Split:
    """The protocol's split of these interactions; there may be no test user in it."""
    return temporal_split(seen, protocol) if protocol.split == "temporal" else random_split(seen, protocol)


def random_split(seen: Interactions, protocol: Protocol) -> Split:
    """Of all interactions, whoever's they are, a share drawn by the seed is the test: round(share * rows) of them."""
    test = np.zeros(len(seen), np.bool_)
    drawn = np.random.default_rng(protocol.seed).permutation(len(seen))
    test[drawn[: round(protocol.test_share * len(seen))]] = True
    return _of_test_users(seen.where(~test), seen.where(~test), seen.where(test), None, protocol)


def temporal_split(seen: Interactions, protocol: Protocol) -> Split:
    """The test is what was seen from one moment on; equal times stay together, so it may be more than the share.

    A user without anything before the moment is a newcomer: the first four fifths of their interactions (rounded down;
    by time, then by movie) are the query, which no model learns from, and the rest is the test.
    """
    if not len(seen):
        return _of_test_users(seen, seen, seen, None, protocol)
    cut_ms = int(np.sort(seen.seen_at_ms)[int((1 - protocol.test_share) * len(seen))])
    before = seen.seen_at_ms < cut_ms
    newcomer = ~np.isin(seen.user_id, np.unique(seen.user_id[before]))
    folded_in = np.zeros(len(seen), np.bool_)
    folded_in[newcomer] = _first_share(seen.where(newcomer))
    query = before | folded_in
    return _of_test_users(seen.where(before), seen.where(query), seen.where(~query), cut_ms, protocol)


def _first_share(seen: Interactions) -> Bools:
    """Of each row, whether it is among its user's first NEWCOMER_QUERY_SHARE."""
    order = np.lexsort((seen.movie_id, seen.seen_at_ms, seen.user_id))
    _, first, count = np.unique(seen.user_id, return_index=True, return_counts=True)
    place = np.arange(len(seen)) - np.repeat(first, count)
    among = np.empty(len(seen), np.bool_)
    among[order] = place < np.repeat(np.floor(NEWCOMER_QUERY_SHARE * count), count)
    return among


def _of_test_users(
    train: Interactions, query: Interactions, test: Interactions, cut_ms: int | None, protocol: Protocol
) -> Split:
    """With a sample of the users who have a query and something relevant."""
    if protocol.relevant_from is not None:
        test = test.where(test.rating >= protocol.relevant_from)  # false for NaN
    candidates = np.intersect1d(query.user_id, test.user_id)
    user_ids = candidates
    if len(candidates) > protocol.users:
        drawn = np.random.default_rng(protocol.seed).choice(len(candidates), protocol.users, replace=False)
        user_ids = candidates[np.sort(drawn)]
    return Split(
        train=train,
        user_ids=user_ids,
        query=query.where(np.isin(query.user_id, user_ids)),
        relevant=test.where(np.isin(test.user_id, user_ids)),
        newcomers=int(np.count_nonzero(~np.isin(user_ids, train.user_id))),
        candidates=len(candidates),
        cut_ms=cut_ms,
    )
