"""What becomes of a step, and of a run, that failed because something did not answer."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

import dagster as dg

from movierec_platform import errors
from movierec_platform.errors import NothingLoaded, Transient

MOST_RETRIES = 5
FIRST_WAIT_S = 10.0
"""Before the first retry of a step; doubled before each one after: five minutes in all."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def retried(step: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The step, which Dagster tries again, later each time, when it raises Transient, but for
    NothingLoaded; for the function of an asset, a
    check or an op. Every step changes nothing twice."""
    if inspect.isgeneratorfunction(step):

        @functools.wraps(step)
        def many(*arguments: Any, **named: Any) -> Iterator[Any]:
            with _asking_again():
                yield from step(*arguments, **named)

        return cast("Callable[Parameters, Result]", many)

    @functools.wraps(step)
    def one(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        with _asking_again():
            return step(*arguments, **named)

    return one


def ended_by_outage(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether another try of this failed run may end well: something did not answer, or its process is gone."""
    failures = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    raised = [one.dagster_event.step_failure_data.error for one in failures if one.dagster_event]
    return all(error is not None and _is_transient(error) for error in raised)


def failed_checks(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    """Names of the asset checks that did not pass in this run."""
    told = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations = [one.dagster_event.asset_check_evaluation_data for one in told if one.dagster_event]
    return {one.check_name for one in evaluations if not one.passed}


@contextmanager
def _asking_again() -> Iterator[None]:
    try:
        yield
    except NothingLoaded:
        raise
    except Transient as away:
        tried = dg.OpExecutionContext.get().retry_number
        raise dg.RetryRequested(MOST_RETRIES, FIRST_WAIT_S * 2**tried) from away


def _is_transient(error: Any) -> bool:
    """Whether Transient is the kind of this serialised error, or of one that caused it."""
    kind = getattr(errors, error.cls_name or "", None)
    if isinstance(kind, type) and issubclass(kind, Transient):
        return not issubclass(kind, NothingLoaded)
    return any(_is_transient(cause) for cause in (error.cause, error.context) if cause is not None)
