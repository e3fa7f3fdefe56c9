"""What the services' checks found, as Dagster shows it."""

from collections.abc import Iterable, Iterator

import dagster as dg

from movierec_platform.domain.findings import Finding


def check_results(asset: str, findings: Iterable[Finding]) -> Iterator[dg.AssetCheckResult]:
    """One result per finding, for an asset that declared these checks. A check that does not block is a warning."""
    for one in findings:
        severity = dg.AssetCheckSeverity.ERROR if one.blocking else dg.AssetCheckSeverity.WARN
        yield dg.AssetCheckResult(
            passed=one.passed,
            check_name=one.check,
            asset_key=asset,
            severity=severity,
            description=one.detail,
        )
