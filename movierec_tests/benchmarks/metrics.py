"""Our metrics beside those of RecTools and LensKit: the same lists, the same split of the real set; to 1e-6 or exit 1.

`python -m movierec_tests.benchmarks.metrics`, in an environment of its own, for LensKit brings torch and RecTools asks
for numpy 1 below Python 3.13 (its metrics work with numpy 2):

    pip install -e . lenskit 'attrs>=19' typeguard && pip install --no-deps rectools

Where their definitions are options, they are set to ours; where there is no option, the value is converted:

- LensKit discounts the first two ranks alike unless told `offset=1`; RecTools divides NDCG by that of k hits unless
  told `divide_by_achievable`;
- LensKit divides recall and average precision by min(k, |R|), we and RecTools by |R|;
- RecTools counts the interactions of a recommended movie, we the share of the users: the same but for a factor.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import rectools.metrics as rt
from lenskit.data import ItemList
from lenskit.metrics import ranking as lk
from lenskit.metrics.ranking import LogRankWeight

from movierec_platform.domain.evaluation.lists import (
    catalogue_of,
    edge_scorer,
    popularity_scorer,
    queries_of,
    recommend_lists,
)
from movierec_platform.domain.evaluation.metrics import coverage, per_user_metrics
from movierec_platform.domain.evaluation.protocol import Protocol
from movierec_platform.domain.similarity import SimilarityParameters, neighbours
from movierec_platform.services.evaluate import Judge, split_of
from movierec_tests.benchmarks.measure import print_result
from movierec_tests.benchmarks.real_set import real_interactions, real_movies

Floats = npt.NDArray[np.float64]
TOLERANCE = 1e-6


class GenreJaccard(rt.PairwiseDistanceCalculator):
    """1 - Jaccard similarity of two movies' genres, computed with Python's sets."""

    def __init__(self, genres: Mapping[int, frozenset[str]]) -> None:
        self._genres = genres

    def _get_distances_for_item_pairs(self, items_0: Any, items_1: Any) -> Floats:
        pairs = ((self._genres[one], self._genres[other]) for one, other in zip(items_0, items_1, strict=True))
        return np.array([1 - len(one & other) / len(one | other) for one, other in pairs])


def rectools_values(
    k: int, reco: pd.DataFrame, relevant: pd.DataFrame, train: pd.DataFrame, genres: Mapping[int, frozenset[str]]
) -> dict[str, pd.Series]:
    """Each metric by user id."""
    seen_by = train["user_id"].nunique()
    return {
        "ndcg": rt.NDCG(k, divide_by_achievable=True).calc_per_user(reco, relevant),
        "recall": rt.Recall(k).calc_per_user(reco, relevant),
        "precision": rt.Precision(k).calc_per_user(reco, relevant),
        "map": rt.MAP(k).calc_per_user(reco, relevant),
        "mrr": rt.MRR(k).calc_per_user(reco, relevant),
        "hit_rate": rt.HitRate(k).calc_per_user(reco, relevant),
        "novelty": rt.MeanInvUserFreq(k).calc_per_user(reco, train),
        "popularity_bias": rt.AvgRecPopularity(k).calc_per_user(reco, train) / seen_by,
        "diversity": rt.IntraListDiversity(k, GenreJaccard(genres)).calc_per_user(reco),
    }


def lenskit_values(k: int, reco: pd.DataFrame, relevant: pd.DataFrame) -> dict[str, pd.Series]:
    """Each metric by user id."""
    lists = {
        user: ItemList(item_ids=rows.to_numpy(), ordered=True) for user, rows in reco.groupby("user_id")["item_id"]
    }
    truth = {user: ItemList(item_ids=rows.to_numpy()) for user, rows in relevant.groupby("user_id")["item_id"]}

    def values(metric: Any, convert: Callable[[int], float] = lambda n_relevant: 1.0) -> pd.Series:
        return pd.Series(
            {user: metric.measure_list(lists[user], found) * convert(len(found)) for user, found in truth.items()}
        )

    def of_all(n_relevant: int) -> float:
        return min(k, n_relevant) / n_relevant

    return {
        "ndcg": values(lk.NDCG(k, weight=LogRankWeight(offset=1))),
        "recall": values(lk.Recall(k), of_all),
        "precision": values(lk.Precision(k)),
        "map": values(lk.AveragePrecision(k), of_all),
        "mrr": values(lk.RecipRank(k)),
        "hit_rate": values(lk.Hit(k)),
    }


def differences(protocol: Protocol, model: str) -> dict[str, float]:
    """The greatest difference of any user, by library and metric, on this split of the real set."""
    split = split_of(real_interactions(), protocol)
    movies = real_movies()
    judge, catalogue = Judge.of(split, movies, protocol), catalogue_of(split.train)
    scorer = popularity_scorer()
    if model != "popularity":
        edges = neighbours(split.train.user_id, split.train.movie_id, SimilarityParameters(method="cosine"))
        scorer = edge_scorer(catalogue.movie_ids, edges.source, edges.target, edges.score)
    lists = recommend_lists(scorer, queries_of(split, catalogue, 1.0), catalogue.popular(), protocol.k)
    ours = per_user_metrics(lists, judge.relevant, judge.relevant_counts, catalogue, judge.genres)

    user = np.repeat(split.user_ids, protocol.k)
    rank = np.tile(np.arange(1, protocol.k + 1), len(split.user_ids))
    reco = pd.DataFrame({"user_id": user, "item_id": catalogue.movie_ids[lists.ravel()], "rank": rank})
    relevant = pd.DataFrame({"user_id": split.relevant.user_id, "item_id": split.relevant.movie_id})
    train = pd.DataFrame({"user_id": split.train.user_id, "item_id": split.train.movie_id})
    genres = dict(zip(movies["movie_id"].to_pylist(), map(frozenset, movies["genres"].to_pylist()), strict=True))
    bare = [movie for movie in catalogue.movie_ids if not genres.get(movie)]
    peers = {
        "rectools": rectools_values(
            protocol.k, reco, relevant, train, {**genres, **dict.fromkeys(bare, frozenset("?"))}
        ),
        "lenskit": lenskit_values(protocol.k, reco, relevant),
    }
    # A pair with a movie without genres counts for us not at all.
    without = np.isin(catalogue.movie_ids[lists], bare).any(axis=1)
    ours["diversity"] = np.where(without, np.nan, ours["diversity"])
    found = {
        f"{library} {metric}": float(np.nanmax(np.abs(ours[metric] - values.reindex(split.user_ids).to_numpy())))
        for library, metrics in peers.items()
        for metric, values in metrics.items()
    }
    theirs = rt.CatalogCoverage(protocol.k, normalize=True).calc(reco, catalogue.movie_ids)
    return {**found, "rectools coverage": abs(coverage(lists, catalogue) - theirs)}


def main() -> None:
    worst: dict[str, float] = {}
    for split in ("random", "temporal"):
        for relevant_from in (None, 4.0):
            for model in ("popularity", "cosine"):
                for name, one in differences(Protocol(split=split, relevant_from=relevant_from), model).items():
                    worst[name] = max(worst.get(name, 0.0), one)
    for name, one in worst.items():
        print(f"{name:28} {one:.1e}{'' if one <= TOLERANCE else '  DIFFERS'}")
    equal = all(one <= TOLERANCE for one in worst.values())
    print_result({"benchmark": "metrics", "tolerance": TOLERANCE, "equal": equal, "worst": worst})
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
