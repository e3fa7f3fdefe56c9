"""Evaluate models on a split of the interactions: learn, recommend to the test users, measure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from movierec_platform.adapters.lake import Lake
from movierec_platform.config import Settings
from movierec_platform.domain.evaluation.intervals import Estimate, estimates
from movierec_platform.domain.evaluation.lists import (
    Catalogue,
    Scorer,
    catalogue_of,
    co_watch_scorer,
    edge_scorer,
    matrix_of,
    popularity_scorer,
    queries_of,
    recommend_lists,
)
from movierec_platform.domain.evaluation.metrics import PER_USER, coverage, per_user_metrics
from movierec_platform.domain.evaluation.protocol import Protocol
from movierec_platform.domain.evaluation.results import Evaluation, ModelResult
from movierec_platform.domain.evaluation.splits import Interactions, Split, interactions_of, split_by
from movierec_platform.domain.interactions import visible
from movierec_platform.domain.similarity import Edges, Method, SimilarityParameters, neighbours
from movierec_platform.errors import NobodyToTest
from movierec_platform.services.learn import parameters_of

Progress = Callable[[str, int, int], None]
"""Called with (what is done, how much of it, of how much)."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The similarity that these parameters give on the training part of the split."""

    parameters: SimilarityParameters
    query_weight_power: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A similarity as it is. If it was learned from the test too, compare it only with others that were."""

    edges: Edges
    query_weight_power: float = 1.0


@dataclass(frozen=True, slots=True)
class Popularity:
    """The movies that most users have seen."""


@dataclass(frozen=True, slots=True)
class CoWatch:
    """The sum, over the user's history, of the users who saw both movies: what `Coincidencias` counts."""


Model = Learned | Stored | Popularity | CoWatch


def configured_model(settings: Settings) -> Learned:
    """What the nightly would learn, and how serving would weight a history."""
    return Learned(parameters_of(settings), settings.query_weight_power)


def compared_models(configured: Learned, published: Learned | None = None) -> dict[str, Model]:
    """What `movierec evaluate` compares, by name: first `configured`, then `published`, other methods, baselines.

    The other methods have the parameters of `configured`; what is published is left out if it is what is configured.
    """
    parameters = configured.parameters
    models: dict[str, Model] = {parameters.method: configured}
    if published is not None and published != configured:
        models["published"] = published
    for method in get_args(Method):
        models.setdefault(method, replace(configured, parameters=replace(parameters, method=method)))
    return {**models, "popularity": Popularity(), "co_watch": CoWatch()}


def read_visible(lake: Lake) -> pa.Table:
    """The lake's visible interactions: user_id, movie_id, rating (null if only viewed), seen_at_ms."""
    columns = ["user_id", "movie_id", "rating", "seen_at_ms"]
    interactions = lake.read("interactions", columns=[*columns, "retracted_at_ms"])
    return interactions.filter(visible(interactions)).select(columns)


def evaluate(
    interactions: pa.Table,
    movies: pa.Table | None,
    models: Mapping[str, Model],
    protocol: Protocol,
    progress: Progress = lambda what, done, total: None,
) -> Evaluation:
    """Each model's metrics on the protocol's split.

    interactions: visible ones, each pair once (`read_visible`). movies: movie_id and genres (lists of names); without
    it the diversity is not known. Models that are learned alike are learned once.

    Raises NobodyToTest if no user has both a history and something to compare with, or nothing is left to learn from.
    """
    return evaluate_split(split_of(interactions, protocol), movies, models, protocol, progress)


def split_of(interactions: pa.Table, protocol: Protocol) -> Split:
    """The protocol's split of these visible interactions; raises NobodyToTest as `evaluate`."""
    split = split_by(protocol, _columns(interactions))
    if not (len(split.user_ids) and len(split.train)):
        raise NobodyToTest(_why_nobody(interactions, split, protocol))
    return split


def evaluate_split(
    split: Split,
    movies: pa.Table | None,
    models: Mapping[str, Model],
    protocol: Protocol,
    progress: Progress = lambda what, done, total: None,
) -> Evaluation:
    """As `evaluate`, for a split that is there already."""
    judge = Judge.of(split, movies, protocol)
    learned: dict[SimilarityParameters, Edges] = {}
    results = {}
    for done, (name, model) in enumerate(models.items()):
        progress(name, done, len(models))
        scorer, power = _scorer(model, judge, learned)
        results[name] = judge.judge(name, scorer, power)
    progress("done", len(models), len(models))
    return judge.evaluation(results)


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Turns scorers into results, on one split."""

    split: Split
    protocol: Protocol
    catalogue: Catalogue
    popular: npt.NDArray[np.int32] = field(repr=False)
    relevant: sp.csr_matrix = field(repr=False)
    relevant_counts: npt.NDArray[np.int64] = field(repr=False)
    genres: sp.csr_matrix | None = field(repr=False)

    @classmethod
    def of(cls, split: Split, movies: pa.Table | None, protocol: Protocol) -> "Judge":
        """For a split with test users; movies as in `evaluate`."""
        catalogue, relevant = catalogue_of(split.train), split.relevant
        ones = np.ones(len(relevant))
        return cls(
            split=split,
            protocol=protocol,
            catalogue=catalogue,
            popular=catalogue.popular(),
            relevant=matrix_of(relevant, ones, split.user_ids, catalogue.movie_ids),
            relevant_counts=np.unique(relevant.user_id, return_counts=True)[1].astype(np.int64),
            genres=None if movies is None else _genres(movies, catalogue),
        )

    def judge(self, name: str, scorer: Scorer, query_weight_power: float = 1.0) -> ModelResult:
        """The metrics of what is recommended by these scores."""
        queries = queries_of(self.split, self.catalogue, query_weight_power)
        return self.judge_lists(name, recommend_lists(scorer, queries, self.popular, self.protocol.k))

    def judge_lists(self, name: str, lists: npt.NDArray[np.int32]) -> ModelResult:
        """The metrics of these lists, as `recommend_lists` gives them."""
        per_user = per_user_metrics(lists, self.relevant, self.relevant_counts, self.catalogue, self.genres)
        values = np.column_stack([per_user[metric] for metric in PER_USER])
        found = dict(zip(PER_USER, estimates(values, self.protocol.seed), strict=True))
        # A sample of the users covers less than all of them do, so the bootstrap says nothing of the coverage.
        return ModelResult(name, {**found, "coverage": Estimate(coverage(lists, self.catalogue))}, per_user)

    def evaluation(self, results: Mapping[str, ModelResult]) -> Evaluation:
        """These results, with what they were found on."""
        split = self.split
        return Evaluation(
            protocol=self.protocol,
            users=len(split.user_ids),
            newcomers=split.newcomers,
            candidates=split.candidates,
            train_interactions=len(split.train),
            test_interactions=len(split.relevant),
            catalogue=len(self.catalogue.movie_ids),
            cut_ms=split.cut_ms,
            history_lengths=np.unique(split.query.user_id, return_counts=True)[1].astype(np.int64),
            models=results,
        )


def _scorer(model: Model, judge: Judge, learned: dict[SimilarityParameters, Edges]) -> tuple[Scorer, float]:
    """The model's scorer, and how its query is weighted; what is learned for it is kept in `learned`."""
    train, catalogue = judge.split.train, judge.catalogue
    if isinstance(model, Popularity):
        return popularity_scorer(), 1.0
    if isinstance(model, CoWatch):
        user_ids = np.unique(train.user_id)
        return co_watch_scorer(matrix_of(train, np.ones(len(train)), user_ids, catalogue.movie_ids)), 1.0
    if isinstance(model, Stored):
        edges = model.edges
    else:
        if model.parameters not in learned:
            learned[model.parameters] = neighbours(train.user_id, train.movie_id, model.parameters)
        edges = learned[model.parameters]
    return edge_scorer(catalogue.movie_ids, edges.source, edges.target, edges.score), model.query_weight_power


def _columns(interactions: pa.Table) -> Interactions:
    rating = pc.fill_null(interactions["rating"].cast(pa.float64()), float("nan"))
    return interactions_of(
        interactions["user_id"].to_numpy(),
        interactions["movie_id"].to_numpy(),
        rating.to_numpy(),
        interactions["seen_at_ms"].to_numpy(),
    )


def _genres(movies: pa.Table, catalogue: Catalogue) -> sp.csr_matrix:
    """CSR (M, genres), 1 where a movie has a genre; no row of a movie without genres, or that the table lacks."""
    of_movie = movies["genres"].combine_chunks()
    owner = movies["movie_id"].to_numpy()[pc.list_parent_indices(of_movie).to_numpy()]
    names, column = np.unique(pc.list_flatten(of_movie).to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    row = np.searchsorted(catalogue.movie_ids, owner)
    row[row == len(catalogue.movie_ids)] = 0
    known = catalogue.movie_ids[row] == owner
    shape = (len(catalogue.movie_ids), max(len(names), 1))
    matrix = sp.csr_matrix((np.ones(int(known.sum())), (row[known], column[known])), shape=shape)
    matrix.data[:] = 1.0  # where a genre is named twice
    return matrix


def _why_nobody(interactions: pa.Table, split: Split, protocol: Protocol) -> str:
    if not interactions.num_rows:
        return "there is nothing to evaluate on: no visible interactions; load ratings first (`movierec load`)"
    if not len(split.train):
        return (
            f"the temporal split leaves nothing to learn from, for all {interactions.num_rows} interactions are later "
            "than the moment that the test begins at, or of it: try the random split"
        )
    users = len(pc.unique(interactions["user_id"]))
    relevant = "" if protocol.relevant_from is None else f" rated {protocol.relevant_from:g} or higher"
    other = "random" if protocol.split == "temporal" else "temporal"
    return (
        f"the {protocol.split} split of {interactions.num_rows} interactions of {users} users leaves nobody with both "
        f"a history and a movie to test with{relevant}: try the {other} split, another test share, or more data"
    )
