"""Promote what was staged, if its checks passed: a table that fails keeps the rows that it had."""

from collections.abc import Collection, Sequence

from movierec_platform.adapters.lake import Lake, Staged
from movierec_platform.domain.findings import Finding, refusals
from movierec_platform.errors import PromotionRefused

IN_DAGSTER = "`waive` in the run's configuration in Dagster"
BY_LOAD = "`movierec load --waive CHECK`"


def promote_checked(
    lake: Lake,
    staged: Sequence[Staged],
    findings: Sequence[Finding],
    waived: Collection[str] = (),
    way: str = IN_DAGSTER,
) -> None:
    """All of the staged rows are in their tables.

    If a blocking check failed that is not among the waived, none is: the staged rows are dropped, and PromotionRefused
    says why, and that `way` lets such rows in.
    """
    refused = refusals(findings, waived)
    if refused:
        for one in staged:
            lake.drop_staged(one)
        tables = ", ".join(one.table for one in staged)
        why = "; ".join(f"{finding.check}: {finding.detail}" for finding in refused)
        names = ", ".join(finding.check for finding in refused)
        raise PromotionRefused(
            f"{tables}: not replaced, what was there still stands; {why} (if it is as it should be, {way} lets {names}"
            " fail this once)",
            findings,
        )
    for one in staged:
        lake.promote(one)
