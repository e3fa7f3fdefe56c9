"""The steps that a cluster runs, one block after another, against the local engine."""

import numpy as np
import pytest

from movierec_platform.domain.similarity import Edges, Method, SimilarityParameters, neighbours
from movierec_platform.domain.similarity import blocks as step
from movierec_platform.domain.similarity.seen import starts_of


def learn(users: np.ndarray, movies: np.ndarray, parameters: SimilarityParameters, n_blocks: int) -> Edges:
    """As an engine of many machines does it: every step sees what its block is sent, in an order of its own."""
    shuffle = np.random.default_rng(5)
    known = step.movies_of(*np.unique(movies, return_counts=True))
    n_movies = len(known.movie_ids)
    order = np.lexsort((known.numbers_of(movies), users))
    user_ids, sizes = np.unique(users, return_counts=True)
    starts, numbers = starts_of(sizes), known.numbers_of(movies)[order]
    block_of = step.equal_blocks(step.row_work(starts, numbers, n_movies), n_blocks)
    slim = parameters.method == "slim"
    parts = step.block_parts(user_ids, starts, numbers, block_of, whole=parameters.method == "rp3beta")
    blocks = [(one_block(parts, block), span(block_of, block)) for block in shuffle.permutation(np.unique(block_of))]
    n_best = parameters.support_size if slim else parameters.neighbours
    found = [step.strongest_of_rows(known, part, rows, parameters, n_best) for part, rows in blocks]
    best = step.best_found(known, together(step.Found, found), n_best)
    if slim:
        supports = step.supports_found(known, best)
        products = [step.products_of_rows(known, part, rows, supports) for part, rows in blocks]
        run_of = step.equal_blocks(np.diff(supports.starts) ** 2, n_blocks)
        best = together(
            step.Found,
            [
                step.weights_of_targets(known, supports, of_run(products, run_of, run), span(run_of, run), parameters)
                for run in np.unique(run_of)
            ],
        )
    return step.edges_found(known, best, parameters)


def one_block(parts: step.Parts, block: int) -> step.Parts:
    taken = np.flatnonzero(parts.block == block)
    movies = [parts.movies[parts.starts[k] : parts.starts[k + 1]] for k in taken]
    return step.Parts(
        parts.block[taken], parts.user[taken], starts_of(np.array(list(map(len, movies)))), np.concatenate(movies)
    )


def of_run(products: list[step.Products], run_of: np.ndarray, run: int) -> step.Products:
    rows = [
        (one.target[k], one.place[k], one.counts[one.starts[k] : one.starts[k + 1]])
        for one in products
        for k in np.flatnonzero(run_of[one.target] == run)
    ]
    target, place = (np.array([row[k] for row in rows], np.int32) for k in (0, 1))
    counts = np.concatenate([np.empty(0, np.uint32), *(row[2] for row in rows)])
    return step.Products(target, place, starts_of(place.astype(np.int64)), counts)


def span(of: np.ndarray, value: int) -> tuple[int, int]:
    return int(np.searchsorted(of, value)), int(np.searchsorted(of, value, side="right"))


def together(kind, parts):
    return kind(*(np.concatenate([getattr(part, name) for part in parts]) for name in kind.__dataclass_fields__))


@pytest.mark.parametrize("method", ["slim", "cosine", "rp3beta"])
@pytest.mark.parametrize("n_blocks", [1, 3, 40])
def test_blocks_that_share_nothing_learn_the_edges_of_the_local_engine(method: Method, n_blocks: int) -> None:
    numbers = np.random.default_rng(11)
    users = numbers.integers(1, 90, 3000)
    movies = (numbers.pareto(0.8, 3000) * 5).astype(np.int64) % 70 * 10
    users, movies = np.unique(np.stack([users, movies]), axis=1)
    parameters = SimilarityParameters(method=method, neighbours=7, support_size=12)

    edges = learn(users, movies, parameters, n_blocks)

    assert edges.digest() == neighbours(users, movies, parameters).digest()
    assert len(edges) > 300


def test_blocks_cost_about_the_same() -> None:
    work = np.array([0, 4, 900, 3, 500, 400, 1, 1, 700, 300])

    blocks = step.equal_blocks(work, 3)

    assert blocks.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]


def test_a_user_is_sent_to_a_block_with_his_movies_up_to_its_last() -> None:
    starts, movies = np.array([0, 4, 5]), np.array([0, 2, 3, 6, 5], np.int32)

    parts = step.block_parts(np.array([10, 20]), starts, movies, np.array([0, 0, 0, 1, 1, 2, 2], np.int32), whole=False)

    sent = [
        (int(block), int(user), parts.movies[first:last].tolist())
        for block, user, first, last in zip(parts.block, parts.user, parts.starts, parts.starts[1:], strict=False)
    ]
    assert sent == [(0, 10, [0, 2]), (1, 10, [0, 2, 3]), (2, 10, [0, 2, 3, 6]), (2, 20, [5])]
