"""What the services' checks found, as Dagster shows it."""

from collections.abc import Collection, Iterable, Iterator, Mapping

import dagster as dg

from movierec_platform.domain.findings import Finding

DESCRIPTIONS = {
    "no_duplicate_ids": "Each movie id is there once.",
    "titles_present": "Each movie has a title.",
    "rating_range_and_step": "Each rating is 0.5 to 5 in halves.",
    "orphan_movies": "Each row is about a movie of the catalogue.",
    "no_duplicate_pairs": "Each pair of user and movie is there once.",
    "timestamps_plausible": "Ratings were given after 1995 and not in the future.",
    "volume_against_previous": "The set has not many fewer rows than the one that it replaces.",
    "no_duplicate_events": "Each event id is there once.",
    "accepted_plus_rejected_is_landed": "Each landed line is accepted, a duplicate, or rejected with a reason.",
    "volume_against_trailing_median": "The day has about as many events as the days before it.",
    "timestamps_skew": "Few events claim a time later than their receipt.",
    "conflicting_event_ids": "No event id comes with two different bodies.",
    "no_objects_outside_days": "No raw object lies outside the folders of days.",
    "no_objects_set_aside": "Every raw object of the day could be read, with all its lines.",
    "registers_in_normal_form": "The registers of each pair agree with each other.",
    "events_complete": "Each past day that has raw objects is compacted as they are now.",
    "pairs_do_not_shrink": "There are not fewer pairs than before.",
}
"""What holds where a check passes, by its name."""


def check_specs(asset: str, blocking: Mapping[str, bool]) -> list[dg.AssetCheckSpec]:
    """The declarations of these checks of the asset, each with whether it blocks what comes after."""
    return [
        dg.AssetCheckSpec(name, asset=asset, blocking=blocks, description=DESCRIPTIONS[name])
        for name, blocks in blocking.items()
    ]


def check_results(
    asset: str, findings: Iterable[Finding], waived: Collection[str] = ()
) -> Iterator[dg.AssetCheckResult]:
    """One result per finding, for an asset that declared these checks.

    A check that does not block, or was waived, is a warning: an error would fail the step.
    """
    for one in findings:
        blocks = one.blocking and one.check not in waived
        severity = dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN
        yield dg.AssetCheckResult(
            passed=one.passed,
            check_name=one.check,
            asset_key=asset,
            severity=severity,
            description=one.detail,
        )
