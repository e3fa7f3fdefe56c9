"""What the README tells people to type exists: commands with their options, variables, files, links, anchors."""

import re
from pathlib import Path

import pytest
import typer.main

from movierec_platform.cli.main import app
from movierec_platform.config import Settings, variable_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CALL = re.compile(r"(?m)(?:(?<=`)|(?<=^)|(?<=^\$ ))(?:python3 -m movierec_platform|movierec)((?: [^`\s#<>|;&]+)+)")
CALLS = sorted({words.strip() for words in CALL.findall(README) if not words.startswith(":")})


@pytest.mark.parametrize("words", CALLS)
def test_a_command_of_the_readme_is_one_and_has_the_options_named(words: str) -> None:
    command, options = typer.main.get_command(app), re.findall(r"(?<![\w-])--?[a-z][\w-]*", words)
    for word in re.sub(r"[\[\]]", "", words).split():
        if not hasattr(command, "commands"):
            break
        assert word in command.commands, f"there is no `{word}` in `movierec {words}`"
        command = command.commands[word]
    if command.name == "test":  # which gives them to pytest
        return
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert set(options) <= known | {"--help"}


def test_every_variable_of_ours_that_the_readme_names_is_a_setting() -> None:
    named = set(re.findall(r"\bMOVIEREC_[A-Z0-9_]*[A-Z0-9]\b", README))
    assert named <= {variable_of(field) for field in Settings.model_fields}


def test_every_path_that_the_readme_names_is_there() -> None:
    named = re.findall(r"\bmovierec_(?:platform|tests)(?:/[\w.-]+)+", README)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path.rstrip(".")).exists() and not path.endswith(".key")] == []


def test_every_module_that_the_readme_runs_is_there() -> None:
    named = [name.replace(".", "/") for name in re.findall(r"-m\s+(movierec_tests(?:\.\w+)+)", README)]
    assert named
    assert [name for name in named if not (ROOT / name).is_dir() and not (ROOT / f"{name}.py").is_file()] == []


def test_every_link_of_the_readme_leads_to_a_file_or_a_heading() -> None:
    anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in _headings()}
    for target in re.findall(r"\]\(([^)\s]+)\)", README):
        path, _, anchor = target.partition("#")
        if re.match(r"https?://", target):
            continue
        assert not path or (ROOT / path).exists(), target
        assert not anchor or anchor in anchors, target


def _headings() -> list[str]:
    outside_of_code = re.sub(r"(?ms)^```.*?^```$", "", README)
    return re.findall(r"(?m)^#+ (.+)$", outside_of_code)
