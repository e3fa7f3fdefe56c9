"""Each check of the interactions passes what the fold gives, and fails on the rows that it is there for."""

import pyarrow as pa
import pytest

from movierec_platform.domain.findings import Finding
from movierec_platform.domain.interaction_checks import CHECKS, events_complete, pairs_do_not_shrink, row_findings
from movierec_platform.domain.tables import INTERACTIONS

AT_MS = 1_600_000_000_000
Row = tuple[int, int, float | None, int | None, str | None, int | None, int | None]
GOOD: list[Row] = [
    (1, 1, 0.5, AT_MS, "a", AT_MS, None),
    (1, 2, None, None, None, None, AT_MS),
    (2, 1, 5.0, AT_MS, "b", AT_MS + 1, AT_MS - 1),
    (2, 2, None, None, None, AT_MS, AT_MS),
]


def findings(rows: list[Row], batch_rows: int = 10) -> dict[str, Finding]:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in INTERACTIONS]
    batches = pa.table(columns, schema=INTERACTIONS).to_batches(max_chunksize=batch_rows)
    return {one.check: one for one in row_findings(batches, pa.array([1, 2]))}


@pytest.mark.parametrize("batch_rows", [1, 3, 10])
def test_folded_rows_pass(batch_rows: int) -> None:
    found = [*findings(GOOD, batch_rows).values(), events_complete([], 14), pairs_do_not_shrink(90, 100, 0.9)]
    assert [one.check for one in found] == list(CHECKS)
    assert all(one.passed and one.blocking for one in found)


def test_no_rows_pass() -> None:
    assert all(one.passed for one in findings([]).values())


@pytest.mark.parametrize(
    ("row", "check"),
    [
        ((2, 2, None, None, None, AT_MS, None), "no_duplicate_pairs"),
        ((2, 1, None, None, None, AT_MS, None), "no_duplicate_pairs"),
        ((1, 9, None, None, None, AT_MS, None), "no_duplicate_pairs"),
        ((3, 1, 0.0, AT_MS, "x", AT_MS, None), "rating_range_and_step"),
        ((3, 1, 5.5, AT_MS, "x", AT_MS, None), "rating_range_and_step"),
        ((3, 1, 4.2, AT_MS, "x", AT_MS, None), "rating_range_and_step"),
        ((3, 1, float("nan"), AT_MS, "x", AT_MS, None), "rating_range_and_step"),
        ((3, 3, None, None, None, AT_MS, None), "orphan_movies"),
        ((3, 1, 4.0, None, "x", AT_MS, None), "registers_in_normal_form"),
        ((3, 1, 4.0, AT_MS, None, AT_MS, None), "registers_in_normal_form"),
        ((3, 1, None, AT_MS, "x", AT_MS, None), "registers_in_normal_form"),
        ((3, 1, None, None, "x", AT_MS, None), "registers_in_normal_form"),
        ((3, 1, 4.0, AT_MS, "x", AT_MS, AT_MS), "registers_in_normal_form"),
        ((3, 1, 4.0, AT_MS, "x", AT_MS - 1, None), "registers_in_normal_form"),
        ((3, 1, 4.0, AT_MS, "x", None, None), "registers_in_normal_form"),
        ((3, 1, None, None, None, None, None), "registers_in_normal_form"),
    ],
)
@pytest.mark.parametrize("batch_rows", [4, 10])
def test_a_wrong_row_fails_its_check_and_is_named(row: Row, check: str, batch_rows: int) -> None:
    found = findings([*GOOD, row], batch_rows)
    failed = {name for name, one in found.items() if not one.passed}
    assert failed == {check, *(["orphan_movies"] if row[1] == 9 else [])}
    assert found[check].detail.startswith("1 of 5 ")
    assert found[check].detail.endswith(f"the first of user {row[0]}, movie {row[1]}")


def test_a_day_that_is_not_compacted_fails_and_is_named() -> None:
    finding = events_complete(["2026-05-01", "2026-05-03"], 14)
    assert not finding.passed
    assert finding.detail.endswith("2026-05-01, 2026-05-03")


@pytest.mark.parametrize(("pairs", "before", "passed"), [(0, 0, True), (89, 100, False), (90, 100, True)])
def test_fewer_pairs_than_expected_fail(pairs: int, before: int, passed: bool) -> None:
    assert pairs_do_not_shrink(pairs, before, 0.9).passed is passed
