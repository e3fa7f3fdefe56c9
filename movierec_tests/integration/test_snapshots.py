"""Snapshots in files: whole or not there, shared, replaced and removed; and what they rank is what the graph would."""

import gc
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from movierec_platform.adapters import snapshot as snapshots
from movierec_platform.adapters import snapshot_files
from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.snapshot import SnapshotHolder, open_snapshot
from movierec_platform.adapters.snapshot_files import UNFINISHED, newest_snapshot, read_snapshot, write_snapshot
from movierec_platform.config import Settings
from movierec_platform.domain.registers import PairState
from movierec_platform.domain.tables import POPULARITY
from movierec_platform.errors import LakeUnavailable, NotPublished
from movierec_platform.services.histories import Histories
from movierec_platform.services.recommend import Recommender, Wanted

VERSION = "20240501T120000Z-00000001"
MOVIES = 40
USERS = range(1, 6)
SCHEMA = pa.schema({"movie_id": pa.int64(), "title": pa.string(), "year": pa.int32(), "genres": pa.list_(pa.string())})

RANKED_IN_CYPHER = """
MATCH (u:Usuario {id: $user})-[v:VIO]->(m:Pelicula)-[s:SIMILAR {version: $version}]->(rec:Pelicula)
WHERE NOT EXISTS { (u)-[:VIO]->(rec) }
WITH rec, sum(coalesce(v.rating / 5.0, 0.7) * s.score) AS score, sum(s.support) AS coincidencias
RETURN rec.id, score, coincidencias ORDER BY score DESC, rec.id LIMIT $n
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def lake(fresh_settings: Settings) -> Lake:
    """A catalogue and a similarity with random edges."""
    lake = Lake(fresh_settings)
    titles = [f"Película {movie}" for movie in range(1, MOVIES + 1)]
    rows = [
        list(range(1, MOVIES + 1)),
        titles,
        [None, *range(1961, 1960 + MOVIES)],
        [["Drama"], ["War"]] * (MOVIES // 2),
    ]
    lake.write("movies", pa.table(rows, schema=SCHEMA))
    seen = pa.table({"user_id": [1, 2, 3], "movie_id": [1, 1, 2], "rating": [4.0, 2.0, 5.0], "rated_at_ms": [1, 2, 3]})
    lake.write("ratings", seen)
    lake.write("similarity", edges(), partition=("version", VERSION))
    return lake


def edges() -> pa.Table:
    random = np.random.default_rng(3)
    source, target = np.divmod(random.choice(MOVIES * MOVIES, 300, replace=False), MOVIES)
    return pa.table(
        {
            "version": pa.repeat(VERSION, 300),
            "source_id": source + 1,
            "target_id": target + 1,
            "score": random.integers(1, 64, 300) / 64,
            "rank": np.ones(300, dtype=np.int32),
            "support": random.integers(1, 9, 300),
        }
    )


def test_what_is_read_is_what_was_written(lake: Lake, folder: Path) -> None:
    snapshot = open_snapshot(lake, VERSION, folder)
    assert (snapshot.version, len(snapshot.movies.movie_ids), len(snapshot.edges.scores)) == (VERSION, MOVIES, 300)
    assert snapshot.movies.titles[:2] == ["Película 1", "Película 2"]
    assert snapshot.movies.viewers[:3].tolist() == [2, 1, 0]
    assert [snapshot.movies.year_of(index) for index in (0, 1)] == [None, 1961]
    assert snapshot.movies.genres_of(1) == ("War",)
    write_snapshot(folder / "again", snapshot)
    again = read_snapshot(folder / "again", snapshot.name)
    for part in ("movies", "edges", "titles", "views"):
        for name in type(getattr(snapshot, part)).__slots__:
            one, other = (getattr(getattr(whole, part), name) for whole in (snapshot, again))
            assert repr(list(one)) == repr(list(other)), name
    with pytest.raises(ValueError, match="read-only"):
        snapshot.edges.scores[0] = 2.0


def test_a_second_process_maps_the_same_files_without_reading_the_lake(lake: Lake, folder: Path, monkeypatch) -> None:
    first = open_snapshot(lake, VERSION, folder)
    monkeypatch.setattr(snapshots, "_from_lake", None)
    assert open_snapshot(lake, VERSION, folder).name == first.name


def test_what_is_held_stays_while_nothing_has_changed(lake: Lake, clean_graph: Graph, folder: Path) -> None:
    now_s = [0.0]
    holder = SnapshotHolder(clean_graph, lake, folder, 3600.0, monotonic_s=lambda: now_s[0])
    holder.refresh()
    held = holder.current()
    now_s[0] += 1.0
    holder.refresh()
    assert holder.current() is held


def test_another_catalogue_or_version_is_another_snapshot(lake: Lake, folder: Path) -> None:
    first = open_snapshot(lake, VERSION, folder)
    rows = [(movie, 7, 4.0, 4.0, 7, 1.0) for movie in range(1, MOVIES + 1)]
    lake.write("popularity", pa.table([list(column) for column in zip(*rows, strict=True)], schema=POPULARITY))
    second = open_snapshot(lake, VERSION, folder)
    assert second.name != first.name
    assert second.movies.rating_counts.tolist() == [7] * MOVIES
    assert open_snapshot(lake, None, folder).name not in (first.name, second.name)


def test_a_damaged_snapshot_is_made_anew_and_old_ones_are_removed(lake: Lake, folder: Path) -> None:
    name = open_snapshot(lake, None, folder).name
    damaged = folder / name / "edges.scores.npy"
    damaged.write_bytes(damaged.read_bytes()[:40])
    assert read_snapshot(folder, name) is None
    mapped = open_snapshot(lake, None, folder)
    for path in (folder / name, folder / f"{UNFINISHED}left"):
        path.mkdir(exist_ok=True)
        os.utime(path, (1, 1))
    newer = open_snapshot(lake, VERSION, folder)
    assert [path.name for path in folder.iterdir() if path.is_dir()] == [newer.name]
    assert mapped.movies.titles[0] == "Película 1"  # removed, and still mapped


def test_who_finds_it_damaged_while_another_makes_it_waits_and_reads_that(
    lake: Lake, folder: Path, monkeypatch
) -> None:
    name = open_snapshot(lake, None, folder).name
    (folder / name / "edges.scores.npy").write_bytes(b"")
    made: list[str] = []
    waits = threading.Event()
    from_lake, turn = snapshots._from_lake, snapshots.writing_snapshots
    monkeypatch.setattr(snapshots, "_from_lake", lambda *given: made.append(given[2]) or from_lake(*given))
    monkeypatch.setattr(snapshots, "writing_snapshots", lambda where: waits.set() or turn(where))
    with ThreadPoolExecutor(1) as pool:
        with turn(folder):
            second = pool.submit(open_snapshot, lake, None, folder)
            assert waits.wait(60)
            snapshots._written(lake, None, folder, name)
        assert second.result().movies.titles[0] == "Película 1"
    assert made == [name]


def test_a_folder_that_is_removed_while_it_is_looked_at_is_none(lake: Lake, folder: Path, monkeypatch) -> None:
    name = open_snapshot(lake, None, folder).name
    monkeypatch.setattr(snapshot_files, "_folders", lambda _: [folder / name, folder / "gone"])
    assert newest_snapshot(folder).name == name


def test_answers_hold_no_snapshot_that_was_replaced(lake: Lake, clean_graph: Graph, folder: Path) -> None:
    holder = SnapshotHolder(clean_graph, lake, folder, 3600.0)
    histories = Histories(clean_graph, poll_s=3600.0, most_pairs=1000, oldest_s=60.0)
    recommender = Recommender(holder, histories)
    counted = []
    for number in range(20):
        rows = [(movie, number, 4.0, 4.0, number, 1.0) for movie in range(1, MOVIES + 1)]
        lake.write("popularity", pa.table([list(column) for column in zip(*rows, strict=True)], schema=POPULARITY))
        holder._look_at_s = 0.0
        holder.refresh()
        assert recommender.recommend(number + 1, Wanted(5)).items
        gc.collect()
        maps = Path("/proc/self/maps").read_text().splitlines()
        counted.append((len(os.listdir("/proc/self/fd")), sum(str(folder) in line for line in maps)))
    histories.close()
    assert max(mapped for _, mapped in counted[1:]) <= counted[1][1]
    assert max(files for files, _ in counted[1:]) < counted[1][0] + 20, "each snapshot has more than 20 files"


def test_without_the_lake_the_newest_snapshot_is_served_until_it_answers(lake, clean_graph, folder) -> None:
    settings = Settings(aws_endpoint_url="http://127.0.0.1:1", aws_access_key_id="none", aws_secret_access_key="none")
    away = SnapshotHolder(clean_graph, Lake(settings), folder, 3600.0)
    with pytest.raises(LakeUnavailable):
        away.refresh()
    open_snapshot(lake, VERSION, folder)
    with pytest.raises(LakeUnavailable):
        away.refresh()
    assert away.current().version == VERSION
    shutil.rmtree(folder)
    assert newest_snapshot(folder) is None


def test_an_empty_catalogue_is_nothing_to_serve(fresh_settings: Settings, folder: Path) -> None:
    lake = Lake(fresh_settings)
    with pytest.raises(NotPublished):
        open_snapshot(lake, None, folder)
    lake.write("movies", SCHEMA.empty_table())
    with pytest.raises(NotPublished):
        open_snapshot(lake, None, folder)


@pytest.mark.both_graphs
def test_ranks_as_cypher_does_over_the_edges_in_the_graph(lake: Lake, clean_graph: Graph, folder: Path) -> None:
    clean_graph.merge_movies(
        [
            {"id": movie, "title": "T", "year": None, "genres": [], "rating_count": 0, "rating_mean": None}
            for movie in range(1, MOVIES + 1)
        ]
    )
    rows = edges().to_pylist()
    clean_graph.write_similarity(
        VERSION, [tuple(row[name] for name in ("source_id", "target_id", "score", "rank", "support")) for row in rows]
    )
    clean_graph.publish(VERSION, 1)
    random = np.random.default_rng(4)
    clean_graph.apply_pairs(
        {
            (user, int(movie)): PairState(seen_at_ms=5)
            if movie % 3 == 0
            else PairState(float(random.integers(1, 11) / 2), 5, "e", 5, None)
            for user in USERS
            for movie in random.choice(MOVIES, 8, replace=False) + 1
        }
    )
    holder = SnapshotHolder(clean_graph, lake, folder, 3600.0)
    holder.refresh()
    histories = Histories(clean_graph, poll_s=1.0, most_pairs=0, oldest_s=0.0)
    recommender = Recommender(holder, histories)
    for user in USERS:
        ours = [
            (item.item_id, pytest.approx(item.score), item.coincidencias)
            for item in recommender.recommend(user, Wanted(n=15)).items
            if item.strategy == "graph_cf"
        ]
        in_cypher = clean_graph._read(RANKED_IN_CYPHER, user=user, version=VERSION, n=15)
        assert len(ours) == 15
        assert [tuple(row) for row in in_cypher] == ours
    histories.close()
