"""Which tests run: the tiers, and what a change can break."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from movierec_tests import changes

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

def test_everyday(): pass

@pytest.mark.thorough("the moon")
def test_thorough(): pass

@pytest.mark.long
def test_long(): pass
"""
LEFT_OUT = "left out, and run by `movierec test --all`: tests of the moon 1"


@pytest.mark.parametrize(
    ("arguments", "passed", "left_out"),
    [
        (["."], 1, True),
        ([".", "-n", "2"], 1, True),
        ([".", "--all"], 2, False),
        ([".", "--long"], 3, False),
        (["test_it.py"], 2, False),
    ],
    ids=["everyday", "by workers", "all", "long", "a file that is named"],
)
def test_a_tier_runs_its_tests_and_the_last_line_says_what_was_left_out(
    tmp_path: Path, arguments: Sequence[str], passed: int, left_out: bool
) -> None:
    shutil.copy(ROOT / "movierec_tests/conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "CI": "", "PYTEST_ADDOPTS": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{passed} passed" in done.stdout
    assert (LEFT_OUT in done.stdout) == left_out


@pytest.mark.parametrize(
    ("path", "broken", "whole"),
    [
        ("movierec_platform/domain/ranking.py", "unit/test_ranking.py", "unit/test_fold.py"),
        ("movierec_platform/adapters/state.py", "api/test_keys.py", "unit/test_registers.py"),
        ("movierec_platform/local/stack.py", "e2e/test_platform.py", "unit/test_ranking.py"),
        ("movierec_platform/api/page/templates/new.html", "api/test_page_html.py", "unit/test_ranking.py"),
        ("movierec_tests/api/conftest.py", "api/test_serve.py", "unit/test_ranking.py"),
        ("movierec_tests/unit/test_fold.py", "unit/test_fold.py", "unit/test_ranking.py"),
        ("README.md", "unit/test_docs.py", "unit/test_fold.py"),
    ],
)
def test_a_change_breaks_the_files_that_import_it_through_others_or_name_it(path: str, broken: str, whole: str) -> None:
    found = changes.broken_by([path])
    assert f"movierec_tests/{broken}" in found
    assert f"movierec_tests/{whole}" not in found


def test_a_change_is_what_differs_from_where_the_branch_began_and_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(changes, "ROOT", tmp_path)
    git("init", "--initial-branch", "main")
    for name in ("kept", "edited", "committed"):
        (tmp_path / name).write_text("before")
    git("add", ".")
    git("commit", "--message", "first")
    git("checkout", "-b", "branch")
    (tmp_path / "committed").write_text("after")
    git("commit", "--all", "--message", "second")
    (tmp_path / "edited").write_text("after")
    (tmp_path / "new").write_text("")
    assert changes.changed_since("main") == ["committed", "edited", "new"]
    with pytest.raises(pytest.UsageError, match="no-such-commit"):
        changes.changed_since("no-such-commit")
