"""`python3 -m movierec_platform COMMAND`: the CLI, in a `.venv` beside the package that is made on first use.

Standard library only, and parsable by every Python 3, so that a wrong one gets a sentence instead of a traceback.

`.venv` holds the packages of run.lock, this package, editable, and the locks that commands have asked for since. Its
stamp names each with a digest of what it was made from. While anything is being installed the stamp is empty, so an
interrupted installation is made again from nothing. uv, which pip fetches, installs; where it cannot, pip does.

An installed package (`pip install .`, a container) has no checkout around it, or runs where it is installed: then
nothing is made and the CLI runs as it is.
"""

import os
import sys
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

# Only from here on may a line need more than an old Python has. What only an installation needs is imported there.
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import movierec_platform

ROOT = Path(__file__).resolve().parent.parent
STAMP = "movierec.stamp"
BUILT = "spark"
"""The lock of what is published as source alone."""
AGAIN = "then run the same command again"
Stamp = dict[str, str]


class Refused(Exception):
    """The CLI cannot be started; the text is a sentence for a person that says what to do."""


def main() -> None:
    """Runs the CLI with this process's arguments, in `.venv` unless the package is installed where we are."""
    # Without compiled modules every process that the CLI starts would cost three times the CPU to start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not runs_as_it_is(ROOT):
        try:
            prepare(ROOT, locks_of(sys.argv[1:]))
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


def runs_as_it_is(root: Path) -> bool:
    """True if there is no checkout to make a `.venv` for, or this interpreter has this very version installed."""
    if not (root / "pyproject.toml").is_file() or not _lock(root, "run").is_file():
        return True
    if _is_running_in(root / ".venv") and (root / ".venv" / STAMP).exists():
        return False  # ours, and perhaps out of date
    return installed_version() == movierec_platform.__version__


def installed_version() -> "str | None":
    """The version of this package that this interpreter has, wherever its files are."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("movierec-platform")
    except PackageNotFoundError:
        return None


def locks_of(arguments: Sequence[str]) -> Sequence[str]:
    """The locks that this command needs installed besides run.lock."""
    if list(arguments[:1]) != ["test"]:
        return ()
    return ("load", "traces", "test", *(["spark"] if {"--all", "--long"} & set(arguments) else ()))


def stamp_of(root: Path, locks: Sequence[str] = ()) -> Stamp:
    """By name, the digests of run.lock (with the Python and the folder), of pyproject.toml and of these other locks.

    The folder counts because scripts and the editable install hold its path: a moved checkout is made again.
    """
    made_from = {
        "run": _lock(root, "run").read_bytes() + f"{sys.implementation.cache_tag} {root}".encode(),
        "project": (root / "pyproject.toml").read_bytes(),
        **{name: _lock(root, name).read_bytes() for name in locks},
    }
    return {name: hashlib.sha256(content).hexdigest() for name, content in made_from.items()}


def what_is_missing(venv: Path, wanted: Stamp) -> "list[str]":
    """The names in `wanted` that must be installed for `.venv` to be like that; with "run" it is made from nothing."""
    found = _read_stamp(venv)
    if found.get("run") != wanted["run"] or not os.access(str(_python(venv)), os.X_OK):
        return list(wanted)
    there = _command(venv).exists()
    return [name for name in wanted if found.get(name) != wanted[name] or (name == "project" and not there)]


def prepare(root: Path, locks: Sequence[str] = ()) -> None:
    """Makes `.venv` hold run.lock, this package and these other locks; when it does already, only looks.

    Raises Refused or OSError. Of several first runs at once, one installs and the others wait for it.
    """
    venv, wanted = root / ".venv", stamp_of(root, locks)
    if not what_is_missing(venv, wanted):
        return
    with _only_one(root / ".venv.lock") as lock_fd:
        missing = what_is_missing(venv, wanted)
        if "run" in missing:
            _make_venv(venv, lock_fd)
        if missing:
            before = _read_stamp(venv)
            _write_stamp(venv, {})
            try:
                _install(root, venv, missing, lock_fd)
            except Refused:  # nothing was installed: an installer fetches all before it installs any
                _write_stamp(venv, before)
                raise
            _write_stamp(venv, {**before, **wanted})


def _make_venv(venv: Path, lock_fd: int) -> None:
    try:
        import ensurepip  # noqa: F401
        import venv as _  # noqa: F401
    except ImportError as error:
        raise Refused(
            f"this Python ({sys.executable}) lacks its {error.name} module: install it "
            f"(Debian and Ubuntu: apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv), {AGAIN}."
        ) from None
    import shutil
    import time

    if (venv / STAMP).exists():
        shutil.rmtree(str(venv))
    elif venv.exists():
        aside = venv.with_name(f".venv.before-{int(time.time())}")
        venv.rename(aside)
        _say(f"{venv.name} was not made by this command; it is kept as {aside.name}.")
    venv.mkdir()
    _write_stamp(venv, {})
    # The interpreter behind a venv that we may be running in, and may just have removed.
    python = getattr(sys, "_base_executable", None) or sys.executable
    if not _done([python, "-m", "venv", str(venv)], lock_fd):
        raise Refused(f"cannot make {venv}: see above, {AGAIN}.")


def _install(root: Path, venv: Path, missing: Sequence[str], lock_fd: int) -> None:
    locks = [name for name in missing if name != "project"]
    if locks:
        _say(f"installing what is locked for {', '.join(locks)} into .venv, once (about a minute) ...")
    python = str(_python(venv))
    pip = [python, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "install", "--no-compile"]
    uv = [str(venv / "bin" / "uv"), "--quiet", "pip", "install", "--python", python]
    # --no-deps: a lock is complete, and pip's resolver refuses extras such as gql[requests] in hash mode.
    locked = ["--no-deps", "--require-hashes"]
    wheels = [*locked, "--only-binary=:all:"]
    if "run" in missing:  # where no uv fits, pip goes on
        _done([*pip, *wheels, "-r", str(_lock(root, "installer"))], lock_fd)
    told = _as_pip_is_told(python)
    for what in (
        _all_of(wheels, root, [name for name in locks if name != BUILT]),
        _all_of(locked, root, [name for name in locks if name == BUILT]),
        ["--no-deps", "--no-build-isolation", "-e", str(root)] if "project" in missing else [],
    ):
        by_uv = what and os.access(uv[0], os.X_OK) and _done([*uv, *what], lock_fd, told)
        if what and not by_uv and not _done([*pip, *what], lock_fd):
            raise Refused(f"cannot install: see above, check the network and pip's index (pip config list), {AGAIN}.")
    _compile(venv, lock_fd)


def _all_of(how: "list[str]", root: Path, locks: Sequence[str]) -> "list[str]":
    """An installer's arguments for these locks; empty where there is none."""
    files = [word for name in locks for word in ("-r", str(_lock(root, name)))]
    return how + files if files else []


def _as_pip_is_told(python: str) -> "dict[str, str]":
    """uv's variables for the index, the folders of wheels and the certificates that pip's configuration names."""
    import ast
    import subprocess

    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "trusted-host": "UV_INSECURE_HOST",
        "cert": "SSL_CERT_FILE",
    }
    listed = subprocess.run([python, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True)
    told = {}
    for line in listed.stdout.splitlines():  # such as global.index-url='https://...', the strongest last
        name, _, value = line.partition("=")
        if name.rpartition(".")[2] in names:
            separator = "," if name.endswith("find-links") else " "
            told[names[name.rpartition(".")[2]]] = separator.join(ast.literal_eval(value).split())
    return {name: value for name, value in told.items() if name not in os.environ}


def _compile(venv: Path, lock_fd: int) -> None:
    """Compiles what is in `.venv` to bytecode and, at the same time, the similarity to machine code.

    What cannot be compiled here is compiled when it is used; of the packages' own tests nothing ever is.
    """
    from threading import Thread

    python = str(_python(venv))
    similarity = Thread(target=_done, args=([python, "-m", "movierec_platform.domain.similarity"], lock_fd))
    similarity.start()
    packages = map(str, venv.glob("lib/*/site-packages"))
    _done([python, "-m", "compileall", "-qq", "-j", "0", "-x", r"[/\\]tests?[/\\]", *packages], lock_fd)
    similarity.join()


def _done(command: Sequence[str], lock_fd: int, variables: Mapping[str, str] = MappingProxyType({})) -> bool:
    """True if the command succeeds; what it prints goes to stderr.

    The child holds the lock too: if we are killed, the next run waits for its end.
    """
    import subprocess

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment.update(variables, PIP_USER="0")
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=environment, pass_fds=(lock_fd,)
    ) as child:
        try:
            return child.wait() == 0
        except BaseException:
            child.terminate()
            raise


@contextmanager
def _only_one(path: Path) -> "Iterator[int]":
    """Descriptor of an exclusive lock on `path`, held until the block and every child that got it have ended."""
    import fcntl
    import signal

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


def _read_stamp(venv: Path) -> Stamp:
    """Empty while something is being installed, as where nothing is."""
    try:
        return dict(line.split() for line in (venv / STAMP).read_text().splitlines())
    except (OSError, ValueError):
        return {}


def _write_stamp(venv: Path, stamp: Stamp) -> None:
    written = venv / (STAMP + ".new")
    written.write_text("".join(f"{name} {digest}\n" for name, digest in stamp.items()))
    written.replace(venv / STAMP)


def _is_running_in(venv: Path) -> bool:
    return os.path.realpath(sys.prefix) == os.path.realpath(str(venv))


def _lock(root: Path, name: str) -> Path:
    return root / "movierec_platform" / "deploy" / "locks" / f"{name}.lock"


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


def _command(venv: Path) -> Path:
    return venv / "bin" / "movierec"


def _say(sentence: str) -> None:
    sys.stderr.write(f"movierec: {sentence}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
