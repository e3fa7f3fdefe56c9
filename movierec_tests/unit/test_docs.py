"""What README and the documentation tell people to type exists, links lead somewhere, generated pages are current."""

import re
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from movierec_platform.api.page.guide import anchor
from movierec_platform.cli.main import app
from movierec_platform.config import Settings, variable_of
from movierec_platform.services.guide import pages
from movierec_tests import reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "movierec_platform/docs"
FILES = [ROOT / "README.md", ROOT / ".github/CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = {file: file.read_text() for file in FILES}
ALL = "\n".join(TEXTS.values())
CALL = re.compile(r"(?m)(?:(?<=`)|(?<=^)|(?<=^\$ ))(?:python3 -m movierec_platform|movierec)((?: [^`\s#<>|;&]+)+)")
CALLS = sorted({words.strip() for words in CALL.findall(ALL) if not words.startswith(":")} - {"..."})
README_LINES = 250


@pytest.mark.parametrize("words", CALLS)
def test_a_command_is_one_and_has_the_options_named(words: str) -> None:
    command, options = typer.main.get_command(app), re.findall(r"(?<![\w-])--?[a-z][\w-]*", words)
    for word in re.sub(r"[\[\]]", "", words).split():
        if not hasattr(command, "commands"):
            break
        if word.startswith("-") or word.isupper():
            continue
        assert word in command.commands, f"there is no `{word}` in `movierec {words}`"
        command = command.commands[word]
    if command.name == "test":  # which gives them to pytest
        return
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert set(options) <= known | {"--help"}


def test_every_variable_of_ours_that_is_named_is_a_setting() -> None:
    named = set(re.findall(r"\bMOVIEREC_[A-Z0-9_]*[A-Z0-9]\b", ALL))
    assert named <= {variable_of(field) for field in Settings.model_fields}


def test_every_path_that_is_named_is_there() -> None:
    named = re.findall(r"\bmovierec_(?:platform|tests)(?:/[\w.-]+)+", ALL)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path.rstrip(".")).exists() and not path.endswith(".key")] == []


def test_every_module_that_is_run_is_there() -> None:
    named = [name.replace(".", "/") for name in re.findall(r"-m\s+(movierec_tests(?:\.\w+)+)", ALL)]
    assert named
    assert [name for name in named if not (ROOT / name).is_dir() and not (ROOT / f"{name}.py").is_file()] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_link_leads_to_a_file_or_a_heading(file: Path) -> None:
    for target in _links(file):
        path, _, heading = target.partition("#")
        leads_to = (file.parent / path).resolve() if path else file
        assert leads_to.exists(), target
        if heading:
            assert heading in {anchor(one) for one in _headings(leads_to.read_text())}, target


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        file = left.pop()
        reached.add(file)
        found = {(file.parent / target.partition("#")[0]).resolve() for target in _links(file)}
        left += [one for one in found if one.suffix == ".md" and one not in reached]
    assert set(FILES) - reached == set()


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(TEXTS[ROOT / "README.md"].splitlines()) <= README_LINES


@pytest.mark.parametrize(("path", "text"), reference.files().items(), ids=lambda one: getattr(one, "name", ""))
def test_a_generated_page_is_what_the_code_says(path: Path, text: str) -> None:
    assert path.read_text() == text, "stale: run `python -m movierec_tests.reference`"


def test_docs_shows_a_page_by_its_name_and_lists_them_all() -> None:
    listed = CliRunner().invoke(app, ["docs"]).output
    assert [line.split()[0] for line in listed.splitlines()] == list(pages())
    assert CliRunner().invoke(app, ["docs", "keys"]).output == pages()["howto/keys"]
    assert "the pages are" in str(CliRunner().invoke(app, ["docs", "nothing"]).exception)


def _links(file: Path) -> list[str]:
    """The targets of a page's links to files and headings of ours."""
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[file]) if not re.match(r"[a-z]+:", target)]


def _headings(text: str) -> list[str]:
    outside_of_code = re.sub(r"(?ms)^```.*?^```$", "", text)
    return re.findall(r"(?m)^#+ (.+)$", outside_of_code)
