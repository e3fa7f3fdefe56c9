"""`python3 -m movierec_platform`: what it decides, what it says, how it hands over to `.venv`. Nothing is installed."""

import ast
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from movierec_platform import __main__ as bootstrap
from movierec_platform import __version__

PACKAGE = Path(bootstrap.__file__).parent
# The interpreter behind our own venv, without site-packages (-S): a machine where nothing is installed.
BARE = [getattr(sys, "_base_executable", sys.executable), "-S"]
UNREACHABLE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_NO_CACHE_DIR": "1",
    "PIP_RETRIES": "1",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with what the bootstrap looks at, and a lock of one package."""
    deploy = tmp_path / "movierec_platform/deploy"
    deploy.mkdir(parents=True)
    for file in ("__init__.py", "__main__.py"):
        shutil.copy(PACKAGE / file, deploy.parent)
    (deploy / "requirements.lock").write_text(f"alembic==1.20.1 \\\n    --hash=sha256:{'0' * 64}\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


def finished_venv(root: Path, command: str = "#!/bin/sh\n") -> Path:
    """A `.venv` that is as its stamp says; its `python` is this shell script."""
    venv = root / ".venv"
    (venv / "bin").mkdir(parents=True)
    for program in ("python", "movierec"):
        (venv / "bin" / program).write_text(command)
        (venv / "bin" / program).chmod(0o755)
    (venv / bootstrap.STAMP).write_text(bootstrap.stamp_of(root))
    return venv


def run(root: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`python3 ARGUMENTS` in the checkout, on a machine where nothing is installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [*BARE, *arguments], cwd=root, env={**environment, **variables}, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("pyproject", "installed", "as_it_is"),
    [
        (False, None, True),
        (True, None, False),
        (True, "0.0.0", False),
        (True, __version__, True),
    ],
    ids=["no checkout around it", "fresh clone", "another version is installed", "this version is installed"],
)
def test_a_venv_is_made_only_for_a_checkout_that_is_not_installed(
    checkout: Path, pyproject: bool, installed: str | None, as_it_is: bool
) -> None:
    if not pyproject:
        (checkout / "pyproject.toml").unlink()
    assert bootstrap.runs_as_it_is(checkout, installed) is as_it_is


def test_a_finished_venv_is_left_alone(checkout: Path) -> None:
    venv = finished_venv(checkout)
    assert bootstrap.what_is_missing(venv, bootstrap.stamp_of(checkout)) == ""
    bootstrap.prepare(checkout)
    assert not (checkout / ".venv.lock").exists()


def test_what_changed_decides_what_is_installed(checkout: Path) -> None:
    venv = finished_venv(checkout)
    (checkout / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert bootstrap.what_is_missing(venv, bootstrap.stamp_of(checkout)) == "project"
    (checkout / "movierec_platform/deploy/requirements.lock").write_text("alembic==1.20.2\n")
    assert bootstrap.what_is_missing(venv, bootstrap.stamp_of(checkout)) == "packages"


def test_a_moved_checkout_is_installed_again(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    finished_venv(checkout)
    moved = tmp_path_factory.mktemp("moved") / "checkout"
    checkout.rename(moved)
    assert bootstrap.what_is_missing(moved / ".venv", bootstrap.stamp_of(moved)) == "packages"


@pytest.mark.parametrize(
    ("broken", "missing"),
    [
        ("stamp gone", "packages"),
        ("installation interrupted", "packages"),
        ("interpreter gone", "packages"),
        ("command gone", "project"),
    ],
)
def test_a_broken_venv_is_made_again(checkout: Path, broken: str, missing: str) -> None:
    venv = finished_venv(checkout)
    match broken:
        case "stamp gone":
            (venv / bootstrap.STAMP).unlink()
        case "installation interrupted":
            (venv / bootstrap.STAMP).write_text(bootstrap.INSTALLING)
        case "interpreter gone":
            (venv / "bin/python").unlink()
            (venv / "bin/python").symlink_to("/nowhere/python3")
        case "command gone":
            (venv / "bin/movierec").unlink()
    assert bootstrap.what_is_missing(venv, bootstrap.stamp_of(checkout)) == missing


def test_hands_arguments_over_to_the_command_in_the_venv(checkout: Path) -> None:
    finished_venv(checkout, '#!/bin/sh\necho "$@"\necho "bytecode:$PYTHONDONTWRITEBYTECODE"\nexit 7\n')
    done = run(checkout, "-m", "movierec_platform", "demo", "--keep", PYTHONDONTWRITEBYTECODE="1")
    assert done.stdout.splitlines() == [f"{checkout / '.venv/bin/movierec'} demo --keep", "bytecode:"]
    assert (done.returncode, done.stderr) == (7, "")


def test_of_two_first_runs_one_waits_and_uses_what_the_other_installed(checkout: Path) -> None:
    venv = finished_venv(checkout, "#!/bin/sh\necho started\n")
    (venv / bootstrap.STAMP).write_text(bootstrap.INSTALLING)
    with (checkout / ".venv.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [*BARE, "-m", "movierec_platform"], cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with second:
            assert second.stderr is not None
            assert "another run is installing" in second.stderr.readline()
            (venv / bootstrap.STAMP).write_text(bootstrap.stamp_of(checkout))
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert second.communicate() == ("started\n", "")


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 9, 18), (3, 15, 0)])
def test_a_wrong_python_gets_one_sentence(checkout: Path, version: tuple[int, int, int]) -> None:
    start = (
        f"import runpy, sys; sys.version_info = {version}; runpy.run_module('movierec_platform', run_name='__main__')"
    )
    done = run(checkout, "-c", start)
    assert done.returncode == 2
    assert done.stderr.startswith("movierec: needs Python 3.10 to 3.14 and this is " + ".".join(map(str, version)))
    assert done.stderr.count("\n") == 1


def test_an_old_python_can_parse_what_tells_it_so() -> None:
    for file in ("__init__.py", "__main__.py"):
        ast.parse((PACKAGE / file).read_text(), feature_version=(3, 7))


def test_a_python_without_venv_gets_one_sentence(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    without = tmp_path_factory.mktemp("without")
    (without / "ensurepip.py").write_text("raise ImportError('as on Debian')\n")
    done = run(checkout, "-m", "movierec_platform", "demo", PYTHONPATH=str(without))
    assert done.returncode == 3
    assert "lacks its ensurepip module: install it (Debian and Ubuntu: apt install python3." in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (checkout / ".venv").exists()


def test_without_network_it_says_so_and_the_next_run_starts_again(checkout: Path) -> None:
    """Needs seconds: the venv is real. Somebody else's `.venv` is kept aside."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv/mine.txt").write_text("precious")
    done = run(checkout, "-m", "movierec_platform", "demo", **UNREACHABLE)
    assert done.returncode == 3, done.stderr
    assert "the package index does not answer (No matching distribution found for alembic==1.20.1" in done.stderr
    assert "Traceback" not in done.stderr
    assert [file.read_text() for file in checkout.glob(".venv.before-*/mine.txt")] == ["precious"]
    assert bootstrap.what_is_missing(checkout / ".venv", bootstrap.stamp_of(checkout)) == "packages"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (["Collecting a\n", "ERROR: no a\n", "ERROR: No matching distribution\n"], "No matching distribution"),
        (["No module named pip\n"], "No module named pip"),
        ([], "pip said nothing"),
    ],
)
def test_the_reason_is_the_last_thing_that_pip_said(output: list[str], reason: str) -> None:
    assert bootstrap.why_pip_failed(output) == reason
