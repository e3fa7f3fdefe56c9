"""What commands print of others' text steers no terminal, and JSON stays the same value."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from movierec_platform.cli.printing import _Harmless, plain, print_json, print_line
from movierec_platform.domain.texts import one_line

HOSTILE = "\x1b]0;owned\x07Red\x1b[31m \x9b2J\u202egnp.exe\rline\x08 \x7f\x00"
SHOWN = "]0;ownedRed[31m 2Jgnp.exeline "
CONTROLS = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
TEXTS = st.text(st.one_of(st.sampled_from([chr(code) for code in CONTROLS]), st.characters(exclude_categories=["Cs"])))


def without_controls(text: str) -> bool:
    return not set(text) & {chr(code) for code in CONTROLS if chr(code) not in "\n\t"}


@given(TEXTS)
def test_no_control_character_is_printed_in_whatever_it_stands(text: str) -> None:
    console = _Harmless(file=io.StringIO(), width=80)
    table = Table(title=plain(text))
    table.add_row(plain(text))
    for renderable in (text, table, [text], {"key": text}):
        console.print(renderable, markup=False)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert without_controls(printed)


def test_the_styles_of_ours_stay(capsys: pytest.CaptureFixture[str]) -> None:
    console = _Harmless(file=io.StringIO(), force_terminal=True, color_system="standard", soft_wrap=True)
    console.print(f"[red]movierec:[/red] {plain(HOSTILE)}", highlight=False)
    assert console.file.getvalue() == f"\x1b[31mmovierec:\x1b[0m {SHOWN}\n"  # type: ignore[attr-defined]
    print_line(HOSTILE)
    assert capsys.readouterr().out == f"{SHOWN}\n"


@given(value=st.recursive(TEXTS | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_json_is_a_line_of_the_same_value(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", io.StringIO())
        print_json(value)
        import sys

        printed = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert json.loads(printed) == value
    assert without_controls(printed)
    assert printed.count("\n") == 1


def test_a_title_is_one_line_without_controls() -> None:
    assert one_line(HOSTILE) == "]0;ownedRed[31m 2Jgnp.exe line"
    assert one_line(" A\r\n\tB\x85 ") == "A B"
    assert one_line("\x1b\x00") == ""
