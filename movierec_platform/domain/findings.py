"""What a check of staged rows found."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    """Its name, as Dagster shows it."""
    passed: bool
    detail: str
    """A sentence with the figures that were compared."""
    blocking: bool = True
    """Whether rows that fail it must not be promoted."""


def refusals(findings: Iterable[Finding], waived: Iterable[str] = ()) -> list[Finding]:
    """The blocking checks that failed, without those that somebody waived by name."""
    excused = frozenset(waived)
    return [one for one in findings if one.blocking and not one.passed and one.check not in excused]
