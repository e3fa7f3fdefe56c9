"""Loading a set of the size of ml-25m into the lake: seconds, processor time and the peak of memory.

    python -m movierec_tests.benchmarks.movielens [--ratings 25000000] [--repeated 0]

An archive in the form of ml-25m is made in a temporary folder: 162,541 users, 59,047 movies, popular movies rated most
(Zipf), users one after the other, no pair twice. `--repeated` adds so many ratings of pairs that are there already, and
the load then looks at the staged rows once more. A process of its own loads it into a lake on an S3 emulator; its
memory is the kernel's high-water mark of it. The emulator runs on the same cores and is not counted. The last line
printed is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
from pydantic import SecretStr

from movierec_platform.adapters.aws import s3_client
from movierec_platform.adapters.lake import Lake
from movierec_platform.config import load_settings
from movierec_platform.local.aws import ACCESS_KEY_ID, AwsServer
from movierec_platform.services.load import load_archive
from movierec_tests.benchmarks.measure import print_result

USERS = 162_541
MOVIES = 59_047
USERS_AT_ONCE = 4_000
BUCKET = "benchmark"
FROM_S, TO_S = 789_652_009, 1_574_327_703
MOST_GB = 2.0
_STARS = pa.array([f"{half / 2:.1f}" for half in range(1, 11)])
_SHARES = np.cumsum([0.016, 0.031, 0.016, 0.066, 0.050, 0.196, 0.127, 0.266, 0.088, 0.144])
_PLAIN = pacsv.WriteOptions(include_header=False, quoting_style="none")


def make_archive(path: Path, ratings: int, repeated: int) -> None:
    """A set in the form of ml-25m, with about as many ratings a user as there."""
    chance = np.random.default_rng(25)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("ml-25m/movies.csv", "w") as member:
            lines = (f'{movie},"Film {movie}, The ({1930 + movie % 90})",Drama|War\n' for movie in range(1, MOVIES + 1))
            member.write(f"movieId,title,genres\n{''.join(lines)}".encode())
        with archive.open("ml-25m/ratings.csv", "w", force_zip64=True) as member:
            member.write(b"userId,movieId,rating,timestamp\n")
            first = None
            for users, movies in _pairs(chance, ratings):
                first = (users[:repeated], movies[:repeated]) if first is None else first
                pacsv.write_csv(_rows(chance, users, movies), member, _PLAIN)
            if repeated and first is not None:
                pacsv.write_csv(_rows(chance, *(np.resize(one, repeated) for one in first)), member, _PLAIN)


def _pairs(chance: np.random.Generator, ratings: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Different (user, movie) pairs, some thousands of users at a time, by user and movie."""
    popularity = np.cumsum(1 / (np.arange(MOVIES) + 30))
    activity = chance.lognormal(0, 1.3, USERS)
    counts = np.minimum(np.maximum(activity / activity.sum() * ratings, 1), 5_000)
    for start in range(0, USERS, USERS_AT_ONCE):
        some = counts[start : start + USERS_AT_ONCE] / counts.sum() * ratings
        target = round(float(some.sum()))
        keys = np.zeros(0, np.int64)
        while len(keys) < target:
            wanted = np.repeat(np.arange(len(some)), chance.poisson(some * 1.2 * (target - len(keys)) / target + 0.1))
            ranks = np.searchsorted(popularity, chance.random(len(wanted)) * popularity[-1])
            keys = np.union1d(keys, (start + 1 + wanted) << 32 | (ranks + 1))
        keys = np.sort(chance.choice(keys, target, replace=False))
        yield keys >> 32, keys & 0xFFFFFFFF


def _rows(chance: np.random.Generator, users: npt.NDArray[np.int64], movies: npt.NDArray[np.int64]) -> pa.Table:
    stars = np.minimum(np.searchsorted(_SHARES, chance.random(len(users))), 9)
    at_s = chance.integers(FROM_S, TO_S, len(users))
    return pa.table({"user": users, "movie": movies, "rating": _STARS.take(pa.array(stars)), "at": at_s})


def load(path: Path, endpoint: str) -> None:
    """Loads the archive, and prints as JSON what it took."""
    settings = load_settings(
        {
            "aws_endpoint_url": endpoint,
            "aws_region": "us-east-1",
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": SecretStr("opens-nothing"),
            "bucket": BUCKET,
        }
    )
    s3_client(settings).create_bucket(Bucket=BUCKET)
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    loaded = load_archive(
        Lake(settings), settings, str(path), time.time_ns() // 1_000_000, lambda said: print(said, file=sys.stderr)
    )
    seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    again_s = time.perf_counter()
    again = load_archive(Lake(settings), settings, str(path), time.time_ns() // 1_000_000, lambda _: None)
    result = {
        "ratings": loaded.ratings,
        "movies": loaded.movies,
        "repeated": loaded.repeated_ratings,
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu_s, 1),
        "ratings_per_s": round(loaded.ratings / seconds),
        "peak_rss_gb": round(_peak_rss_bytes() / 1e9, 3),
        "again_unchanged": again.unchanged,
        "again_s": round(time.perf_counter() - again_s, 1),
    }
    print(json.dumps(result))


def _peak_rss_bytes() -> int:
    # Not getrusage: that of a child begins with what its parent had.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=25_000_000)
    parser.add_argument("--repeated", type=int, default=0, help="ratings of pairs that are there already")
    parser.add_argument("--load", nargs=2, metavar=("ARCHIVE", "ENDPOINT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        load(Path(given.load[0]), given.load[1])
        return
    with tempfile.TemporaryDirectory(prefix="movierec-benchmark-") as folder:
        path = Path(folder) / "ml-made-here.zip"
        begun = time.perf_counter()
        make_archive(path, given.ratings, given.repeated)
        print(f"made {path.stat().st_size / 1e6:,.0f} MB in {time.perf_counter() - begun:.0f} s", flush=True)
        server = AwsServer(Path(folder), 0)
        server.start()
        try:
            command = [sys.executable, "-m", "movierec_tests.benchmarks.movielens", "--load", str(path), server.url]
            printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        finally:
            server.stop()
    result = json.loads(printed.splitlines()[-1])
    within = "within" if result["peak_rss_gb"] <= MOST_GB else "MISSED"
    print(
        f"{result['ratings']:,} ratings: {result['seconds']} s, {result['peak_rss_gb']} GB (most {MOST_GB}: {within})"
    )
    print_result({"benchmark": "movielens", **result})


if __name__ == "__main__":
    main()
