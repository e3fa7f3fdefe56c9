"""An outage costs a batch step a wait, and a night another try; what a check has said is not asked again."""

import inspect
from datetime import date, datetime, timedelta, timezone

import dagster as dg
import pytest

from movierec_platform.defs.batch import retries
from movierec_platform.defs.batch.definitions import defs
from movierec_platform.defs.batch.retries import MOST_RETRIES, ended_by_outage, retried
from movierec_platform.defs.batch.sensors import _lost_to_outages, run_again
from movierec_platform.errors import CheckFailed, LakeUnavailable, MovierecError
from movierec_platform.services.launch import range_tags


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def job_that_raises(errors: list[MovierecError], name: str = "nightly", generates: bool = False) -> dg.JobDefinition:
    """Its step raises the first of these, and takes it away, each time that it runs; then it ends well."""

    def fail() -> None:
        if errors:
            raise errors.pop(0)

    if generates:

        @dg.op
        @retried
        def step(context: dg.OpExecutionContext):
            fail()
            yield dg.Output(1)
    else:

        @dg.op
        @retried
        def step(context: dg.OpExecutionContext) -> int:
            fail()
            return 1

    @dg.job(name=name, executor_def=dg.in_process_executor)
    def job() -> None:
        step()

    return job


def run(instance, errors, **named) -> dg.ExecuteInProcessResult:
    tags = named.pop("tags", None)
    return job_that_raises(errors, **named).execute_in_process(instance=instance, raise_on_error=False, tags=tags)


@pytest.mark.parametrize("generates", [False, True])
def test_a_step_is_tried_again_when_something_did_not_answer(instance, generates):
    assert run(instance, [LakeUnavailable("S3 is away")] * MOST_RETRIES, generates=generates).success


def test_a_step_is_given_up_in_the_end_and_says_what_did_not_answer(instance):
    failed = run(instance, [LakeUnavailable("S3 is away")] * (MOST_RETRIES + 1))
    assert not failed.success
    assert ended_by_outage(instance, failed.run_id)


def test_what_a_check_has_said_is_not_asked_again(instance):
    left = [CheckFailed("no edges"), LakeUnavailable("never reached")]
    failed = run(instance, left)
    assert not failed.success
    assert len(left) == 1
    assert not ended_by_outage(instance, failed.run_id)


def test_every_batch_step_is_retried():
    for job in ("load_movielens", "compaction", "nightly", "lake_maintenance"):
        for node in defs.resolve_job_def(job).nodes:
            step = node.definition.compute_fn.decorated_fn
            assert inspect.unwrap(step) is not step, f"{node.name} of {job} lacks @retried"


def latest(instance) -> list[dg.RunRecord]:
    return list(instance.get_run_records(dg.RunsFilter(job_name="nightly")))


def in_minutes(minutes: float) -> datetime:
    return datetime.now(timezone.utc) + timedelta(minutes=minutes)


def test_a_night_that_an_outage_ended_is_tried_again_later_each_time_until_it_succeeds(instance):
    assert isinstance(run_again(instance, latest(instance), in_minutes(0)), dg.SkipReason)
    waits = []
    for _ in range(5):
        failed = run(instance, [LakeUnavailable("S3 is away")] * (MOST_RETRIES + 1))
        waits.append(
            next(
                n for n in range(200) if isinstance(run_again(instance, latest(instance), in_minutes(n)), dg.RunRequest)
            )
        )
        assert run_again(instance, latest(instance), in_minutes(90)).run_key == f"after {failed.run_id}"
    assert waits == [10, 20, 40, 60, 60]
    assert run(instance, []).success
    assert isinstance(run_again(instance, latest(instance), in_minutes(90)), dg.SkipReason)


def test_a_night_that_a_check_ended_or_that_is_under_way_is_left_alone(instance):
    run(instance, [CheckFailed("the gate says no")])
    assert "fail again" in run_again(instance, latest(instance), in_minutes(90)).skip_message
    instance.create_run_for_job(job_that_raises([]), status=dg.DagsterRunStatus.STARTING)
    assert "is starting" in run_again(instance, latest(instance), in_minutes(90)).skip_message


def test_a_night_that_found_days_not_compacted_is_tried_again(instance):
    @dg.asset(check_specs=[dg.AssetCheckSpec("events_complete", asset="interactions", blocking=True)])
    def interactions():
        yield dg.AssetCheckResult(passed=False)
        raise CheckFailed("a day waits for its compaction")

    night = dg.Definitions(assets=[interactions], jobs=[dg.define_asset_job("nightly", "*")]).resolve_job_def("nightly")
    assert not night.execute_in_process(instance=instance, raise_on_error=False).success
    assert isinstance(run_again(instance, latest(instance), in_minutes(90)), dg.RunRequest)


def test_a_night_whose_process_is_gone_is_tried_again(instance):
    gone = instance.create_run_for_job(job_that_raises([]), status=dg.DagsterRunStatus.STARTING)
    instance.report_run_failed(gone, "the worker is gone")
    assert isinstance(run_again(instance, latest(instance), in_minutes(90)), dg.RunRequest)


def test_days_whose_compaction_an_outage_ended_are_lost_until_it_is_run_again(instance):
    away, no = [LakeUnavailable("S3 is away")] * (MOST_RETRIES + 1), [CheckFailed("too many events")]
    first = run(instance, away, name="compaction", tags=range_tags("2026-03-01", "2026-03-03"))
    run(instance, no, name="compaction", tags=range_tags("2026-03-05", "2026-03-05"))
    run(instance, [], name="compaction", tags=range_tags("2026-03-02", "2026-03-02"))
    days = [str(date(2026, 3, day)) for day in (1, 3)]
    assert _lost_to_outages(instance) == dict.fromkeys(days, first.run_id)
