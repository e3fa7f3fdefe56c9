"""Tables are printed whole at every width, in a terminal and in a pipe."""

import io
import subprocess
import sys

import pytest
from rich.console import Console
from rich.table import Table

from movierec_platform.config import inherited_environment
from movierec_platform.local.tables import print_table

ID = "0190c0de-0000-7000-8000-00000000000a"
DETAIL = "rating is 9.0, and a rating is between 0.5 and 5.0 in halves, as in the catalogue of everything"
INTERVAL = "0.312\n0.290-0.334"


def table() -> Table:
    made = Table("id", "status", "NDCG", "reason", title="held")
    made.add_column("detail", overflow="fold")
    made.add_row(ID, "held", INTERVAL, "rating_out_of_range", DETAIL)
    made.add_row(ID[::-1], "[red]failed[/red]", "-", "poison", "")
    return made


def printed(width: int, terminal: bool) -> str:
    file = io.StringIO()
    print_table(Console(file=file, width=width, force_terminal=terminal, color_system=None), table())
    return file.getvalue()


def test_in_a_pipe_each_row_is_a_line_whatever_the_width() -> None:
    for width in (1, 80, 200):
        title, names, first, second = printed(width, terminal=False).splitlines()
        assert (title, names.split()) == ("held", ["id", "status", "NDCG", "reason", "detail"])
        assert first == f"{ID}  held    0.312 0.290-0.334  rating_out_of_range  {DETAIL}"
        assert second == f"{ID[::-1]}  failed  -                  poison"


def test_a_wide_terminal_shows_a_box_and_folds_only_what_may_be() -> None:
    lines = printed(140, terminal=True).splitlines()
    assert all(len(line) <= 140 for line in lines)
    assert any(ID in line and "rating_out_of_range" in line and "0.312" in line for line in lines)
    assert any("0.290-0.334" in line for line in lines)
    cells = [line.split("│")[-2].strip() for line in lines if line.startswith("│")]
    assert " ".join(" ".join(cells).split()) == DETAIL


@pytest.mark.parametrize("width", [20, 80, 100])
def test_a_narrow_terminal_shows_a_line_a_value(width: int) -> None:
    assert [line.split(maxsplit=1) for line in printed(width, terminal=True).splitlines()] == [
        ["held"],
        ["id", ID],
        ["status", "held"],
        ["NDCG", "0.312 0.290-0.334"],
        ["reason", "rating_out_of_range"],
        ["detail", DETAIL],
        [],
        ["id", ID[::-1]],
        ["status", "failed"],
        ["NDCG", "-"],
        ["reason", "poison"],
        ["detail"],
    ]


def test_columns_of_no_width_are_taken_for_unknown() -> None:
    environment = {**inherited_environment(), "COLUMNS": "0"}
    command = [sys.executable, "-m", "movierec_platform.cli"]
    for option in ("--version", "--help"):
        done = subprocess.run([*command, option], env=environment, capture_output=True, text=True, check=True)
        assert "0.1.0" in done.stdout or "A self-hosted movie recommender" in done.stdout
