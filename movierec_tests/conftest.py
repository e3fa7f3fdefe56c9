"""The servers that tests share, and what a skipped test means.

With CI=true it is a failure: there, everything that a test could want must have been installed.
"""

import os
from collections.abc import Generator
from typing import TypeVar

import hypothesis
import pytest

# A busy machine is not a failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

pytest_plugins = [
    "movierec_tests.both_graphs",
    "movierec_tests.tiers",
    "movierec_tests.changes",
    "movierec_tests.servers",
]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long",
        action="store_true",
        help="kill every process several times (faults), post 100,000 tiny requests (api), show the real demo",
    )
    parser.addoption("--faults-seed", type=int, help="make the choices of an earlier run of movierec_tests/faults")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _strict((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _strict((yield))


def _strict(report: Report) -> Report:
    """The report, failed if it says skipped in CI; an expected failure (xfail) stays one."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {reason}"
    return report
