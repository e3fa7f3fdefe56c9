"""`--changed`, or `--changed=SINCE`: the test files that a change can break.

A changed module can break every test file that imports it, directly or through others; whatever a conftest.py imports
is imported by the files below it. Another changed file can break the tests that name it.
"""

import ast
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TESTS = "movierec_platform", "movierec_tests"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--changed",
        metavar="=SINCE",
        nargs="?",
        const="origin/main",
        help="run the test files that the changes since this commit can break [=origin/main]",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    since = config.getoption("--changed")
    if since is None or hasattr(config, "workerinput"):
        return
    files = broken_by(changed_since(since))
    if not files:
        pytest.exit(f"no test can be broken by what changed since {since}", returncode=0)
    config.args[:] = [str(ROOT / file) for file in files]
    if len(files) == 1:
        config.option.numprocesses = None  # servers are started once, and workers not at all
        config.option.dist, config.option.tx = "no", []


def changed_since(commit: str) -> list[str]:
    """The paths, from the root, that differ from where this branch left that commit; new ones among them."""
    base = _git("merge-base", commit, "HEAD")[0]
    return sorted({*_git("diff", "--name-only", base), *_git("ls-files", "--others", "--exclude-standard")})


def broken_by(paths: Iterable[str]) -> list[str]:
    """The test files, from the root, that a change of these can break."""
    paths = list(paths)
    modules = {module_of(path) for path in paths if path.startswith(PACKAGE)}
    modules |= importers(modules)
    texts = {str(file.relative_to(ROOT)): file.read_text() for file in sorted((ROOT / TESTS).rglob("*.py"))}
    imported = {path: imports_of(text) for path, text in texts.items()}
    helpers = {module_of(path) for path in paths if path.startswith(TESTS)}
    names = {Path(path).name for path in paths if not path.endswith(".py")}
    broken = set()
    for path, text in texts.items():
        if not Path(path).name.startswith("test_"):
            continue
        used = all_imports(path, imported)
        if path in paths or used & (modules | helpers) or any(name in text for name in names):
            broken.add(path)
    return sorted(broken)


def importers(modules: Iterable[str]) -> set[str]:
    """The modules of the package that import one of these, directly or through others; late imports count."""
    import grimp

    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found = set()
    for module in modules:
        while module not in graph.modules:  # a folder of other files, or a module that is gone: what surrounds it
            module = module.rpartition(".")[0] or PACKAGE
        is_folder = bool(graph.find_children(module))
        found |= {module, *graph.find_downstream_modules(module)}
        if is_folder and module != PACKAGE:
            inside = graph.find_descendants(module)
            found |= inside | {one for part in inside for one in graph.find_downstream_modules(part)}
    return found


def all_imports(path: str, imported: Mapping[str, set[str]]) -> set[str]:
    """What this test file imports, with what its conftest files and our own modules that they import do."""
    folders = Path(path).parents
    waiting = [path, *(str(folder / "conftest.py") for folder in folders)]
    seen: set[str] = set()
    found: set[str] = set()
    while waiting:
        file = waiting.pop()
        if file in seen or file not in imported:
            continue
        seen.add(file)
        found |= {module_of(file), *imported[file]}
        waiting += [f"{name.replace('.', '/')}{end}" for name in imported[file] for end in (".py", "/__init__.py")]
    return found


def imports_of(text: str) -> set[str]:
    """The modules of ours that this text imports or runs: by an import, or named in a string such as a command."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            found |= {node.value, f"{node.value}.__main__"}  # of a package, as `-m` runs it
    return {name for name in found if name.split(".")[0] in (PACKAGE, TESTS)}


def module_of(path: str) -> str:
    """The module of this file, or the package in whose folder it is."""
    file = Path(path)
    parts = file.with_suffix("").parts if file.suffix == ".py" else file.parent.parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise pytest.UsageError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.splitlines()
