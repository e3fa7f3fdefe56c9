"""The batch assets on real S3 and a real graph: a small archive in, interactions, similarity and graph out."""

import gzip
import json
import uuid
import zipfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import STACK_ENV, Settings, variables_of, write_env_file
from movierec_platform.defs.batch import evaluation, movielens, similarity
from movierec_platform.defs.batch import graph as graph_assets
from movierec_platform.defs.batch import lake as lake_assets
from movierec_platform.defs.batch.jobs import load_movielens, nightly
from movierec_platform.defs.batch.resources import resources
from movierec_platform.domain.edges import edge_states
from movierec_platform.domain.event_checks import EventPolicy
from movierec_platform.domain.interaction_checks import CHECKS as PAIRS_CHECKS
from movierec_platform.domain.interactions import pair_states
from movierec_platform.domain.movielens_checks import MOVIES_CHECKS, RATINGS_CHECKS
from movierec_platform.domain.registers import PairState
from movierec_platform.domain.similarity import SimilarityParameters
from movierec_platform.errors import CheckFailed, LakeUnavailable, UsageError
from movierec_platform.services.compact import compact_day, read_catalogue
from movierec_platform.services.launch import load_config
from movierec_platform.services.publish import Published, drop_old_versions, publish_newest, publish_version
from movierec_platform.services.similarity import compute_similarity

NOON = datetime(2024, 5, 1, 12, 0, 0, tzinfo=timezone.utc)
AT_S = 1_600_000_000
MOVIES = "movieId,title,genres\n" + "".join(f'{900 + k},"Film {k}, The (200{k})",Drama|Noir\n' for k in range(1, 6))
RATED = [(user, movie, 3.0 + (user + movie) % 3 * 0.5) for user in range(1, 7) for movie in range(901, 905)]


def archive(folder: Path, ratings: list[tuple[int, int, Any]], name: str = "set.zip") -> str:
    body = "userId,movieId,rating,timestamp\n" + "".join(f"{u},{m},{r},{AT_S}\n" for u, m, r in ratings)
    with zipfile.ZipFile(folder / name, "w") as made:
        made.writestr("ml-made-here/ratings.csv", body)
        made.writestr("ml-made-here/movies.csv", MOVIES)
    return str(folder / name)


class Platform:
    """A lake of its own and the test graph, with the batch jobs to run on them."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, graph: Graph) -> None:
        self.lake, self.objects, self.graph = Lake(settings), open_objects(settings), graph
        self._instance = instance
        self._defs = dg.Definitions(
            assets=dg.load_assets_from_modules([movielens, lake_assets, similarity, evaluation, graph_assets]),
            asset_checks=[graph_assets.graph_parity],
            jobs=[load_movielens, nightly],
            resources=resources(home=str(settings.home)),
        )

    def run(self, job: str, raises: bool = True, **step_config: dict[str, Any]) -> dg.ExecuteInProcessResult:
        config = {"ops": {step: {"config": given} for step, given in step_config.items()}}
        return self._defs.resolve_job_def(job).execute_in_process(
            run_config=config, instance=self._instance, raise_on_error=raises
        )

    def load(self, path: str, *waive: str, raises: bool = True) -> dg.ExecuteInProcessResult:
        steps = load_config(path, waive)["ops"]
        return self.run("load_movielens", raises, **{step: given["config"] for step, given in steps.items()})

    def land(self, *events: Any) -> None:
        lines = [
            json.dumps({"received_at_ms": AT_S * 1000 + 500, "source": "test", "event": event}) for event in events
        ]
        self.objects.put(
            f"raw/date=2020-09-13/hour=12/{AT_S * 1000 + 500}-{uuid.uuid4()}.ndjson.gz",
            gzip.compress("\n".join(lines).encode()),
        )

    def compact(self, day: str) -> None:
        compact_day(self.lake, self.objects, day, read_catalogue(self.lake), EventPolicy(), AT_S * 1000 + 86_400_000)

    def versions_in_graph(self) -> dict[str, int]:
        publication = self.graph.publication()
        names = [publication.version, publication.previous] if publication else []
        return {name: self.graph.similarity_count(name) for name in names if name}


def cosine(shrink: float = 10.0) -> SimilarityParameters:
    return SimilarityParameters("cosine", shrink=shrink)


def publish(platform: Platform, version: str) -> Published:
    return publish_version(platform.lake, platform.graph, version, 5, "", lambda *_: None)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def platform(fresh_settings: Settings, clean_graph: Graph, instance: dg.DagsterInstance) -> Platform:
    write_env_file(fresh_settings.home / STACK_ENV, variables_of(fresh_settings))
    return Platform(fresh_settings, instance, clean_graph)


def test_an_archive_becomes_tables_and_graph_and_again_changes_nothing(platform: Platform, tmp_path: Path) -> None:
    path = archive(tmp_path, RATED)
    result = platform.load(path)
    counts = {
        event.asset_key.to_user_string(): event.materialization.metadata["dagster/row_count"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert counts == {
        "movies": 5,
        "ratings": 24,
        "interactions": 24,
        "popularity": 5,
        "catalog_graph": 5,
        "ratings_graph": 24,
    }
    assert (platform.graph.movie_count(), platform.graph.pair_count()) == (5, 24)
    tables = {name: platform.lake.read(name) for name in ("movies", "ratings", "interactions")}
    assert dict(edge_states(platform.graph.pairs())) == dict(pair_states(tables["interactions"]))
    assert platform.graph.history(1)[0].movie_id == 901

    platform.load(path)
    assert {name: platform.lake.read(name) for name in tables} == tables
    assert dict(edge_states(platform.graph.pairs())) == dict(pair_states(tables["interactions"]))


def test_the_graph_keeps_what_events_said_before_the_import(platform: Platform, tmp_path: Path) -> None:
    platform.load(archive(tmp_path, RATED))
    newer = PairState(0.5, AT_S * 1000 + 1, "mine", AT_S * 1000 + 1, None)
    platform.graph.apply_pairs({(1, 901): newer, (2, 902): PairState(retracted_at_ms=AT_S * 1000 + 1)})
    platform.load(archive(tmp_path, RATED))
    pairs = dict(edge_states(platform.graph.pairs()))
    assert pairs[1, 901] == newer
    assert not pairs[2, 902].visible


def test_a_bad_archive_leaves_both_tables_alone(platform: Platform, tmp_path: Path) -> None:
    platform.load(archive(tmp_path, RATED))
    before = {name: platform.lake.read(name) for name in ("movies", "ratings")}
    with pytest.raises(UsageError, match=r"ratings\.csv line 26: a rating is 0\.5 to 5 in halves: '9,901,4\.2,"):
        platform.load(archive(tmp_path, [*RATED, (9, 901, 4.2)], "bad.zip"))
    assert {name: platform.lake.read(name) for name in before} == before


def test_a_check_that_fails_shows_on_the_table_and_stops_what_comes_after(platform: Platform, tmp_path: Path) -> None:
    passed = platform.load(archive(tmp_path, RATED)).get_asset_check_evaluations()
    assert {(one.asset_key.to_user_string(), one.check_name) for one in passed} == {
        *(("movies", name) for name in MOVIES_CHECKS),
        *(("ratings", name) for name in RATINGS_CHECKS),
        *(("interactions", name) for name in PAIRS_CHECKS),
    }
    assert all(one.passed for one in passed)
    before = {name: platform.lake.read(name) for name in ("movies", "ratings", "interactions")}

    few = archive(tmp_path, RATED[:3], "few.zip")
    refused = platform.load(few, raises=False)
    failure = refused.failure_data_for_node("movielens")
    assert failure is not None
    assert failure.error is not None
    assert "PromotionRefused: movies, ratings: not replaced" in str(failure.error)
    failed = [one for one in refused.get_asset_check_evaluations() if not one.passed]
    assert [(one.asset_key.to_user_string(), one.check_name, one.severity) for one in failed] == [
        ("ratings", "volume_against_previous", dg.AssetCheckSeverity.ERROR)
    ]
    assert not refused.get_asset_materialization_events()
    assert {name: platform.lake.read(name) for name in before} == before

    waived = platform.load(few, "volume_against_previous").get_asset_check_evaluations()
    warned = {one.check_name: one.severity for one in waived if not one.passed}
    assert warned == dict.fromkeys(["volume_against_previous", "pairs_do_not_shrink"], dg.AssetCheckSeverity.WARN)
    assert platform.lake.read("interactions").num_rows == 3


def test_the_nightly_folds_what_was_landed_and_publishes_once(platform: Platform, tmp_path: Path) -> None:
    platform.load(archive(tmp_path, RATED))
    rating = {"event_id": "e1", "user_id": 7, "movie_id": 905, "rating": 5.0}
    platform.land(rating, rating, {"user_id": 7, "movie_id": 901, "event_type": "view"}, {"user_id": 7, "rating": "x"})
    platform.land({"user_id": 1, "movie_id": 901, "event_type": "retract"}, {**rating, "movie_id": 12345})
    platform.compact("2020-09-13")
    cosine = {"method": "cosine"}
    result = platform.run("nightly", movie_similarity=cosine)
    [parity] = [one for one in result.get_asset_check_evaluations() if one.check_name == "graph_parity"]
    figures = {name: one.value for name, one in parity.metadata.items()}
    assert (parity.passed, parity.blocking) == (False, False), "nothing was ingested"
    assert (figures["lake_pairs"], figures["graph_pairs"], figures["behind_pairs"]) == (26, 24, 3)

    states = dict(pair_states(platform.lake.read("interactions")))
    received = AT_S * 1000 + 500
    assert states[7, 905] == PairState(5.0, received, "e1", received, None)
    assert states[7, 901] == PairState(seen_at_ms=received)
    assert states[1, 901] == PairState(None, None, None, AT_S * 1000, received)
    assert len(states) == len(RATED) + 2

    first = platform.graph.publication()
    assert first is not None
    edges = platform.lake.read("similarity", filters=[("version", "=", first.version)])
    supports = {(row["source_id"], row["target_id"]): row["support"] for row in edges.to_pylist()}
    assert (supports[905, 901], supports[901, 902], supports[902, 903]) == (1, 5, 6)
    assert platform.versions_in_graph() == {first.version: edges.num_rows}

    platform.run("nightly", movie_similarity=cosine)
    assert platform.graph.publication() == first
    assert platform.versions_in_graph() == {first.version: edges.num_rows}
    assert platform.lake.partitions("similarity", "version") == [first.version]


def test_two_versions_stay_in_the_graph_and_the_newest_few_in_the_lake(platform: Platform, tmp_path: Path) -> None:
    platform.load(archive(tmp_path, RATED))
    published = []
    for shrink in (0.0, 1.0, 2.0, 3.0):
        version = compute_similarity(platform.lake, NOON, cosine(shrink=shrink)).version
        published.append(publish(platform, version).version)
    assert published == sorted(set(published))
    assert [platform.graph.similarity_count(version) > 0 for version in published] == [False, False, True, True]
    assert drop_old_versions(platform.lake, platform.graph, newest=3) == published[:1]
    assert platform.lake.partitions("similarity", "version") == published[1:]
    assert platform.lake.read("similarity", filters=[("version", "=", published[0])]).num_rows == 0

    newest = [compute_similarity(platform.lake, NOON, cosine(shrink=shrink)).version for shrink in (4.0, 5.0, 6.0, 7.0)]
    assert drop_old_versions(platform.lake, platform.graph, newest=2) == [published[1], *newest[:2]]
    assert platform.lake.partitions("similarity", "version") == [*published[2:], *newest[2:]], "what readers have stays"


def test_the_configuration_limits_the_neighbours(platform: Platform, tmp_path: Path) -> None:
    platform.load(archive(tmp_path, RATED))
    platform.run("nightly", movie_similarity={"neighbours": 1, "shrink": 0.0})
    edges = platform.lake.read("similarity")
    assert sorted(edges["target_id"].to_pylist()) == [901, 902, 903, 904]
    assert set(edges["rank"].to_pylist()) == {1}


def test_an_empty_similarity_is_never_published(platform: Platform, tmp_path: Path) -> None:
    platform.load(archive(tmp_path, RATED))
    platform.run("nightly")
    before = platform.graph.publication()
    fewer = archive(tmp_path, [(1, 901, 4.0), (2, 902, 4.0)], "lonely.zip")
    platform.load(fewer, "volume_against_previous")
    with pytest.raises(CheckFailed, match="no two movies of 2 visible pairs share a user"):
        platform.run("nightly")
    assert platform.graph.publication() == before


def test_nothing_to_publish_is_said(platform: Platform) -> None:
    with pytest.raises(CheckFailed, match="run movie_similarity first"):
        publish_newest(platform.lake, platform.graph, 1, "", lambda *_: None)
    with pytest.raises(LakeUnavailable, match="no table movies yet"):
        platform.run("nightly")


def test_a_publication_that_was_interrupted_is_finished(platform: Platform, tmp_path: Path) -> None:
    platform.load(archive(tmp_path, RATED))
    computed = compute_similarity(platform.lake, NOON, cosine())
    platform.graph.write_similarity(computed.version, [(901, 902, 0.5, 1, 3), (902, 901, 0.5, 1, 3)])
    assert platform.graph.publication() is None
    published = publish(platform, computed.version)
    assert (published.version, published.edges, published.unchanged) == (computed.version, computed.edges, False)
    assert platform.versions_in_graph() == {computed.version: computed.edges}


def test_a_similarity_of_movies_that_the_graph_lacks_is_not_published(platform: Platform) -> None:
    rows = {"user_id": [1, 1], "movie_id": [901, 902], "seen_at_ms": [1, 1], "retracted_at_ms": pa.nulls(2, pa.int64())}
    platform.lake.write("interactions", pa.table(rows))
    version = compute_similarity(platform.lake, NOON, cosine()).version
    with pytest.raises(CheckFailed, match="took 0 of 2 edges"):
        publish(platform, version)
    assert platform.graph.publication() is None


def test_lake_failures_are_ours(platform: Platform, settings: Settings) -> None:
    nowhere = Lake(settings.model_copy(update={"bucket": f"absent-{uuid.uuid4().hex}"}))
    for attempt in (lambda: nowhere.read("movies"), lambda: nowhere.write("movies", pa.table({"x": [1]}))):
        with pytest.raises(LakeUnavailable, match="table movies of the lake: "):
            attempt()


def test_a_partition_is_replaced_beside_the_others(platform: Platform) -> None:
    def rows(day: str, *numbers: int) -> pa.Table:
        return pa.table({"day": [day] * len(numbers), "number": numbers})

    for day, numbers in (("it's monday", (1, 2)), ("tuesday", (3,)), ("it's monday", (4,))):
        assert platform.lake.write("days", rows(day, *numbers), partition=("day", day)) == len(numbers)
    assert platform.lake.partitions("days", "day") == ["it's monday", "tuesday"]
    assert platform.lake.read("days", columns=["number"], filters=[("day", "=", "it's monday")]).to_pydict() == {
        "number": [4]
    }
    platform.lake.drop_partitions("days", "day", ["it's monday"])
    assert platform.lake.read("days").to_pylist() == [{"day": "tuesday", "number": 3}]
    assert platform.lake.partitions("absent", "day") == []
