"""Learning a similarity beside the libraries that do it: processor seconds and memory at sizes up to MovieLens 25M.

    python -m movierec_tests.benchmarks.similarity [--pairs 1000000 5000000 25000000] [--rounds 2]
        [--sides cosine slim implicit sparse_dot_topn lenskit] [--threads 2]

The peers come with `pip install '.[bench]'`. All learn the best 50 neighbours of every movie from the same generated
pairs (see `taste`), each side in a process of its own, one after another in every round:

* cosine, slim: ours, from the ids; compiled before, as on every run but a machine's first;
* implicit: CosineRecommender(K=50) on a finished matrix; sparse_dot_topn: sp_matmul_topn of the matrix of movies,
  scaled to length 1, with its transpose, 51 of each for the movie itself is among them; lenskit: ItemKNNScorer, which
  keeps 50 neighbours of each movie, on a finished dataset.

Seconds are processor time of all threads while learning; memory is the highest of the process, its input and libraries
among it. A ratio above 1 says that ours takes less. implicit rounds its counts to 32 bits.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from movierec_platform.domain.similarity import SimilarityParameters, neighbours
from movierec_platform.services.footprint import peak_memory_bytes
from movierec_tests.benchmarks import taste
from movierec_tests.benchmarks.measure import print_result

OURS = ("cosine", "slim")
PEERS = ("implicit", "sparse_dot_topn", "lenskit")
K = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000_000, 5_000_000, 25_000_000])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sides", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(learn(asked.one[0], Path(asked.one[1]), asked.threads)))
        return
    for n_pairs in asked.pairs:
        print_result(compare(n_pairs, asked.sides, asked.rounds, asked.threads))


def compare(n_pairs: int, sides: list[str], rounds: int, threads: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        users, movies = taste.pairs(n_pairs)
        np.save(f"{folder}/users.npy", users)
        np.save(f"{folder}/movies.npy", movies)
        found = {"pairs": len(users), "users": len(np.unique(users)), "movies": len(np.unique(movies))}
        del users, movies
        for _ in range(rounds):
            for side in sides:
                command = [sys.executable, "-m", __spec__.name, "--threads", str(threads), "--one", side, folder]
                ran = subprocess.run(command, capture_output=True, text=True, check=False)
                if ran.returncode:
                    print(f"{side} failed on {n_pairs} pairs: {ran.stderr.strip()[-300:]}", file=sys.stderr)
                else:
                    runs[side].append(json.loads(ran.stdout.splitlines()[-1]))
                    print(side, runs[side][-1], file=sys.stderr)
    cpu = {side: statistics.median(one["cpu_s"] for one in some) for side, some in runs.items() if some}
    return {
        **found,
        **{f"{side}_cpu_s": round(value, 1) for side, value in cpu.items()},
        **{f"{side}_gb": round(max(one["peak_gb"] for one in some), 2) for side, some in runs.items() if some},
        **{
            f"{side}_beside_{peer}": round(cpu[peer] / cpu[side], 2)
            for side in OURS
            for peer in PEERS
            if side in cpu and peer in cpu
        },
    }


def learn(side: str, folder: Path, threads: int) -> dict[str, float]:
    users, movies = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("users", "movies"))
    work = {
        "cosine": ours,
        "slim": ours,
        "implicit": implicit_cosine,
        "sparse_dot_topn": sparse_dot_topn,
        "lenskit": lenskit_item_knn,
    }[side](side, users, movies, threads)
    del users, movies
    started, cpu = time.monotonic(), time.process_time()
    work()
    return {
        "cpu_s": time.process_time() - cpu,
        "seconds": time.monotonic() - started,
        "peak_gb": peak_memory_bytes() / 1e9,
    }


def ours(side: str, users: taste.Ints, movies: taste.Ints, threads: int) -> Callable[[], object]:
    parameters = SimilarityParameters(method="cosine" if side == "cosine" else "slim", neighbours=K)
    neighbours(users[:1_000], movies[:1_000], parameters, n_threads=threads)
    return lambda: neighbours(users, movies, parameters, n_threads=threads)


def implicit_cosine(_: str, users: taste.Ints, movies: taste.Ints, threads: int) -> Callable[[], object]:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # it asks for that
    from implicit.nearest_neighbours import CosineRecommender

    seen = matrix(users, movies)
    model = CosineRecommender(K=K, num_threads=threads)

    return lambda: model.fit(seen, show_progress=False)


def sparse_dot_topn(_: str, users: taste.Ints, movies: taste.Ints, threads: int) -> Callable[[], object]:
    from sparse_dot_topn import sp_matmul_topn

    by_movie = matrix(users, movies).T.tocsr()
    lengths = np.sqrt(np.diff(by_movie.indptr))
    by_movie.data /= np.repeat(lengths, np.diff(by_movie.indptr)).astype(np.float32)
    return lambda: sp_matmul_topn(by_movie, by_movie.T.tocsr(), top_n=K + 1, n_threads=threads)


def lenskit_item_knn(_: str, users: taste.Ints, movies: taste.Ints, threads: int) -> Callable[[], object]:
    os.environ["LK_NUM_THREADS"] = str(threads)
    import pandas as pd
    from lenskit.data import from_interactions_df
    from lenskit.knn import ItemKNNScorer

    frame = pd.DataFrame({"user_id": users, "item_id": movies})
    dataset = from_interactions_df(frame)
    model = ItemKNNScorer(max_nbrs=K, save_nbrs=K, feedback="implicit")
    return lambda: model.train(dataset)


def matrix(users: taste.Ints, movies: taste.Ints) -> Any:
    row, column = (np.unique(ids, return_inverse=True)[1].astype(np.int32) for ids in (users, movies))
    return sp.csr_matrix((np.ones(len(row), np.float32), (row, column)))


if __name__ == "__main__":
    main()
