"""Make the table `interactions`: the fold of the ratings and of all promoted events, staged, checked and promoted."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.objects import ObjectStore
from movierec_platform.domain.findings import Finding
from movierec_platform.domain.interaction_checks import events_complete, pairs_do_not_shrink, row_findings
from movierec_platform.domain.interactions import HARDLY_REPEATED
from movierec_platform.domain.tables import INTERACTIONS
from movierec_platform.services.compact import read_catalogue, stale_days
from movierec_platform.services.fold import catalogue_ids, fold_tables
from movierec_platform.services.promote import BY_LOAD, IN_DAGSTER, promote_checked

TABLE = "interactions"
LEAST_SHARE = 0.9
"""Of the pairs before: no correction of the past is expected to take away more than a tenth."""


@dataclass(frozen=True, slots=True)
class Folded:
    """The interactions that were promoted."""

    pairs: int
    findings: Sequence[Finding]


def fold_interactions(
    lake: Lake,
    objects: ObjectStore,
    today: date,
    late_days: int,
    waived: Collection[str] = (),
    least_share: float = LEAST_SHARE,
) -> Folded:
    """The table is the fold of the lake's ratings and events, if it passed its checks or those it failed are waived.

    Else PromotionRefused is raised and the table is as it was. `late_days` before today (UTC) must be compacted as they
    were landed. Doing it again gives the same rows in the same order.
    """
    before = lake.count(TABLE)
    past_days = [(today - timedelta(days=ago)).isoformat() for ago in range(1, late_days + 1)]
    stale = sorted(stale_days(lake, objects, past_days, read_catalogue(lake)))
    staged = lake.stage(TABLE, fold_tables(lake), INTERACTIONS, hardly_repeated=HARDLY_REPEATED)
    findings = [
        *row_findings(lake.staged_batches(staged), catalogue_ids(lake)),
        events_complete(stale, late_days),
        pairs_do_not_shrink(staged.rows, before, least_share),
    ]
    promote_checked(lake, [staged], findings, waived, f"{BY_LOAD}, or {IN_DAGSTER},")
    return Folded(staged.rows, findings)
