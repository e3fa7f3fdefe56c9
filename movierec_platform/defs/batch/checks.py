"""What the services' checks found, as Dagster shows it."""

from collections.abc import Collection, Iterable, Iterator

import dagster as dg

from movierec_platform.domain.findings import Finding


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
