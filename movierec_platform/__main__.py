"""`python3 -m movierec_platform COMMAND`: the CLI, in a `.venv` beside the package that is made on first use.

Standard library only, and parsable by every Python 3, so that a wrong one gets a sentence instead of a traceback.

`.venv` holds the locked packages and this package, editable. Its stamp says what it was made from: it reads
"installing" from the first moment and is replaced last, so an interrupted installation is made again from nothing.
An installed package (`pip install .`, a container) has no checkout around it, or runs where it is installed: then
nothing is made and the CLI runs as it is.
"""

import hashlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

if not (3, 10) <= sys.version_info[:2] < (3, 15):
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.stderr.write(
        f"movierec: needs Python 3.10 to 3.14 and this is {found} ({sys.executable}): run it with one of those.\n"
    )
    sys.exit(2)
if os.name != "posix":
    sys.stderr.write("movierec: needs Linux or macOS; on Windows, run it in WSL.\n")
    sys.exit(2)

# Only from here on may a line need more than an old Python has.
import fcntl
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import movierec_platform

ROOT = Path(__file__).resolve().parent.parent
STAMP = "movierec.stamp"
INSTALLING = "installing\n"
AGAIN = "then run the same command again"


class Refused(Exception):
    """The CLI cannot be started; the text is a sentence for a person that says what to do."""


def main() -> None:
    """Runs the CLI with this process's arguments, in `.venv` unless the package is installed where we are."""
    # Without compiled modules every process that the CLI starts would cost three times the CPU to start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not runs_as_it_is(ROOT, _installed_version()):
        try:
            prepare(ROOT)
        except Refused as refusal:
            _say(str(refusal))
            sys.exit(3)
        except OSError as error:
            _say(f"cannot make .venv: {error}: make that possible, {AGAIN}.")
            sys.exit(3)
        except KeyboardInterrupt:
            _say("interrupted; the same command starts the installation again.")
            sys.exit(130)
        if not _is_running_in(ROOT / ".venv"):
            program = str(_python(ROOT / ".venv"))
            os.execv(program, [program, str(_command(ROOT / ".venv")), *sys.argv[1:]])  # noqa: S606
    from movierec_platform.cli.main import main as command_line

    command_line()


def runs_as_it_is(root: Path, installed: str | None) -> bool:
    """True if there is no checkout to make a `.venv` for, or this interpreter has this very version installed."""
    if not (root / "pyproject.toml").is_file() or not _lock(root).is_file():
        return True
    if _is_running_in(root / ".venv") and (root / ".venv" / STAMP).exists():
        return False  # ours, and perhaps out of date
    return installed == movierec_platform.__version__


def stamp_of(root: Path) -> str:
    """What a finished `.venv` says: digests of the lock (with the Python and the folder) and of pyproject.toml.

    The folder counts because scripts and the editable install hold its path: a moved checkout is made again.
    """
    packages = hashlib.sha256(_lock(root).read_bytes())
    packages.update(f"{sys.implementation.cache_tag} {root}".encode())
    project = hashlib.sha256((root / "pyproject.toml").read_bytes())
    return f"packages {packages.hexdigest()}\nproject {project.hexdigest()}\n"


def what_is_missing(venv: Path, wanted: str) -> str:
    """What must be installed for `.venv` to be as wanted: "packages" (all of it), "project" (this one) or ""."""
    try:
        found = (venv / STAMP).read_text()
    except OSError:
        found = ""
    works = os.access(str(_python(venv)), os.X_OK)
    if not works or found.splitlines()[:1] != wanted.splitlines()[:1]:
        return "packages"
    return "" if found == wanted and _command(venv).exists() else "project"


def prepare(root: Path) -> None:
    """Makes `.venv` hold exactly the lock and this package; when it does already, only looks.

    Raises Refused or OSError. Of several first runs at once, one installs and the others wait for it.
    """
    venv, wanted = root / ".venv", stamp_of(root)
    if not what_is_missing(venv, wanted):
        return
    with _only_one(root / ".venv.lock") as lock_fd:
        missing = what_is_missing(venv, wanted)
        if missing == "packages":
            _make_venv(venv, lock_fd)
            _install_packages(root, venv, lock_fd)
        if missing:
            _install_project(root, venv, lock_fd)
            finished = venv / (STAMP + ".new")
            finished.write_text(wanted)
            finished.replace(venv / STAMP)


def why_pip_failed(output: list[str]) -> str:
    """One clause from pip's lines: its last error, and whether the package index was reached at all."""
    errors = [line[len("ERROR: ") :].strip() for line in output if line.startswith("ERROR: ")]
    reason = errors[-1] if errors else (output[-1].strip() if output else "pip said nothing")
    if any("connection broken by" in line for line in output):
        reason = f"the package index does not answer ({reason})"
    return reason


def _make_venv(venv: Path, lock_fd: int) -> None:
    for module in ("venv", "ensurepip"):
        try:
            importlib.import_module(module)
        except ImportError:
            raise Refused(
                f"this Python ({sys.executable}) lacks its {module} module: install it "
                f"(Debian and Ubuntu: apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv), {AGAIN}."
            ) from None
    if (venv / STAMP).exists():
        shutil.rmtree(str(venv))
    elif venv.exists():
        aside = venv.with_name(f".venv.before-{int(time.time())}")
        venv.rename(aside)
        _say(f"{venv.name} was not made by this command; it is kept as {aside.name}.")
    venv.mkdir()
    (venv / STAMP).write_text(INSTALLING)
    # The interpreter behind a venv that we may be running in, and may just have removed.
    python = getattr(sys, "_base_executable", None) or sys.executable
    status, output = _run([python, "-m", "venv", str(venv)], lock_fd)
    if status != 0:
        raise Refused(f"cannot make {venv}: {output[-1].strip() if output else f'exit {status}'}.")


def _install_packages(root: Path, venv: Path, lock_fd: int) -> None:
    progress = _Progress(_lock(root))
    _pip(venv, lock_fd, ["--no-compile", "--only-binary=:all:", "--require-hashes", "-r", str(_lock(root))], progress)
    progress.tell("compiling")
    # Some packages carry files for other Pythons that do not compile; nothing imports them.
    _run(
        [str(_python(venv)), "-m", "compileall", "-q", "-j", "0", *map(str, venv.glob("lib/*/site-packages"))], lock_fd
    )
    progress.tell("done", last=True)


def _install_project(root: Path, venv: Path, lock_fd: int) -> None:
    _pip(venv, lock_fd, ["--no-build-isolation", "-e", str(root)])
    # Kept beside the sources. What this cannot compile is compiled when it is used.
    _run([str(_python(venv)), "-m", "movierec_platform.domain.similarity"], lock_fd)


def _pip(venv: Path, lock_fd: int, what: list[str], watch: Callable[[str], None] | None = None) -> None:
    # --no-deps: the lock is complete, and pip's resolver refuses extras such as gql[requests] in hash mode.
    command = [str(_python(venv)), "-m", "pip", "install", "--no-deps", "--no-input", "--progress-bar=off"]
    status, output = _run([*command, "--disable-pip-version-check", *what], lock_fd, watch)
    if status != 0:
        raise Refused(
            f"cannot install: {why_pip_failed(output)}: check the network and pip's index (pip config list), {AGAIN}."
        )


class _Progress:
    """Tells stderr how many of the locked packages pip has fetched: one line rewritten, or a few if not a terminal."""

    def __init__(self, lock: Path) -> None:
        self.total = sum("==" in line for line in lock.read_text().splitlines())
        self.done = 0

    def __call__(self, line: str) -> None:
        if line.startswith("Ignoring "):
            self.total -= 1  # locked for another Python or system
        elif line.startswith("Collecting "):
            if self.done == 0:
                _say(f"installing {self.total} locked packages into .venv, once (about a minute) ...")
            self.done += 1
            if sys.stderr.isatty() or self.done % 50 == 0 or self.done == self.total:
                self.tell(f"{self.done} of {self.total} fetched")
        elif line.startswith("Installing collected"):
            self.tell("unpacking")

    def tell(self, what: str, last: bool = False) -> None:
        line = f"  {what}\n"
        if sys.stderr.isatty():
            line = f"\r  {what:<24}" + ("\n" if last else "")
        sys.stderr.write(line)
        sys.stderr.flush()


def _run(command: list[str], lock_fd: int, watch: Callable[[str], None] | None = None) -> tuple[int, list[str]]:
    """Exit status and output lines. The child holds the lock too: if we are killed, the next run waits for its end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PIP_USER"] = "0"
    output = []
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=(lock_fd,),
        universal_newlines=True,
        errors="replace",
    )
    with child:
        try:
            for line in child.stdout or ():
                output.append(line)
                if watch:
                    watch(line)
        except BaseException:
            child.terminate()
            raise
    return child.returncode, output


@contextmanager
def _only_one(path: Path) -> Iterator[int]:
    """Descriptor of an exclusive lock on `path`, held until the block and every child that got it have ended."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another run is installing into .venv; waiting for it ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            yield file.fileno()
        finally:
            signal.signal(signal.SIGTERM, previous)


def _installed_version() -> str | None:
    try:
        return version("movierec-platform")
    except PackageNotFoundError:
        return None


def _is_running_in(venv: Path) -> bool:
    return os.path.realpath(sys.prefix) == os.path.realpath(str(venv))


def _lock(root: Path) -> Path:
    return root / "movierec_platform" / "deploy" / "requirements.lock"


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


def _command(venv: Path) -> Path:
    return venv / "bin" / "movierec"


def _say(sentence: str) -> None:
    sys.stderr.write(f"movierec: {sentence}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
