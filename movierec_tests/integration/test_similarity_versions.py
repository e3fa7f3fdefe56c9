"""Versions of the similarity on a real lake and a real graph: judged, published, blocked, gone back from, killed over.

Sixty users of three tastes: what goes together can be learned, and popularity knows nothing of it.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from movierec_platform.adapters import graph as graph_adapter
from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.graph_similarity import Publication
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.snapshot import SnapshotHolder
from movierec_platform.adapters.state import State
from movierec_platform.cli.invocation import actor
from movierec_platform.cli.main import app
from movierec_platform.cli.printing import out
from movierec_platform.config import STACK_ENV, Settings, variables_of, write_env_file
from movierec_platform.defs.batch import evaluation, similarity
from movierec_platform.defs.batch import graph as graph_assets
from movierec_platform.defs.batch.resources import resources
from movierec_platform.domain.publish_gate import RULES, GatePolicy
from movierec_platform.domain.similarity import SimilarityParameters
from movierec_platform.domain.tables import INTERACTIONS
from movierec_platform.errors import CheckFailed, Conflict, LeaseLost, NotPublished
from movierec_platform.services import similarity_versions
from movierec_platform.services.judge import JudgePolicy, judge_version
from movierec_platform.services.publish import Published, publish_newest, publish_version, publishing, roll_back
from movierec_platform.services.similarity import compute_similarity
from movierec_platform.services.versions import (
    evaluation_of,
    held_versions,
    learned_of,
    publications,
    record_published,
    standings,
)

NOON = datetime(2024, 5, 1, 12, 0, 0, tzinfo=timezone.utc)
AT_MS = 1_600_000_000_000
TASTES, USERS_EACH, MOVIES_EACH, SEEN = 3, 20, 10, 7
LIST = """
MATCH (p:Publicacion {name: 'similarity'})
MATCH (source:Pelicula {id: 1})-[s:SIMILAR]->(target:Pelicula)
WHERE s.version = p.version
RETURN p.version, collect([target.id, s.score])
"""


def interactions() -> pa.Table:
    """Each user has seen seven movies of a taste, and one of another."""
    chance = random.Random(3)
    rows = []
    for user in range(1, TASTES * USERS_EACH + 1):
        liked = [1 + user % TASTES + TASTES * one for one in range(MOVIES_EACH)]
        other = 1 + (user + 1) % TASTES + TASTES * chance.randrange(MOVIES_EACH)
        for movie in sorted({*chance.sample(liked, SEEN), other}):
            at_ms = AT_MS + chance.randrange(10**6)
            rows.append((user, movie, 4.0, at_ms, f"e-{user}-{movie}", at_ms, None))
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=INTERACTIONS)


class World:
    """A lake with interactions, and a graph with their movies."""

    def __init__(self, settings: Settings, graph: Graph) -> None:
        self.settings, self.graph, self.lake = settings, graph, Lake(settings)
        movie_ids = range(1, TASTES * MOVIES_EACH + 1)
        fields: dict[str, Any] = {"title": "T", "year": 2001, "genres": ["Drama"]}
        movies = [{"movie_id": one, **fields} for one in movie_ids]
        self.lake.write("movies", pa.Table.from_pylist(movies))
        self.lake.write("interactions", interactions())
        graph.merge_movies([{"id": one, **fields, "rating_count": 0, "rating_mean": None} for one in movie_ids])
        self.policy = JudgePolicy.of(settings)

    def learn(self, **parameters: Any) -> str:
        return compute_similarity(self.lake, NOON, SimilarityParameters("cosine", **parameters)).version

    def learn_three(self) -> list[str]:
        return [self.learn(neighbours=4, shrink=shrink) for shrink in (1.0, 2.0, 3.0)]

    def publish(self, version: str, now_ms: int = 1) -> Published:
        return publish_version(self.lake, self.graph, version, now_ms, "by a test", lambda *_: None)

    def judge(self, version: str, now_ms: int = 7) -> bool:
        return judge_version(self.lake, self.graph, version, self.policy, now_ms).evaluated.passed

    def edges(self, version: str) -> int:
        return self.lake.read("similarity", filters=[("version", "=", version)]).num_rows

    def corrupt(self, version: str) -> None:
        """The lake's edges of this version start at movies that they have nothing to do with."""
        rows = self.lake.read("similarity", filters=[("version", "=", version)])
        at = rows.column_names.index("source_id")
        wrong = pa.array(random.Random(1).choices(range(1, 31), k=len(rows)), pa.int64())
        self.lake.write("similarity", rows.set_column(at, "source_id", wrong), partition=("version", version))

    def assert_whole(self) -> None:
        """What the pointer names stands in the graph as the lake has it, and nothing else does."""
        publication = self.graph.publication()
        assert publication is not None
        named = [one for one in (publication.version, publication.previous) if one]
        in_graph = dict(self.graph._read("MATCH ()-[s:SIMILAR]->() RETURN s.version, count(s)"))
        assert in_graph == {one: self.edges(one) for one in named}

    def holder(self, folder: str = "snapshots") -> SnapshotHolder:
        return SnapshotHolder(self.graph, self.lake, self.settings.home / folder, poll_s=60)

    def movierec(self, *arguments: str) -> tuple[int, str]:
        with pytest.MonkeyPatch.context() as changed:
            changed.setattr(out, "width", 160)
            ran = CliRunner().invoke(app, ["similarity", *arguments], env=variables_of(self.settings))
        return ran.exit_code, str(ran.exception) if ran.exception and not ran.stdout else ran.stdout


@pytest.fixture
def world(fresh_settings: Settings, clean_graph: Graph) -> World:
    return World(fresh_settings, clean_graph)


def test_a_better_or_equal_version_passes_and_a_worse_one_is_blocked(world: World) -> None:
    good = world.learn()
    assert world.judge(good)
    world.publish(good)
    also_good = world.learn(shrink=9.0)
    assert world.judge(also_good)
    judged = evaluation_of(world.lake, also_good)
    assert judged is not None
    assert (judged.published, judged.users, len(judged.rules), len(judged.models)) == (good, 46, 5, 5)
    assert judged.ndcg is not None
    assert judged.ndcg > judged.models["popularity"]["ndcg"]["value"]
    worse = world.learn(neighbours=1)
    assert not world.judge(worse)
    judged = evaluation_of(world.lake, worse)
    assert judged is not None
    assert not {one["check"]: one["passed"] for one in judged.rules}["not_worse_than_published"]
    assert held_versions(world.lake) == [good, also_good, worse], "it stays in the lake with its reason"


def test_judging_or_learning_again_writes_nothing(world: World) -> None:
    version = world.learn()
    world.judge(version)
    tables = ("similarity", "similarity_versions", "evaluations")
    before = {name: world.lake._open(name).version() for name in tables}
    world.judge(version, now_ms=8)
    assert world.learn() == version
    assert {name: world.lake._open(name).version() for name in tables} == before
    learned = learned_of(world.lake, version)
    assert learned is not None
    assert (learned.pairs, learned.interactions, learned.edges) == (480, 480, world.edges(version))

    world.lake.drop_partitions("similarity_versions", "version", [version])  # as if killed before it told
    assert not world.judge(version), "nobody knows how it was learned"
    assert world.learn() == version
    assert world.judge(version)


def test_a_stored_version_that_is_not_what_its_parameters_promise_is_blocked(world: World) -> None:
    version = world.learn()
    world.corrupt(version)
    assert not world.judge(version)
    judged = evaluation_of(world.lake, version)
    assert judged is not None
    assert [one["check"] for one in judged.rules if not one["passed"]] == ["edges_as_learned"]
    assert world.learn() == version, "learning again mends it"
    assert world.judge(version)


def test_few_users_pass_only_where_nothing_is_published(world: World) -> None:
    first, second = world.learn(), world.learn(shrink=9.0)
    many = JudgePolicy(world.policy.protocol, GatePolicy(least_users=61))
    assert judge_version(world.lake, world.graph, first, many, 1).evaluated.passed
    world.publish(first)
    judged = judge_version(world.lake, world.graph, second, many, 1).evaluated
    assert (judged.passed, judged.ndcg, judged.models) == (False, None, {})
    assert "53 test users, and 61 are needed" in judged.reason
    assert judge_version(world.lake, world.graph, first, many, 1).evaluated.passed, (
        "what readers have already does no harm"
    )


def test_a_published_version_that_the_lake_has_lost_is_said_to_be_lost(world: World) -> None:
    lost, other = world.learn(), world.learn(shrink=9.0)
    world.publish(lost)
    holder = world.holder()
    holder.refresh()
    world.lake.drop_partitions("similarity", "version", [lost])
    holder.refresh()
    assert holder.current().version == lost, "readers keep what they hold"
    with pytest.raises(NotPublished, match="published but not in the lake"):
        world.holder("elsewhere").refresh()
    status, said = world.movierec("list")
    assert (status, "published, but the lake has lost it" in said) == (0, True)
    with pytest.raises(CheckFailed, match=f"the lake holds no edges of similarity {lost}"):
        world.publish(lost)
    assert world.judge(other)
    judged = evaluation_of(world.lake, other)
    assert judged is not None
    assert [one["check"] for one in judged.rules] == [*RULES[:4]], "but the one about the lost edges"
    world.publish(other)
    with pytest.raises(CheckFailed, match=f"does not hold similarity {lost} any more; of those .* no other"):
        roll_back(world.lake, world.graph, None, 2, "", lambda *_: None)


@pytest.mark.both_graphs
def test_going_back_holds_until_there_is_a_newer_version(world: World) -> None:
    nothing = lambda *_: None  # noqa: E731
    with pytest.raises(CheckFailed, match="no similarity is published"):
        roll_back(world.lake, world.graph, None, 2, "", nothing)
    first, second, third = world.learn_three()
    world.publish(first)
    with pytest.raises(CheckFailed, match=f"{first} is the first"):
        roll_back(world.lake, world.graph, None, 2, "", nothing)
    for version in (second, third):
        world.publish(version)
    world.assert_whole()
    assert roll_back(world.lake, world.graph, None, 5, "", nothing).version == second
    newest = publish_newest(world.lake, world.graph, 6, "", nothing)
    assert (newest.version, newest.unchanged, newest.withheld) == (second, True, third)
    assert roll_back(world.lake, world.graph, first, 7, "", nothing).previous == second
    world.assert_whole()
    assert [one.version for one in publications(world.lake)] == [first, second, third, second, first]
    fourth = world.learn(shrink=4.0)
    with pytest.raises(CheckFailed, match=f"readers never had similarity {fourth}"):
        roll_back(world.lake, world.graph, fourth, 8, "", nothing)
    with pytest.raises(CheckFailed, match=f"{fourth} was never judged beside {first}"):
        publish_newest(world.lake, world.graph, 8, "", nothing)
    assert world.judge(fourth)
    assert publish_newest(world.lake, world.graph, 8, "", nothing).version == fourth


@pytest.mark.both_graphs(long=True)
def test_the_commands(world: World) -> None:
    assert world.movierec("list")[1].splitlines()[-1] == "the lake holds no similarity: `movierec nightly` makes one"
    good, worse = world.learn(), world.learn(neighbours=1)
    status, said = world.movierec("publish", good[-8:])
    assert (status, said) == (0, f"readers have similarity {good}, {world.edges(good)} edges\n")
    assert world.movierec("publish", good) == (0, f"readers have similarity {good} already\n")
    as_json = json.loads(world.movierec("publish", good, "--json")[1])
    served = {"version": good, "previous": None, "edges": world.edges(good), "unchanged": True, "withheld": None}
    assert as_json == served
    status, said = world.movierec("publish", worse)
    assert status == 1
    assert "is blocked by the gate: not_worse_than_published: its parameters reach NDCG@10" in said
    assert world.graph.publication() == Publication(good, None, publications(world.lake)[0].published_at_ms, who())
    status, said = world.movierec("publish", worse, "--waive", "to see it once")
    assert (status, f"edges; before it {good}" in said) == (0, True)
    assert publications(world.lake)[-1].why == f"{who()}, against the gate: to see it once"

    status, said = world.movierec("list")
    newest, older = (line.split() for line in said.splitlines() if "cosine" in line)
    assert (newest[0], newest[-1], older[0], older[-2], older[-1]) == (worse, "published", good, "passed", "previous")
    told = json.loads(world.movierec("list", "--json")[1])
    assert [(one["version"], one["pointer"], one["evaluated"]["passed"]) for one in told] == [
        (worse, "published", False),
        (good, "previous", True),
    ]
    assert told[1] == json.loads(world.movierec("show", good, "--json")[1])
    status, said = world.movierec("show", worse)
    assert (status, "neighbours=1" in said, "not_worse_than_published" in said, "to see it once" in said) == (
        0,
        *[True] * 3,
    )

    assert json.loads(world.movierec("rollback", "--json")[1])["unchanged"] is False
    assert world.movierec("rollback", worse)[0] == 0
    for arguments, said in (
        (("show", "nine"), "no versions of the similarity have nine in their name"),
        (("publish", "2024"), "the lake holds 2 similarities like 2024; it holds"),
        (("publish", "nine"), "the lake holds no similarity nine; it holds"),
    ):
        assert said in world.movierec(*arguments)[1]


def who() -> str:
    return f"published by {actor()}"


@pytest.mark.both_graphs
def test_publishers_take_turns_and_one_that_lost_it_unawares_changes_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_adapter, "WRITE_ROWS", 50)
    first, second, third = world.learn_three()
    world.publish(first)

    def overtaken(written: int, total: int) -> None:
        assert world.publish(third).version == third

    with pytest.raises(LeaseLost, match="another publication of the similarity has begun since"):
        publish_version(world.lake, world.graph, second, 2, "", overtaken)
    assert world.graph.publication() == Publication(third, first, 1, "by a test")
    world.assert_whole()

    monkeypatch.setattr(similarity_versions, "WAIT_S", 0.0)
    with publishing(world.settings), pytest.raises(Conflict, match="another run has been publishing"):
        similarity_versions.publish_named(world.settings, second, None, "test", 1, lambda *_: None)


@pytest.mark.both_graphs(long=True)
def test_readers_never_see_an_empty_or_a_mixed_list_while_versions_are_swapped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_adapter, "WRITE_ROWS", 50)
    versions = world.learn_three()
    lists = {}
    for version in versions:
        rows = world.lake.read("similarity", filters=[("version", "=", version), ("source_id", "=", 1)])
        lists[version] = sorted(zip(rows["target_id"].to_pylist(), rows["score"].to_pylist(), strict=True))
    world.publish(versions[0])
    over, wrong, seen = threading.Event(), [], {"graph": set(), "snapshot": set()}

    def read_graph() -> None:
        while not over.is_set():
            rows = world.graph._read(LIST)
            if len(rows) != 1 or sorted(map(tuple, rows[0][1])) != lists[rows[0][0]]:
                wrong.append(rows)
            seen["graph"].add(rows[0][0] if rows else None)
            over.wait(0.01)

    def read_snapshot() -> None:
        holder = world.holder()
        while not over.is_set():
            holder.refresh()
            snapshot = holder.current()
            edges = snapshot.edges
            own = slice(edges.starts[0], edges.starts[1])
            targets = snapshot.movies.movie_ids[edges.targets[own]].tolist()
            if sorted(zip(targets, edges.scores[own].tolist(), strict=True)) != lists[snapshot.version or ""]:
                wrong.append(snapshot.version)
            seen["snapshot"].add(snapshot.version)
            over.wait(0.01)

    readers = [threading.Thread(target=one) for one in (read_graph, read_snapshot)]
    for one in readers:
        one.start()
    try:
        for swap in range(1, 21):
            world.publish(versions[swap % 3], swap)
    finally:
        over.set()
        for one in readers:
            one.join()
    assert not wrong
    assert seen == {"graph": {*versions}, "snapshot": {*versions}}
    world.assert_whole()


KILLED = """
import os, signal, sys

from movierec_platform.adapters import graph as graph_adapter
from movierec_platform.adapters.graph import Graph
from movierec_platform.adapters.lake import Lake
from movierec_platform.config import load_settings
from movierec_platform.services.publish import publish_version

graph_adapter.WRITE_ROWS, graph_adapter.DROP_MOVIES = 60, 15
left = 0

def counted(write):
    def writes(*arguments, **parameters):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return write(*arguments, **parameters)
    return writes

Graph._write, Lake.promote = counted(Graph._write), counted(Lake.promote)
settings = load_settings()
for line in sys.stdin:
    version, after = line.split()
    child = os.fork()
    if not child:  # nothing is open yet
        left = int(after)
        with Graph.open(settings) as graph:
            publish_version(Lake(settings), graph, version, 1, "killed", lambda *_: None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture
def killer(world: World) -> Iterator["subprocess.Popen[str]"]:
    """Publishes each (version, n) that it is given in a child of its own, which dies before its n-th write."""
    command, environment = [sys.executable, "-c", KILLED], {**os.environ, **variables_of(world.settings)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.communicate(timeout=60)


@pytest.mark.both_graphs
def test_killed_before_any_of_its_writes_it_leaves_readers_whole_and_the_next_finishes(
    world: World, killer: "subprocess.Popen[str]"
) -> None:
    versions = world.learn_three()
    for version in versions[:2]:
        world.publish(version)
    assert killer.stdin is not None
    assert killer.stdout is not None
    writes = turn = died = 0
    while True:
        turn += 1
        current, target = world.graph.publication(), versions[(turn + 1) % 3]
        killer.stdin.write(f"{target} {writes}\n")
        killer.stdin.flush()
        status = int(killer.stdout.readline())
        assert status in (0, -signal.SIGKILL)
        after = world.graph.publication()
        assert after is not None
        assert after == current or after.version == target
        for one in (after.version, after.previous):
            assert one is not None
            assert world.graph.similarity_count(one) == world.edges(one), f"{one} is not whole after {writes} writes"
        if status == 0:
            break
        died += 1
        world.publish(target)
        publication = world.graph.publication()
        assert publication is not None
        assert publication.version == target
        assert publication in publications(world.lake), "the lake tells of it, whoever moved the pointer"
        world.assert_whole()
        writes += 1
    assert died == 1 + 2 + 1 + 2 + 1 + 1 + 1 + 2, "turn, drop, count, write, count, move the pointer, tell, drop"


@pytest.mark.both_graphs(long=True)
def test_a_degraded_similarity_is_blocked_in_dagster_and_the_old_one_keeps_serving(world: World) -> None:
    write_env_file(world.settings.home / STACK_ENV, variables_of(world.settings))
    assets = dg.load_assets_from_modules([similarity, evaluation, graph_assets])
    chosen = ["movie_similarity", "similarity_evaluation", "similarity_graph"]

    def noted() -> int | None:
        return State.open(world.settings).marked("nightly_at_ms")

    def run(instance: dg.DagsterInstance, **parameters: Any) -> dg.ExecuteInProcessResult:
        config = {"ops": {"movie_similarity": {"config": parameters}}}
        return dg.materialize(
            assets,
            instance=instance,
            resources=resources(home=str(world.settings.home)),
            selection=chosen,
            run_config=config,
            raise_on_error=False,
        )

    with dg.DagsterInstance.ephemeral() as instance:
        assert run(instance).success
        good, nightly_at_ms = world.graph.publication(), noted()
        holder = world.holder()
        holder.refresh()
        blocked = run(instance, neighbours=1)
    assert nightly_at_ms is not None
    assert noted() == nightly_at_ms, "a blocked similarity is no nightly that ended well"
    assert good is not None
    [check] = blocked.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.blocking) == ("publishable", False, True)
    assert "not_worse_than_published: its parameters reach NDCG@10" in (check.description or "")
    assert {one.step_key for one in blocked.all_events if one.is_step_success} == {"movie_similarity"}
    assert "similarity_graph" not in {one.step_key for one in blocked.all_events if one.is_step_start}
    failure = blocked.failure_data_for_node("similarity_evaluation")
    assert failure is not None
    assert "is blocked by the gate, and not published: not_worse_than_published" in str(failure.error)
    [evaluated] = [one for one in blocked.get_asset_materialization_events() if "evaluation" in str(one.asset_key)]
    labels = evaluated.materialization.metadata
    for picture in ("quality_over_versions", "quality_by_model", "coverage_against_popularity"):
        assert str(labels[picture].value).startswith("![")
        assert len(str(labels[picture].value)) < 60_000
    assert str(labels["metrics"].value).startswith("| model | NDCG | recall |")

    assert world.graph.publication() == good
    holder.refresh()
    assert holder.current().version == good.version
    [worse, better] = standings(world.lake, good)[::-1]
    assert (better.pointer, worse.pointer, worse.held) == ("published", None, True)
    assert worse.evaluated is not None
    assert (worse.evaluated.passed, worse.evaluated.reason) == (False, check.description)
    plotted = {name: shown.value for name, shown in labels.items() if name.startswith(("ndcg/", "coverage/"))}
    assert plotted == {
        f"{metric}/{model}": figures[metric]["value"]
        for model, figures in worse.evaluated.models.items()
        for metric in ("ndcg", "coverage")
    }
    assert len(plotted) >= 8


def test_publications_are_in_their_order_whatever_the_clock_said(world) -> None:
    told: list[Publication] = []
    for version, at_ms in (("a", 300), ("b", 100), ("c", 200)):
        told = record_published(world.lake, told, Publication(version, None, at_ms))
    assert [one.version for one in publications(world.lake)] == ["a", "b", "c"]
