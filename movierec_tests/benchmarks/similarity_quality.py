"""How good the default similarity is beside other models: the real set, random 80/20, full ranking, NDCG@10.

`python -m movierec_tests.benchmarks.similarity_quality` (`pip install implicit`). All models learn from the same part,
get the same queries (rating / 5), and are judged on the same users; seen movies are never recommended.

* slim, cosine, rp3beta: ours, as configured by default; popularity, co_watch: the platform's baselines;
* ease: dense EASE (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019), with the best of some
  regularisations as judged on this very test, which favours it;
* implicit_cosine, als: CosineRecommender and AlternatingLeastSquares of `implicit` as they come (K = 20; 64 factors).

The ratios are of means over the same users, with 95 % intervals of a paired bootstrap.
"""

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender

from movierec_platform.domain.evaluation.lists import Scorer, matrix_of, queries_of
from movierec_platform.domain.evaluation.protocol import Protocol
from movierec_platform.domain.evaluation.results import Evaluation
from movierec_platform.domain.similarity import SimilarityParameters
from movierec_platform.services.evaluate import CoWatch, Judge, Learned, Model, Popularity, evaluate_split, split_of
from movierec_tests.benchmarks.measure import print_result
from movierec_tests.benchmarks.real_set import real_interactions, real_movies

TARGETS = {"ease": 0.97, "cosine": 1.05, "implicit_cosine": 1.20, "co_watch": 1.35}
"""What slim divided by each shall be at least."""
MODELS: dict[str, Model] = {
    "slim": Learned(SimilarityParameters(method="slim")),
    "cosine": Learned(SimilarityParameters(method="cosine", neighbours=50)),
    "rp3beta": Learned(SimilarityParameters(method="rp3beta")),
    "popularity": Popularity(),
    "co_watch": CoWatch(),
}


def dense_ease(seen: Any, l2: float) -> Scorer:
    """Scores by B = I - P / diag(P), P the inverse of the Gram matrix with l2 on its diagonal."""
    gram = (seen.T @ seen).toarray().astype(np.float32)  # conditioned well enough, and in half the time
    gram[np.diag_indices_from(gram)] += l2
    precision = np.linalg.inv(gram)
    weights = precision / -np.diag(precision)
    np.fill_diagonal(weights, 0.0)
    return lambda queries: queries @ weights


def lists_by_implicit(model: Any, seen: Any, queries: Any, k: int, **how: Any) -> npt.NDArray[np.int32]:
    """What a model of `implicit`, fitted on `seen`, recommends for these queries."""
    model.fit(seen, show_progress=False)
    ids, scores = model.recommend(np.arange(queries.shape[0]), queries, N=k, filter_already_liked_items=True, **how)
    # Where it finds no more it fills up with anything, at a score below any that counts.
    return np.where(scores > -1e30, ids, -1).astype(np.int32)


def compared(protocol: Protocol, ease_l2: list[float]) -> Evaluation:
    """All models on one split of the real set."""
    split, movies = split_of(real_interactions(), protocol), real_movies()
    results = dict(evaluate_split(split, movies, MODELS, protocol).models)
    judge = Judge.of(split, movies, protocol)
    train, catalogue = split.train, judge.catalogue
    seen = matrix_of(train, np.ones(len(train)), np.unique(train.user_id), catalogue.movie_ids)
    ease = [judge.judge(f"ease l2={l2:g}", dense_ease(seen, l2)) for l2 in ease_l2]
    for result in ease:
        print(f"{result.name}: {result.metrics['ndcg'].value:.4f}", flush=True)
    results["ease"] = max(ease, key=lambda result: result.metrics["ndcg"].value)
    queries = queries_of(split, catalogue, 1.0).astype(np.float32)
    seen = seen.astype(np.float32)
    cosine = lists_by_implicit(CosineRecommender(), seen.tocsr(), queries, protocol.k)
    als = AlternatingLeastSquares(factors=64, random_state=0)
    folded_in = lists_by_implicit(als, seen.tocsr(), queries, protocol.k, recalculate_user=True)
    results["implicit_cosine"] = judge.judge_lists("implicit_cosine", cosine)
    results["als"] = judge.judge_lists("als", folded_in)
    return judge.evaluation(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--relevant-from", type=float, help="only ratings from here on are relevant")
    parser.add_argument("--ease-l2", type=float, nargs="+", default=[200.0, 400.0])
    given = parser.parse_args()
    evaluation = compared(Protocol("random", seed=given.seed, relevant_from=given.relevant_from), given.ease_l2)
    by_ndcg = sorted(evaluation.models.values(), key=lambda result: -result.metrics["ndcg"].value)
    for result in by_ndcg:
        ndcg = result.metrics["ndcg"]
        print(f"{result.name:16} {ndcg.value:.4f}  ({ndcg.low:.4f} to {ndcg.high:.4f})")
    ratios = {}
    for name, least in TARGETS.items():
        ratio = evaluation.compare("slim", name).ratio
        assert ratio is not None
        met = "met" if ratio.value >= least else "MISSED"
        print(f"slim / {name:16} {ratio.value:.3f}  ({ratio.low:.3f} to {ratio.high:.3f})  at least {least}: {met}")
        ratios[name] = {**ratio.as_json(), "least": least}
    ndcg = {result.name: result.metrics["ndcg"].as_json() for result in by_ndcg}
    print_result({"benchmark": "similarity_quality", "users": evaluation.users, "ndcg": ndcg, "slim_over": ratios})


if __name__ == "__main__":
    main()
