"""Evaluation, report and tuning from tables to results, on users with planted taste; bad input has sensible answers."""

import json
import re
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from movierec_platform.adapters.aws import s3_client
from movierec_platform.adapters.lake import Lake
from movierec_platform.cli.main import app
from movierec_platform.cli.printing import out
from movierec_platform.config import Settings, variables_of
from movierec_platform.domain.evaluation.protocol import Protocol
from movierec_platform.domain.evaluation.results import Evaluation
from movierec_platform.domain.similarity import Edges, SimilarityParameters, neighbours
from movierec_platform.domain.tables import INTERACTIONS
from movierec_platform.errors import LakeUnavailable, NobodyToTest
from movierec_platform.services.evaluate import (
    CoWatch,
    Learned,
    Model,
    Popularity,
    Stored,
    compared_models,
    evaluate,
)
from movierec_platform.services.evaluation_report import report_html
from movierec_platform.services.tune import searched_values, tune, write_suggestion

TASTES, USERS, MOVIES_OF_A_TASTE, SEEN = 5, 60, 20, 14
CONFIGURED = Learned(SimilarityParameters(neighbours=10, support_size=20, l2=5.0))
RANDOM = Protocol("random", k=5)


def table(rows: list[tuple[int, int, float | None, int]]) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    names = {"user_id": pa.int64(), "movie_id": pa.int64(), "rating": pa.float64(), "seen_at_ms": pa.int64()}
    return pa.table(columns, schema=pa.schema(list(names.items())))


def planted(seed: int = 0) -> pa.Table:
    """Each user sees fourteen movies of one taste, and a movie that everybody sees; half of them are rated."""
    chance = np.random.default_rng(seed)
    rows: list[tuple[int, int, float | None, int]] = []
    for user in range(1, USERS + 1):
        first = 100 * (user % TASTES)
        for place, movie in enumerate(chance.choice(MOVIES_OF_A_TASTE, SEEN, replace=False)):
            rows.append((user, int(first + movie + 1), 4.5 if place % 2 else None, 1_000 * place + user))
        rows.append((user, 999, 3.0, 500 + user))
    return table(rows)


MOVIES = pa.table(
    {
        "movie_id": [
            999,
            *(100 * taste + movie for taste in range(TASTES) for movie in range(1, MOVIES_OF_A_TASTE + 1)),
        ],
        "genres": [[], *([f"Genre <{taste}>"] for taste in range(TASTES) for _ in range(MOVIES_OF_A_TASTE))],
    }
)


@pytest.fixture(scope="module")
def planted_evaluation() -> Evaluation:
    return evaluate(planted(), MOVIES, compared_models(CONFIGURED), RANDOM)


def test_taste_is_found_by_what_learns_it(planted_evaluation: Evaluation) -> None:
    found = planted_evaluation
    assert list(found.models) == ["slim", "cosine", "rp3beta", "popularity", "co_watch"]
    assert found.users == found.candidates
    assert found.train_interactions + found.test_interactions == USERS * (SEEN + 1)
    ndcg = {name: result.metrics["ndcg"] for name, result in found.models.items()}
    assert all(one.low is not None and one.high is not None and one.low < one.value < one.high for one in ndcg.values())
    assert ndcg["slim"].value > 2 * ndcg["popularity"].value
    assert found.models["slim"].metrics["diversity"].value == pytest.approx(0, abs=0.01), "one genre a taste"
    assert found.compare("slim", "popularity").p_value < 0.01
    assert sum(means["users"] for means in found.by_history_length().values()) == found.users


def test_an_evaluation_is_decided_by_rows_and_protocol(planted_evaluation: Evaluation) -> None:
    rows = planted()
    shuffled = rows.take(np.random.default_rng(5).permutation(rows.num_rows))
    again = evaluate(shuffled, MOVIES, compared_models(CONFIGURED), RANDOM)
    assert json.dumps(again.as_json()) == json.dumps(planted_evaluation.as_json())
    other = evaluate(rows, MOVIES, {"slim": CONFIGURED}, replace(RANDOM, seed=1))
    assert other.as_json()["models"]["slim"] != again.as_json()["models"]["slim"]


def test_what_is_learned_alike_is_learned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[SimilarityParameters] = []

    def counted(users: np.ndarray, movies: np.ndarray, parameters: SimilarityParameters) -> Edges:
        learned.append(parameters)
        return neighbours(users, movies, parameters)

    monkeypatch.setattr("movierec_platform.services.evaluate.neighbours", counted)
    twins = {"one": CONFIGURED, "other": replace(CONFIGURED, query_weight_power=2.0)}
    found = evaluate(planted(), None, twins, RANDOM)
    assert learned == [CONFIGURED.parameters]
    assert "diversity" not in found.as_json()["models"]["one"], "without genres it is not known"


def test_stored_edges_are_scored_as_they_are() -> None:
    rows = planted()
    users, movies = (rows[name].to_numpy() for name in ("user_id", "movie_id"))
    edges = neighbours(users, movies, CONFIGURED.parameters)
    none = Edges(*(array[:0] for array in (edges.source, edges.target, edges.score, edges.rank, edges.support)))
    models: dict[str, Model] = {"learned": CONFIGURED, "stored": Stored(edges), "none": Stored(none), "p": Popularity()}
    found = evaluate(rows, MOVIES, models, RANDOM)
    assert found.compare("stored", "learned").difference.value > 0, "it has seen the test"
    assert found.compare("none", "p").difference.value == 0


def test_a_published_similarity_is_compared_unless_it_is_the_configured_one() -> None:
    other = Learned(replace(CONFIGURED.parameters, l1=3.0))
    assert "published" not in compared_models(CONFIGURED, CONFIGURED)
    assert list(compared_models(CONFIGURED, other))[:2] == ["slim", "published"]
    by_cosine = Learned(replace(CONFIGURED.parameters, method="cosine"))
    assert list(compared_models(by_cosine))[:3] == ["cosine", "slim", "rp3beta"]


@pytest.mark.parametrize(
    ("rows", "protocol", "said"),
    [
        ([], Protocol(), "no visible interactions; load ratings first"),
        ([], Protocol("random"), "no visible interactions; load ratings first"),
        (
            [(1, movie, 4.0, 7) for movie in range(9)][:1],
            Protocol("random"),
            "random split of 1 interactions of 1 users",
        ),
        ([(user, 1, 4.0, user) for user in range(1, 30)], Protocol(), "leaves nobody with both a history and a movie"),
        ([(user, movie, 4.0, 7) for user in (1, 2) for movie in range(9)], Protocol(), "all 18 interactions are later"),
        ([(1, movie, 3.0, movie) for movie in range(1, 30)], Protocol("random", relevant_from=4), "rated 4 or higher"),
    ],
    ids=[
        "empty lake, temporal",
        "empty lake, random",
        "one pair",
        "a movie a user",
        "all at one time",
        "nothing rated high",
    ],
)
def test_with_nobody_to_test_it_says_why(
    rows: list[tuple[int, int, float, int]], protocol: Protocol, said: str
) -> None:
    with pytest.raises(NobodyToTest, match=said):
        evaluate(table(list(rows)), None, {"popularity": Popularity()}, protocol)


ALL = {"slim": CONFIGURED, "popularity": Popularity(), "co_watch": CoWatch()}


@pytest.mark.parametrize(
    ("rows", "protocol", "users"),
    [
        ([(1, movie, 4.0, movie) for movie in range(1, 30)], Protocol("random"), 1),
        ([(1, movie, 4.0, movie) for movie in range(1, 30)], Protocol("temporal"), 1),
        ([(user, movie, 4.0, 7) for user in range(1, 9) for movie in range(1, 9)], Protocol("random"), 8),
    ],
    ids=["one user, random", "one user, temporal", "all alike"],
)
def test_odd_input_is_evaluated(rows: list[tuple[int, int, float, int]], protocol: Protocol, users: int) -> None:
    found = evaluate(table(list(rows)), MOVIES, ALL, protocol)
    assert found.users == users
    for result in found.models.values():
        assert 0 <= result.metrics["ndcg"].value <= 1
        assert 0 <= result.metrics["coverage"].value <= 1


def test_a_user_with_50000_movies_is_tested_like_any_other() -> None:
    rows = [(1, movie, 4.0, movie) for movie in range(1, 50_001)] + [
        (2, 1, 1.0, 1),
        (2, 2, 1.0, 2),
        (2, 3, 1.0, 50_000),
    ]
    edges = Edges(*(np.array([one]) for one in (40_001, 3, 1.0)), np.array([1], np.int32), np.array([1]))
    models: dict[str, Model] = {"popularity": Popularity(), "co_watch": CoWatch(), "stored": Stored(edges)}
    found = evaluate(table(list(rows)), MOVIES, models, Protocol())
    assert found.users == 2
    assert found.models["popularity"].per_user["ndcg"].tolist() == [0, 1], "the first has seen all that can be shown"


def test_the_report_is_one_page_that_shows_every_number(planted_evaluation: Evaluation) -> None:
    page = report_html(planted_evaluation, compared_models(CONFIGURED), "slim")
    assert page == report_html(planted_evaluation, compared_models(CONFIGURED), "slim")
    assert page.count("<svg") == 4
    assert not re.search(r'(src|href)="(?!#)', re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)), "it needs another file"
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two pictures share an id"
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', page)) <= set(ids)
    for result in planted_evaluation.models.values():
        assert f"{result.metrics['ndcg'].value:.3f}" in page
    assert "drawn at random; the other 20% are the test" in page


def test_tuning_suggests_what_its_trials_found_best(tmp_path: Path) -> None:
    outside = Learned(replace(CONFIGURED.parameters, l1=0.0), query_weight_power=5.0)
    told: list[int] = []
    found = tune(planted(), outside, RANDOM, 1.0, 4, lambda trials, seconds: told.append(len(trials)))
    assert told == [1, 2, 3, 4]
    assert found.trials[0].model == outside, "first what is configured, although no search would try it"
    best = max(found.trials, key=lambda trial: trial.ndcg)
    assert found.suggested == best.model
    assert set(found.test.models) == {"configured", "suggested"}
    assert found.comparison == found.test.compare("suggested", "configured")
    again = tune(planted(), outside, RANDOM, 1.0, 4)
    assert [trial.model for trial in again.trials] == [trial.model for trial in found.trials]

    path = tmp_path / "made" / "suggested.env"
    trials = json.loads(write_suggestion(path, found).read_text())["trials"]
    assert [trial["ndcg"] for trial in trials] == [trial.ndcg for trial in found.trials]
    lines = dict(re.findall(r"(?m)^(\w+)='(.*)'$", path.read_text()))
    assert [float(text) for text in lines.values()] == list(searched_values(found.suggested).values())
    assert next(iter(lines)) == "MOVIEREC_SIMILARITY_L1"


def test_tuning_needs_somebody_to_choose_by() -> None:
    with pytest.raises(NobodyToTest, match="leaves nobody to choose parameters by"):
        tune(table([(1, 1, 4.0, 1), (1, 2, 4.0, 2)]), CONFIGURED, Protocol(test_share=0.5), 1.0, 1)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prints to a wide terminal."""
    monkeypatch.setattr(out, "width", 200)


@pytest.fixture(scope="module")
def lake_variables(aws_settings: Settings) -> dict[str, str]:
    """The environment of a lake with the planted interactions, one of them retracted."""
    settings = aws_settings.model_copy(update={"bucket": f"test-{uuid.uuid4().hex[:12]}"})
    s3_client(settings).create_bucket(Bucket=settings.bucket)
    lake, rows = Lake(settings), planted()
    never = pa.nulls(rows.num_rows, pa.int64())
    registers = {"rated_at_ms": never, "event_id": pa.nulls(rows.num_rows, pa.string()), "retracted_at_ms": never}
    columns = {**{name: rows[name] for name in rows.column_names}, **registers}
    seen = pa.table({name: columns[name] for name in INTERACTIONS.names}, schema=INTERACTIONS)
    gone = seen.slice(0, 1).set_column(6, INTERACTIONS.field(6), pa.array([10**9]))
    lake.write("interactions", pa.concat_tables([gone, seen.slice(1)]))
    lake.write("movies", MOVIES)
    return variables_of(settings)


@pytest.mark.usefixtures("wide")
def test_the_command_prints_every_model_and_writes_the_report(lake_variables: dict[str, str], tmp_path: Path) -> None:
    report = tmp_path / "made" / "report.html"
    given = ["evaluate", "--split", "random", "--k", "5", "--report", str(report)]
    printed = CliRunner().invoke(app, given, env=lake_variables, catch_exceptions=False).stdout
    assert re.search(r"^ +slim +cosine +rp3beta +popularity +co_watch$", printed, re.MULTILINE)
    assert re.search(r"^NDCG( +[01]\.\d{3} [01]\.\d{3}-[01]\.\d{3}){5}$", printed, re.MULTILINE)
    assert re.search(r"\d+ users of \d+ tested on \d+ interactions", printed)
    assert "NDCG of slim beside popularity: +" in printed
    assert f"report: {report}" in printed
    assert "<svg" in report.read_text()


def test_the_command_gives_json(lake_variables: dict[str, str]) -> None:
    given = ["evaluate", "--split", "random", "--k", "5", "--relevant-from", "4", "--users", "20", "--json"]
    found = json.loads(CliRunner().invoke(app, given, env=lake_variables, catch_exceptions=False).stdout)
    assert found["protocol"]["relevant_from"] == 4.0
    assert found["users"] == 20 < found["candidates"]
    assert found["comparisons"]["popularity"]["difference"]["low"] > 0
    assert found["train_interactions"] == round(0.8 * (USERS * (SEEN + 1) - 1)), "a retracted pair was learned from"


@pytest.mark.usefixtures("wide")
def test_the_command_tunes_and_configures_nothing(lake_variables: dict[str, str], tmp_path: Path) -> None:
    given = ["evaluate", "--split", "random", "--tune", "--minutes", "1", "--trials", "2", "--home", str(tmp_path)]
    printed = CliRunner().invoke(app, given, env=lake_variables, catch_exceptions=False).stdout
    assert "2 trials on" in printed
    suggestion, trials = sorted((tmp_path / "suggestions").iterdir())
    assert f"suggestion: {suggestion}, trials: {trials}; nothing was configured" in printed
    assert len(json.loads(trials.read_text())["trials"]) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["suggestions"]


def test_the_command_says_what_a_lake_lacks(aws_settings: Settings) -> None:
    settings = aws_settings.model_copy(update={"bucket": f"test-{uuid.uuid4().hex[:12]}"})
    s3_client(settings).create_bucket(Bucket=settings.bucket)
    outcome = CliRunner().invoke(app, ["evaluate"], env=variables_of(settings))
    assert isinstance(outcome.exception, LakeUnavailable)
    assert "no table interactions yet" in str(outcome.exception)
    assert CliRunner().invoke(app, ["evaluate", "--split", "weekly"]).exit_code == 2
