"""`python3 -m movierec_platform`: what it decides, what it says, how it hands over to `.venv`. Nothing is installed."""

import ast
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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
    locks = tmp_path / "movierec_platform/deploy/locks"
    locks.mkdir(parents=True)
    for file in ("__init__.py", "__main__.py"):
        shutil.copy(PACKAGE / file, tmp_path / "movierec_platform")
    (tmp_path / "movierec_platform/domain").mkdir()
    (tmp_path / "movierec_platform/domain/similarity.py").write_text("# what is compiled after an installation\n")
    for name in ("run", "installer", "test", "load", "traces"):
        (locks / f"{name}.lock").write_text(f"{name}==1.20.1 \\\n    --hash=sha256:{'0' * 64}\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


def finished_venv(root: Path, command: str = "#!/bin/sh\n") -> Path:
    """A `.venv` that is as its stamp says; its `python` is this shell script."""
    venv = root / ".venv"
    (venv / "bin").mkdir(parents=True)
    for program in ("python", "movierec"):
        (venv / "bin" / program).write_text(command)
        (venv / "bin" / program).chmod(0o755)
    say_it_holds(venv, bootstrap.stamp_of(root))
    return venv


def say_it_holds(venv: Path, stamp: bootstrap.Stamp) -> None:
    (venv / bootstrap.STAMP).write_text("".join(f"{name} {digest}\n" for name, digest in stamp.items()))


def run(root: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`python3 ARGUMENTS` in the checkout, on a machine where nothing is installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [*BARE, *arguments], cwd=root, env={**environment, **variables}, capture_output=True, text=True, timeout=600
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
    checkout: Path, monkeypatch: pytest.MonkeyPatch, pyproject: bool, installed: str | None, as_it_is: bool
) -> None:
    monkeypatch.setattr(bootstrap, "installed_version", lambda: installed)
    if not pyproject:
        (checkout / "pyproject.toml").unlink()
    assert bootstrap.runs_as_it_is(checkout) is as_it_is


def test_a_finished_venv_is_left_alone(checkout: Path) -> None:
    venv = finished_venv(checkout)
    assert bootstrap.what_is_missing(venv, bootstrap.stamp_of(checkout)) == []
    bootstrap.prepare(checkout)
    assert not (checkout / ".venv.lock").exists()


def test_what_changed_decides_what_is_installed(checkout: Path) -> None:
    venv = finished_venv(checkout)
    (checkout / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert bootstrap.what_is_missing(venv, bootstrap.stamp_of(checkout)) == ["project"]
    (checkout / "movierec_platform/deploy/locks/run.lock").write_text("alembic==1.20.2\n")
    assert bootstrap.what_is_missing(venv, bootstrap.stamp_of(checkout)) == ["run", "project"]


@pytest.mark.parametrize(
    ("arguments", "locks"),
    [
        (["demo"], []),
        (["recommend", "test"], []),
        (["test", "-x"], ["load", "traces", "test"]),
        (["test", "--all"], ["load", "traces", "test", "spark"]),
    ],
)
def test_a_command_has_only_the_locks_installed_that_it_needs(arguments: list[str], locks: list[str]) -> None:
    assert list(bootstrap.locks_of(arguments)) == locks


def test_a_lock_that_a_command_asks_for_is_added_once_and_again_when_it_changed(checkout: Path) -> None:
    venv, wanted = finished_venv(checkout), bootstrap.stamp_of(checkout, ["load", "test"])
    assert bootstrap.what_is_missing(venv, wanted) == ["load", "test"]
    say_it_holds(venv, wanted)
    assert bootstrap.what_is_missing(venv, bootstrap.stamp_of(checkout)) == []
    (checkout / "movierec_platform/deploy/locks/test.lock").write_text("pytest==9\n")
    assert bootstrap.what_is_missing(venv, bootstrap.stamp_of(checkout, ["load", "test"])) == ["test"]


def test_a_moved_checkout_is_installed_again(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    finished_venv(checkout)
    moved = tmp_path_factory.mktemp("moved") / "checkout"
    checkout.rename(moved)
    assert bootstrap.what_is_missing(moved / ".venv", bootstrap.stamp_of(moved)) == ["run", "project"]


@pytest.mark.parametrize(
    ("broken", "missing"),
    [
        ("stamp gone", ["run", "project"]),
        ("installation interrupted", ["run", "project"]),
        ("interpreter gone", ["run", "project"]),
        ("command gone", ["project"]),
    ],
)
def test_a_broken_venv_is_made_again(checkout: Path, broken: str, missing: list[str]) -> None:
    venv = finished_venv(checkout)
    match broken:
        case "stamp gone":
            (venv / bootstrap.STAMP).unlink()
        case "installation interrupted":
            (venv / bootstrap.STAMP).write_text("")
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
    (venv / bootstrap.STAMP).write_text("")
    with (checkout / ".venv.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [*BARE, "-m", "movierec_platform"], cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with second:
            assert second.stderr is not None
            assert "another run is installing" in second.stderr.readline()
            say_it_holds(venv, bootstrap.stamp_of(checkout))
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
    (without / "ensurepip.py").write_text("raise ImportError('as on Debian', name=__name__)\n")
    done = run(checkout, "-m", "movierec_platform", "demo", PYTHONPATH=str(without))
    assert done.returncode == 3
    assert "lacks its ensurepip module: install it (Debian and Ubuntu: apt install python3." in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (checkout / ".venv").exists()


@pytest.mark.thorough("the installation")
def test_without_network_it_says_so_and_the_next_run_starts_again(checkout: Path) -> None:
    """Needs seconds: the venv is real. Somebody else's `.venv` is kept aside."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv/mine.txt").write_text("precious")
    done = run(checkout, "-m", "movierec_platform", "demo", **UNREACHABLE)
    assert done.returncode == 3, done.stderr
    assert "connection broken by" in done.stderr
    assert "movierec: cannot install: see above, check the network and pip's index" in done.stderr
    assert "Traceback" not in done.stderr
    assert [file.read_text() for file in checkout.glob(".venv.before-*/mine.txt")] == ["precious"]
    assert bootstrap.what_is_missing(checkout / ".venv", bootstrap.stamp_of(checkout)) == ["run", "project"]


BACKEND = """
import zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name, info = "movierec_platform-0-py3-none-any.whl", "movierec_platform-0.dist-info/"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as wheel:
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: movierec-platform\\nVersion: 0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "entry_points.txt", "[console_scripts]\\nmovierec = told:tell\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> str:
    """The pin with its hash of a wheel of these files, which is in the folder now."""
    path, info = folder / name / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info/"
    path.parent.mkdir()
    meta = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "RECORD": ""}
    meta["WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as packed:
        for file, content in files.items():
            entry = zipfile.ZipInfo(file)
            entry.external_attr = 0o100755 << 16
            packed.writestr(entry, content)
        for file, text in meta.items():
            packed.writestr(info + file, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def served() -> Iterator[Callable[[Path], str]]:
    """Serves this folder on loopback, and gives the address; the listing of a folder is what an index answers."""
    with ExitStack() as servers:

        def serve(folder: Path) -> str:
            server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
            servers.callback(server.server_close)
            servers.callback(server.shutdown)
            Thread(target=server.serve_forever).start()
            return f"http://127.0.0.1:{server.server_port}"

        yield serve


@pytest.mark.thorough("the installation")
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_first_run_installs_what_is_locked_and_the_next_only_starts(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, served: Callable[[Path], str], installer: str
) -> None:
    """Needs seconds: venv, uv and pip are real; the index is a local one, which pip's configuration names."""
    uv = Path(sys.prefix) / "bin/uv"
    if installer == "uv" and not uv.exists():
        pytest.skip("uv is not installed: movierec test installs it")
    wheels, locks = tmp_path_factory.mktemp("wheels"), checkout / "movierec_platform/deploy/locks"
    (checkout / "pyproject.toml").write_text(PROJECT)
    (checkout / "backend.py").write_text(BACKEND)
    told = b"def tell(): print('told')\n"
    (locks / "run.lock").write_text(wheel(wheels, "told", {"told.py": told, "tests/broken.py": b"print 'told'"}))
    (locks / "installer.lock").write_text("fits==1.0 --hash=sha256:" + "0" * 64)
    if installer == "uv":
        (locks / "installer.lock").write_text(wheel(wheels, "uv", {"uv-1.0.data/scripts/uv": uv.read_bytes()}))
    for name in bootstrap.locks_of(["test"]):
        (locks / f"{name}.lock").write_text(wheel(wheels, name, {f"{name}_.py": b""}))
    index = served(wheels)
    from_there = {**UNREACHABLE, "PIP_INDEX_URL": index, "UV_CACHE_DIR": str(wheels / "cache")}

    first = run(checkout, "-m", "movierec_platform", "demo", **from_there)
    assert (first.returncode, first.stdout) == (0, "told\n"), first.stderr
    (site_packages,) = (checkout / ".venv/lib").glob("python*/site-packages")
    assert (site_packages / "told-1.0.dist-info/INSTALLER").read_text().strip() == installer, first.stderr
    assert list((site_packages / "__pycache__").glob("told.*.pyc"))
    second = run(checkout, "-m", "movierec_platform", "demo")
    assert (second.stdout, second.stderr) == ("told\n", "")

    # Its lock cannot be installed: what there was before still works.
    (locks / "load.lock").write_text(f"load==2.0 --hash=sha256:{'0' * 64}\n")
    assert run(checkout, "-m", "movierec_platform", "test", **from_there).returncode == 3
    assert run(checkout, "-m", "movierec_platform", "demo").stdout == "told\n"
    (locks / "load.lock").write_text((locks / "traces.lock").read_text())
    added = run(checkout, "-m", "movierec_platform", "test", **from_there)
    assert (added.returncode, added.stdout) == (0, "told\n"), added.stderr
    assert (site_packages / "test_.py").exists()
    assert run(checkout, "-m", "movierec_platform", "test").stderr == ""
