"""Settings as variables and back; env files that a shell and `load_settings` read alike."""

import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from movierec_platform.config import STACK_ENV, Settings, load_settings, merge_env_file, variables_of, write_env_file
from movierec_platform.errors import UsageError


def test_every_setting_comes_back_from_its_variable() -> None:
    given = load_settings(
        {
            "home": Path("/x"),
            "neo4j_password": SecretStr("p"),
            "aws_endpoint_url": "http://127.0.0.1:1",
            "gate_slots": 3,
        }
    )
    variables = variables_of(given)
    assert variables["NEO4J_PASSWORD"] == "p"
    assert variables["MOVIEREC_GATE_SLOTS"] == "3"
    assert "AWS_SESSION_TOKEN" not in variables
    by_alias: dict[str, Any] = dict(variables)
    again = Settings(**by_alias)
    assert again.neo4j_password == given.neo4j_password
    assert again.aws_endpoint_url == given.aws_endpoint_url


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "two words",
        "o'brien",
        "$HOME `x`",
        'say "so"',
        "#no",
        "a=b",
        "",
        "ñandú",
        "o'brien\\",
        "both \" and '",
        "\\n'",
    ],
)
def test_a_shell_and_settings_read_the_same(tmp_path: Path, text: str) -> None:
    path = tmp_path / STACK_ENV
    write_env_file(path, {"MOVIEREC_ARCHIVE": text})
    shell = subprocess.run(
        ["sh", "-c", f"set -a; . {path}; printenv MOVIEREC_ARCHIVE"], capture_output=True, text=True, env={}, check=True
    )
    assert shell.stdout == text + "\n"
    assert load_settings({"home": tmp_path}).archive == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["two\nlines", "$o'brien", "${HOME}'", "`\\"])
def test_what_they_would_read_differently_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="NEO4J_PASSWORD"):
        write_env_file(tmp_path / "env", {"NEO4J_PASSWORD": text})
    assert list(tmp_path.iterdir()) == []


def test_a_merged_file_keeps_what_else_was_in_it(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    merge_env_file(path, {"A": "1"})
    assert path.read_text() == "A='1'\n"
    path.write_text("# mine\nexport A=\nB = 2\n\nC=3\n")
    path.chmod(0o644)
    merge_env_file(path, {"A": "x y", "B": "2", "D": "4"})
    assert path.read_text() == "# mine\nA='x y'\nB='2'\n\nC=3\nD='4'\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / STACK_ENV
    path.write_text("MOVIEREC_GATE_SLOTS=3\n", encoding="utf-8-sig")
    assert load_settings({"home": tmp_path}).gate_slots == 3
    merge_env_file(path, {"MOVIEREC_GATE_SLOTS": "3", "MOVIEREC_ARCHIVE": "a"})
    assert path.read_text() == "MOVIEREC_GATE_SLOTS='3'\nMOVIEREC_ARCHIVE='a'\n"


def test_a_merge_changes_no_value_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A='1' # one\nB=2\n")
    merge_env_file(path, {"A": "1"})
    with pytest.raises(UsageError, match="other values of B and was left as it is"):
        merge_env_file(path, {"A": "1", "B": "3"})
    assert "B=2" in path.read_text()
    merge_env_file(path, {"B": "3"}, force=True)
    assert "B='3'" in path.read_text()
