"""What the services' checks found, as Dagster shows it."""

from collections.abc import Collection, Iterable, Iterator

import dagster as dg

from movierec_platform.domain.findings import Finding


def check_results(
    asset: str, findings: Iterable[Finding], waived: Collection[str] = ()
) -> Iterator[dg.AssetCheckResult]:
    """One result per finding, for an asset that declared these checks. One that does not block or is waived warns."""
    for one in findings:
        # An error of a blocking check would keep downstream assets from running, though the rows were promoted.
        stops = one.blocking and one.check not in waived
        severity = dg.AssetCheckSeverity.ERROR if stops else dg.AssetCheckSeverity.WARN
        yield dg.AssetCheckResult(
            passed=one.passed,
            check_name=one.check,
            asset_key=asset,
            severity=severity,
            description=one.detail,
        )
