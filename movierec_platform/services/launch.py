"""Launch a batch job on the running Dagster and wait for it, over the GraphQL of its webserver."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movierec_platform import errors
from movierec_platform.adapters.dagster import graphql
from movierec_platform.config import Settings
from movierec_platform.domain.interaction_checks import CHECKS as PAIRS_CHECKS
from movierec_platform.domain.movielens_checks import MOVIES_CHECKS, RATINGS_CHECKS
from movierec_platform.errors import CheckFailed, DagsterUnavailable, Interrupted, MovierecError, UsageError

LOCATION = "batch"
_PARTITION_ROWS = "dagster/partition_row_count"
PATIENCE_S = 30.0
POLL_S = 0.5

OnProgress = Callable[[str, str, str], None]
"""(step_key, one of started log materialized done failed, message); step_key is "" for what concerns the whole run"""


@dataclass(frozen=True)
class RunResult:
    """A run that ended well."""

    run_id: str
    seconds: float
    metadata: dict[str, dict[str, Any]]
    """For each asset that was materialised, in order, what it reported by label: numbers, texts and truths."""

    @property
    def rows(self) -> dict[str, int]:
        """For each asset that says so, how many rows it has, or the partitions of it that the run made."""
        counts = {
            asset: labels.get("dagster/row_count", labels.get(_PARTITION_ROWS))
            for asset, labels in self.metadata.items()
        }
        return {asset: count for asset, count in counts.items() if count is not None}


def load_config(archive: str, waive: Sequence[str] = ()) -> dict[str, Any]:
    """Run config of the job `load_movielens` for this archive (empty: the default), without the waived checks.

    Who lets a set be smaller than the one before expects fewer pairs too. Days that wait for their compaction do not
    keep a set from being loaded. A path that exists here is made absolute, as the run has another working directory;
    the run reads it on its machine. Raises UsageError for a check that there is not.
    """
    path = Path(archive).expanduser()
    named = str(path.resolve()) if path.is_file() else archive
    of_the_set = [name for name in waive if name in (*MOVIES_CHECKS, *RATINGS_CHECKS)]
    of_the_pairs = [name for name in waive if name in PAIRS_CHECKS]
    if unknown := set(waive) - {*of_the_set, *of_the_pairs}:
        known = ", ".join((*MOVIES_CHECKS, *RATINGS_CHECKS, *PAIRS_CHECKS))
        raise UsageError(f"there is no check {min(unknown)} to waive; there are {known}")
    if "volume_against_previous" in waive:
        of_the_pairs.append("pairs_do_not_shrink")
    return {
        "ops": {
            "movielens": {"config": {"archive": named, "waive": of_the_set}},
            "interactions": {"config": {"waive": sorted({*of_the_pairs, "events_complete"})}},
        }
    }


def range_tags(first: str, last: str) -> dict[str, str]:
    """What makes a run of a partitioned job one of all days from first to last (YYYY-MM-DD)."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def launch_and_wait(
    settings: Settings,
    job_name: str,
    run_config: Mapping[str, Any],
    on_progress: OnProgress,
    patience_s: float = PATIENCE_S,
    tags: Mapping[str, str] | None = None,
) -> RunResult:
    """The run of this job, with these tags, once it has succeeded.

    Raises DagsterUnavailable if the webserver does not answer (once the run is launched: for `patience_s`; the run goes
    on without us), UsageError for a job or config that Dagster does not know, and when a step fails the error of ours
    that it raised, else CheckFailed with the message of the failure. Ctrl-C becomes Interrupted, and the run goes on.
    """
    started = time.monotonic()
    url = settings.dagster_url
    try:
        run_id = _launch(url, job_name, run_config, tags or {})
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted while {job_name} was launched: {url}/runs shows whether it goes on") from None
    on_progress("", "started", f"run {run_id} of {job_name}")
    try:
        metadata = _watched(url, run_id, job_name, on_progress, patience_s)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; run {run_id} of {job_name} goes on: {url}/runs/{run_id}") from None
    return RunResult(run_id=run_id, seconds=time.monotonic() - started, metadata=metadata)


def _watched(
    url: str, run_id: str, job_name: str, on_progress: OnProgress, patience_s: float
) -> dict[str, dict[str, Any]]:
    """What each asset reported, once the run has succeeded; raises as `launch_and_wait`."""
    metadata: dict[str, dict[str, Any]] = {}
    failure: MovierecError | None = None
    for event in _events_until_end(url, run_id, patience_s):
        step, kind = event.get("stepKey") or "", event["__typename"]
        if kind == "MaterializationEvent":
            asset = "/".join(event["assetKey"]["path"])
            labels = _metadata(event["metadataEntries"])
            if _PARTITION_ROWS in labels:  # one event for each partition
                labels[_PARTITION_ROWS] += metadata.get(asset, {}).get(_PARTITION_ROWS, 0)
            metadata[asset] = labels
            on_progress(step, "materialized", asset)
        elif kind in ("ExecutionStepFailureEvent", "RunFailureEvent", "RunCanceledEvent"):
            failure = failure or _failure(job_name, step, event)
            on_progress(step, "failed", str(failure))
        elif kind in _STATUS_OF_EVENT:
            on_progress(step, _STATUS_OF_EVENT[kind], event["message"])
    if failure:
        raise failure
    return metadata


_STATUS_OF_EVENT = {
    "ExecutionStepStartEvent": "started",
    "LogMessageEvent": "log",
    "ExecutionStepSuccessEvent": "done",
    "RunSuccessEvent": "done",
}
_ENDS = ("RunSuccessEvent", "RunFailureEvent", "RunCanceledEvent")

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
  }
}
"""
_EVENTS = """
query Events($runId: ID!, $cursor: String) {
  logsForRun(runId: $runId, afterCursor: $cursor, limit: 500) {
    __typename
    ... on Error { message }
    ... on EventConnection {
      cursor
      hasMore
      events {
        __typename
        ... on MessageEvent { message stepKey }
        ... on MaterializationEvent {
          assetKey { path }
          metadataEntries {
            label
            ... on IntMetadataEntry { intValue }
            ... on FloatMetadataEntry { floatValue }
            ... on TextMetadataEntry { text }
            ... on BoolMetadataEntry { boolValue }
          }
        }
        ... on ExecutionStepFailureEvent { error { ...chain } }
        ... on RunFailureEvent { error { ...chain } }
      }
    }
  }
}
fragment chain on PythonError { message className errorChain { error { message className } } }
"""


def _launch(url: str, job_name: str, run_config: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """The id of the new run."""
    params = {
        "selector": {"repositoryLocationName": LOCATION, "repositoryName": "__repository__", "jobName": job_name},
        "runConfigData": dict(run_config),
        "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
    }
    answer = graphql(url, _LAUNCH, {"params": params})["launchRun"]
    if answer["__typename"] == "LaunchRunSuccess":
        return str(answer["run"]["runId"])
    said = "; ".join(error["message"] for error in answer.get("errors", [])) or answer.get("message", "")
    if answer["__typename"] == "RunConfigValidationInvalid":
        raise UsageError(f"Dagster refuses the configuration of {job_name}: {said}")
    raise DagsterUnavailable(f"Dagster at {url} cannot launch {job_name}: {said}")


def _events_until_end(url: str, run_id: str, patience_s: float) -> Iterator[dict[str, Any]]:
    """The run's events in order; waits for more until one that ends the run."""
    cursor, answered = None, time.monotonic()
    while True:
        try:
            page = graphql(url, _EVENTS, {"runId": run_id, "cursor": cursor})["logsForRun"]
        except DagsterUnavailable as unavailable:
            if time.monotonic() - answered > patience_s:
                raise DagsterUnavailable(f"{unavailable}; run {run_id} may still be going on") from unavailable
            time.sleep(POLL_S)
            continue
        if page["__typename"] != "EventConnection":
            raise DagsterUnavailable(f"Dagster at {url} no longer knows run {run_id}: {page.get('message', '')}")
        answered, cursor = time.monotonic(), page["cursor"]
        for event in page["events"]:
            yield event
            if event["__typename"] in _ENDS:
                return
        if not page["hasMore"]:
            time.sleep(POLL_S)


def _failure(job_name: str, step: str, event: Mapping[str, Any]) -> MovierecError:
    """The error of ours that the step raised, whatever caused it; else the error at its root."""
    error = event.get("error")
    if error is None:
        return CheckFailed(f"{job_name} failed: {event['message']}")
    raised = [error, *(link["error"] for link in error["errorChain"])]
    for one in raised:
        ours = getattr(errors, one["className"] or "", None)
        if isinstance(ours, type) and issubclass(ours, MovierecError):
            said: MovierecError = ours(one["message"].strip().split(": ", 1)[-1])
            return said
    return CheckFailed(f"{job_name} failed in {step or 'its launch'}: {raised[-1]['message'].strip()}")


def _metadata(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The values by label; kinds that are neither numbers nor texts are left out."""
    values = ("intValue", "floatValue", "text", "boolValue")
    return {entry["label"]: entry[kind] for entry in entries for kind in values if kind in entry}
