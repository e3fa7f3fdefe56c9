"""What is measured of recommended lists. k is the length of the lists, R a user's relevant movies, rank starts at 1.

Of each user, in [0, 1] and 0 without a hit among the k (definitions as in RecTools and LensKit, which
`movierec_tests/benchmarks/metrics.py` compares):

- ndcg: sum over hits of 1 / log2(rank + 1), divided by that of the best possible list: min(k, |R|) hits at the top
  (Järvelin and Kekäläinen, ACM TOIS 20(4), 2002, with binary gains);
- recall: hits / |R|. precision: hits / k;
- map: sum over hits of the precision at their rank / |R| (average precision; its mean over users is MAP);
- mrr: 1 / rank of the first hit. hit_rate: whether there is one.

Of each user, of the movies in the list, whether they are hits or not:

- novelty: mean of -log2(share of training users who saw the movie), in bits (Zhou et al., PNAS 107(10), 2010, their
  self-information);
- popularity_bias: mean share of the training users who saw the movie (Abdollahpouri et al., "Managing Popularity
  Bias in Recommender Systems with Personalized Re-ranking", FLAIRS 2019: average recommendation popularity);
- diversity: 1 - mean Jaccard similarity of the genres over the pairs of movies that both have genres (Ziegler et al.,
  WWW 2005, intra-list similarity with Jaccard); NaN where there is no such pair, or genres are not known at all.

Of all lists together: coverage, the share of the catalogue that is in any list.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from movierec_platform.domain.evaluation.lists import Catalogue

Indexes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ACCURACY = ("ndcg", "recall", "precision", "map", "mrr", "hit_rate")
PER_USER = (*ACCURACY, "novelty", "diversity", "popularity_bias")
LABELS = {
    "ndcg": "NDCG",
    "recall": "recall",
    "precision": "precision",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "hit rate",
    "coverage": "coverage",
    "novelty": "novelty (bits)",
    "diversity": "diversity",
    "popularity_bias": "popularity bias",
}
"""Every metric, as people read it."""
_LISTS_AT_ONCE = 2_000


def per_user_metrics(
    lists: Indexes, relevant: Any, relevant_counts: Ints, catalogue: Catalogue, genres: Any | None
) -> dict[str, Floats]:
    """Each metric of PER_USER, float64 (users,).

    lists: int32 (users, k), indexes in the catalogue, -1 at the end where there were no more. relevant: CSR (users, M).
    relevant_counts: (users,), |R| with the movies that are not in the catalogue, at least 1. genres: sparse (M, genres)
    of ones.
    """
    shown = lists >= 0
    hits = _hits(lists, relevant) & shown
    share = catalogue.viewers / max(catalogue.users, 1)
    n_shown = np.maximum(shown.sum(axis=1), 1)
    shares = np.where(shown, share[np.maximum(lists, 0)], 0.0) if len(share) else np.zeros(lists.shape)
    bits = -np.log2(np.where(shares > 0, shares, 1.0))
    empty = ~shown.any(axis=1)
    return {
        **accuracy(hits, relevant_counts),
        "novelty": np.where(empty, np.nan, bits.sum(axis=1) / n_shown),
        "diversity": _diversity(lists, genres),
        "popularity_bias": np.where(empty, np.nan, shares.sum(axis=1) / n_shown),
    }


def accuracy(hits: npt.NDArray[np.bool_], relevant_counts: Ints) -> dict[str, Floats]:
    """The metrics that only ask where in the list the hits are: bool (users, k), best first."""
    k = hits.shape[1]
    ranks = np.arange(1, k + 1)
    gains = 1 / np.log2(ranks + 1)
    best = np.cumsum(gains)[np.minimum(relevant_counts, k) - 1]
    n_hits = hits.sum(axis=1)
    found = hits.any(axis=1)
    precision_at = np.cumsum(hits, axis=1) / ranks
    return {
        "ndcg": (hits @ gains) / best,
        "recall": n_hits / relevant_counts,
        "precision": n_hits / k,
        "map": (precision_at * hits).sum(axis=1) / relevant_counts,
        "mrr": np.where(found, 1 / (hits.argmax(axis=1) + 1), 0.0),
        "hit_rate": found.astype(np.float64),
    }


def coverage(lists: Indexes, catalogue: Catalogue) -> float:
    """The share of the catalogue's movies that is in any list."""
    return len(np.unique(lists[lists >= 0])) / max(len(catalogue.movie_ids), 1)


def by_history_length(lengths: Ints, values: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """For each class of query length (`5-9`, ...; those that have users), its users, and each model's mean."""
    bounds = [1, 5, 10, 20, 50, 100, 200, 500]
    classes = np.searchsorted(bounds, lengths, side="right") - 1
    found = {}
    for place in np.unique(classes):
        inside = classes == place
        name = f"{bounds[place]}-{bounds[place + 1] - 1}" if place + 1 < len(bounds) else f"{bounds[place]}+"
        means = {model: float(per_user[inside].mean()) for model, per_user in values.items()}
        found[name] = {"users": int(np.count_nonzero(inside)), **means}
    return found


def _hits(lists: Indexes, relevant: Any) -> npt.NDArray[np.bool_]:
    users, size = relevant.shape
    owner = np.repeat(np.arange(users), np.diff(relevant.indptr))
    wanted = owner * size + relevant.indices
    return np.isin(np.arange(users)[:, None] * size + lists, wanted, kind="sort")


def _diversity(lists: Indexes, genres: Any | None) -> Floats:
    found = np.full(len(lists), np.nan)
    if genres is None or not genres.shape[0]:
        return found
    k = lists.shape[1]
    pairs = np.triu(np.ones((k, k), np.bool_), 1)
    for start in range(0, len(lists), _LISTS_AT_ONCE):
        block = lists[start : start + _LISTS_AT_ONCE]
        has = genres[np.maximum(block, 0).ravel()].toarray().reshape(*block.shape, -1) * (block >= 0)[:, :, None]
        both = has @ has.transpose(0, 2, 1)
        sizes = has.sum(axis=2)
        known = (sizes[:, :, None] > 0) & (sizes[:, None, :] > 0) & pairs
        either = np.where(known, sizes[:, :, None] + sizes[:, None, :] - both, 1.0)
        count = known.sum(axis=(1, 2))
        similar = np.where(known, both / either, 0.0).sum(axis=(1, 2))
        some = count > 0
        found[start : start + len(block)][some] = 1 - similar[some] / count[some]
    return found
