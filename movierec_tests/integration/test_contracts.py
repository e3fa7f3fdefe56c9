"""What holds for the tree as a whole: style, types, the direction of imports, the lock, the list of variables."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from pydantic import AliasChoices, SecretStr

from movierec_platform.config import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {file.stem: file.read_text() for file in (ROOT / "movierec_platform/deploy/locks").glob("*.lock")}
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
DOMAIN_MAY_IMPORT = {
    "numpy",
    "scipy",
    "numba",
    "rapidfuzz",
    "pyarrow",
    "pandas",
    "pydantic",
    "pydantic_core",
    "dateutil",
    "msgspec",
    "movierec_platform",
}


def run(*arguments: str, cwd: Path = ROOT, **variables: str) -> tuple[int, str]:
    """Exit status and output of a Python run in `cwd`."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    return done.returncode, done.stdout


@pytest.mark.tools
@pytest.mark.thorough("tools")
@pytest.mark.parametrize(
    "tool",
    [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
        ["-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"],
    ],
    ids=["ruff check", "ruff format", "mypy strict", "imports point one way"],
)
def test_tool_is_content(tool: list[str]) -> None:
    status, output = run(*tool, PYTHONPATH=str(ROOT), NO_COLOR="1")
    assert status == 0, output


def test_domain_imports_only_what_is_pure() -> None:
    imported = set()
    for file in (ROOT / "movierec_platform/domain").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    assert imported - sys.stdlib_module_names <= DOMAIN_MAY_IMPORT


def entries(lock: str) -> dict[str, list[tuple[Requirement, str]]]:
    """By package, each pinned requirement of the lock (one per Python) with the hashes under it."""
    found: dict[str, list[tuple[Requirement, str]]] = {}
    for entry in re.split(r"\n(?=[a-z])", re.sub(r"(?m)^#.*\n", "", lock).strip()):
        line, _, hashes = entry.partition("\\")
        requirement = Requirement(line.strip())
        found.setdefault(requirement.name, []).append((requirement, hashes))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_is_a_pin_with_hashes_and_no_address(name: str) -> None:
    for versions in entries(LOCKS[name]).values():
        for requirement, hashes in versions:
            assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
            assert re.fullmatch(r"(\s*--hash=sha256:[0-9a-f]{64}( \\)?)+\s*", hashes), requirement
    assert "://" not in LOCKS[name]
    assert not re.search(r"(^|\s)/", LOCKS[name]), "a path of the machine that made it"


def test_each_extra_has_a_lock() -> None:
    assert LOCKS.keys() == {"installer", "run", *EXTRAS}


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("name", ["run", *EXTRAS])
def test_a_lock_satisfies_what_pyproject_asks_for(name: str, python: str) -> None:
    wanted = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["build"]]
    if name != "run":
        wanted = EXTRAS[name]
    locked, here = entries(LOCKS[name]), {"python_version": python, "python_full_version": f"{python}.9"}
    for requirement in map(Requirement, wanted):
        if requirement.marker and not requirement.marker.evaluate(here):
            continue
        pins = [pin for pin, _ in locked.get(requirement.name, []) if not pin.marker or pin.marker.evaluate(here)]
        versions = [str(pin.specifier).removeprefix("==") for pin in pins]
        assert len(versions) == 1, f"{requirement}: make the locks again with .ci/lock"
        assert versions[0] in requirement.specifier


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_locks_that_are_installed_together_agree(python: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.9"}
    together: dict[str, set[str]] = {}
    for name in LOCKS.keys() - {"bench"}:
        for package, pins in entries(LOCKS[name]).items():
            fit = {str(pin.specifier) for pin, _ in pins if not pin.marker or pin.marker.evaluate(here)}
            together[package] = together.get(package, set()) | fit
    assert {package: pins for package, pins in together.items() if len(pins) > 1} == {}


def test_what_only_tests_need_is_not_installed_to_run() -> None:
    assert not {"locust", "moto", "mypy", "playwright", "pyspark", "pytest", "sympy"} & entries(LOCKS["run"]).keys()


def test_the_locked_build_tools_are_those_that_the_build_asks_for() -> None:
    assert PYPROJECT["dependency-groups"]["build"] == PYPROJECT["build-system"]["requires"]


def test_dagster_reads_its_workspace_from_workspace_yaml_alone() -> None:
    assert not {"dg", "dagster"} & PYPROJECT["tool"].keys()


def test_the_packaged_workspace_is_the_repositorys() -> None:
    assert (ROOT / "movierec_platform/local/workspace.yaml").read_text() == (ROOT / "workspace.yaml").read_text()


def variables() -> dict[str, tuple[str, str]]:
    """Each variable that Settings reads, with its default as text and its meaning."""
    found = {}
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variable = str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"MOVIEREC_{name.upper()}"
        default: Any = field.default
        text = default.get_secret_value() if isinstance(default, SecretStr) else "" if default is None else str(default)
        found[variable] = (text, str(field.description))
    return found


def test_env_example_names_every_variable_with_its_default_and_meaning() -> None:
    text = (ROOT / ".env.example").read_text()
    told = re.findall(r"^# (.*)\n(\w+)=(.*)$", text, flags=re.MULTILINE)
    assert {name: (default, meaning) for meaning, name, default in told} == variables()
    assert len(told) == len(re.findall(r"(?m)^\w+=", text))


@pytest.mark.parametrize(
    ("ci", "body", "status", "said"),
    [
        ("true", "def test_it(): pytest.skip('no chromium: install it')", 1, "CI does not allow: Skipped: no chromium"),
        ("true", "pytest.importorskip('nothing_like_it')", 2, "CI does not allow: Skipped: could not import"),
        ("true", "@pytest.mark.xfail\ndef test_it(): assert False", 0, "1 xfailed"),
        ("", "def test_it(): pytest.skip('no chromium: install it')", 0, "no chromium: install it"),
    ],
    ids=["skipped test", "skipped module", "expected failure", "outside CI"],
)
def test_in_ci_a_skip_is_a_failure(tmp_path: Path, ci: str, body: str, status: int, said: str) -> None:
    shutil.copy(ROOT / "movierec_tests/conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(f"import pytest\n{body}\n")
    settings = {"CI": ci, "PYTEST_ADDOPTS": "", "PYTHONPATH": str(ROOT)}
    found, output = run("-m", "pytest", "-ra", "-p", "no:cacheprovider", cwd=tmp_path, **settings)
    assert found == status, output
    assert said in output
