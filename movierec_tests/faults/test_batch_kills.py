"""The batch killed at random moments: what a rerun leaves is what an undisturbed run leaves, row for row.

It takes half a minute: each of the runs starts a Python with pyarrow. `--faults-seed` repeats the choice of moments.
"""

import json
import os
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import Settings, variables_of
from movierec_platform.domain.envelope import raw_key, raw_object
from movierec_tests.servers import empty_settings

pytestmark = pytest.mark.thorough("faults")

DAYS = ("2026-02-01", "2026-02-02", "2026-02-03")
FIRST_MS = 1_769_904_000_000
DAY_MS = 86_400_000
USERS, MOVIES = 400, 300
KILLS = 5
BATCH = """
import sys
from datetime import date

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import load_settings
from movierec_platform.domain.event_checks import EventPolicy
from movierec_platform.services.compact import compact_days
from movierec_platform.services.interactions import fold_interactions
from movierec_platform.services.load import load_archive
from movierec_platform.services.popularity import compute_popularity

settings = load_settings()
lake, objects = Lake(settings), open_objects(settings)
now_ms = int(sys.argv[2])
print("ready", flush=True)
load_archive(lake, settings, sys.argv[1], now_ms=now_ms, log=lambda said: None)
compact_days(lake, objects, sys.argv[3:], EventPolicy(), now_ms=now_ms)
fold_interactions(lake, objects, date(2026, 2, 4), late_days=14)
compute_popularity(lake, half_life_days=30.0, prior_ratings=20.0)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance = random.Random(1)
    movies = ["movieId,title,genres", *(f"{one},Film {one} (2001),Drama" for one in range(1, MOVIES + 1))]
    ratings = ["userId,movieId,rating,timestamp"]
    for user in range(1, USERS + 1):
        seen = chance.sample(range(1, MOVIES + 1), 100)
        ratings += [f"{user},{one},{chance.randint(1, 10) / 2},{1_500_000_000 + one}" for one in seen]
    path = tmp_path_factory.mktemp("archive") / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("set/movies.csv", "\n".join(movies) + "\n")
        made.writestr("set/ratings.csv", "\n".join(ratings) + "\n")
    return path


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--faults-seed")
    return random.randrange(10**9) if given is None else given


def test_the_batch_killed_anywhere_leaves_what_an_undisturbed_one_leaves(
    settings: Settings, tmp_path: Path, archive: Path, seed: int
) -> None:
    print(f"--faults-seed {seed}")
    chance = random.Random(seed)
    calm, stormy = (empty_settings(settings, tmp_path / name) for name in ("calm", "stormy"))
    for one in (calm, stormy):
        land_days(one)
    took_s = run_batch(calm, archive)
    expected = tables(calm)
    assert len(expected) == 4 + 2 * len(DAYS)
    killed = 0
    for kill in range(KILLS):
        # Each moment from a part of the run of its own, so that loading, compacting and folding all are hit.
        killed += kill_batch(stormy, archive, took_s * (kill + chance.random()) / KILLS)
        for name, table in tables(stormy).items():
            assert table == expected[name], f"a reader sees {name} half done"
    assert killed > 0
    run_batch(stormy, archive)
    assert tables(stormy) == expected


def land_days(settings: Settings) -> None:
    """The same objects whoever is given them: some good events, some bad, some twice, some of unknown movies."""
    chance = random.Random(2)
    objects = open_objects(settings)
    for day in range(len(DAYS)):
        for number in range(15):
            at_ms = FIRST_MS + day * DAY_MS + number * 60_000
            events = [posted(chance, at_ms, f"{day}-{number}-{one}") for one in range(200)]
            body = raw_object([json.dumps(one).encode() for one in [*events, *events[:5]]], at_ms, source="test")
            objects.put(raw_key(at_ms, f"{number:032d}"), body)


def posted(chance: random.Random, at_ms: int, name: str) -> dict[str, object]:
    event: dict[str, object] = {
        "event_id": name,
        "user_id": chance.randint(1, 2 * USERS),
        "movie_id": chance.randint(1, MOVIES + 5),
        "timestamp": at_ms - chance.randrange(DAY_MS),
    }
    kind = chance.choice(["rating", "rating", "rating", "view", "retract"])
    return {**event, "rating": chance.randint(1, 11) / 2} if kind == "rating" else {**event, "event_type": kind}


def start_batch(settings: Settings, archive: Path) -> "subprocess.Popen[str]":
    """The batch, about to begin."""
    command = [sys.executable, "-c", BATCH, str(archive), str(FIRST_MS + 3 * DAY_MS), *DAYS]
    environment = {**os.environ, **variables_of(settings)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def run_batch(settings: Settings, archive: Path) -> float:
    """Seconds that it took, undisturbed."""
    started = time.monotonic()
    process = start_batch(settings, archive)
    began = time.monotonic()
    process.communicate(timeout=360)
    assert process.returncode == 0, f"after {began - started:.1f} s of its start"
    return time.monotonic() - began


def kill_batch(settings: Settings, archive: Path, after_s: float) -> bool:
    """Whether it was still at work when it was killed."""
    process = start_batch(settings, archive)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate(timeout=30)
    return process.returncode != 0


def tables(settings: Settings) -> dict[str, pa.Table]:
    """Every table, or partition of one, that there is, in the order of its rows."""
    lake = Lake(settings)
    found = {name: lake.read(name) for name in ("movies", "ratings", "interactions", "popularity") if lake.exists(name)}
    for name in ("events", "compactions"):
        for day in lake.partitions(name, "date"):
            found[f"{name} of {day}"] = lake.read(name, filters=[("date", "=", day)])
    return found
