"""The documentation that comes with the package: Markdown pages below `movierec_platform/docs`, by their path there."""

from functools import cache
from importlib.resources import as_file, files

from movierec_platform.errors import UsageError

SUFFIX = ".md"
START = "start"
_ORDER = (START, "architecture", "howto", "explain", "operate", "reference", "changes")


@cache
def pages() -> dict[str, str]:
    """The text of each page by its name, such as `howto/keys`, in reading order."""
    with as_file(files("movierec_platform") / "docs") as folder:
        found = {
            path.relative_to(folder).as_posix().removesuffix(SUFFIX): path.read_text(encoding="utf-8")
            for path in sorted(folder.rglob(f"*{SUFFIX}"))
        }
    return dict(sorted(found.items(), key=lambda page: _ORDER.index(page[0].partition("/")[0])))


def title_of(text: str) -> str:
    """The first heading of a page."""
    return next(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))


def find(name: str) -> str:
    """The text of the page of this name, or of the only one whose name ends in it. Raises UsageError else."""
    wanted = name.removesuffix(SUFFIX).strip("/").lower()
    found = [page for page in pages() if page == wanted or page.endswith(f"/{wanted}")]
    if len(found) != 1:
        raise UsageError(f"there is no page {name!r}; the pages are {', '.join(pages())}")
    return pages()[found[0]]
