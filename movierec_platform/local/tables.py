"""Tables that are printed whole, whatever the width: no id, interval or column of them is ever cut."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

FOLDED_FROM = 24
"""Characters that a column which may be folded has at least."""
BORDERS = 3
"""Characters that a box adds to each column."""


def print_table(console: Console, table: Table) -> None:
    """Prints the table: in a box where a terminal is wide enough, else a line for each value; elsewhere unboxed lines.

    Only columns with `overflow="fold"` may take several lines in a box.
    """
    texts = [[Text.from_markup(str(cell)) for cell in column.cells] for column in table.columns]
    rows: list[Sequence[Text]] = list(zip(*texts, strict=True))
    widths = [max(map(_width, [_header(one), *cells])) for one, cells in zip(table.columns, texts, strict=True)]
    if console.is_terminal and _boxed_width(table, widths) <= console.width:
        for column in table.columns:
            column.no_wrap = column.overflow != "fold"
        console.print(table)
        return
    if table.title:
        console.print(table.title, soft_wrap=True)
    for line in _by_value(table, rows) if console.is_terminal else _by_row(table, rows):
        console.print(line, soft_wrap=True)


def _boxed_width(table: Table, widths: Sequence[int]) -> int:
    """The least width in which nothing is cut."""
    least = [
        min(width, max(FOLDED_FROM, _width(_header(column)))) if column.overflow == "fold" else width
        for column, width in zip(table.columns, widths, strict=True)
    ]
    return sum(least) + BORDERS * len(least) + 1


def _by_row(table: Table, rows: Sequence[Sequence[Text]]) -> Iterator[Text]:
    """The columns' names, and a line for each row, in columns."""
    lines = [[_one_line(one) for one in row] for row in ([_header(column) for column in table.columns], *rows)]
    widths = [max(one.cell_len for one in cells) for cells in zip(*lines, strict=True)]
    for line in lines:
        joined = Text()
        for text, column, width in zip(line, table.columns, widths, strict=True):
            text.align("right" if column.justify == "right" else "left", width)
            joined = Text.assemble(joined, "  ", text) if joined.cell_len else text
        joined.rstrip()
        yield joined


def _by_value(table: Table, rows: Sequence[Sequence[Text]]) -> Iterator[Text]:
    """A line for each value of each row, with the name of its column; between rows an empty one."""
    names = [_header(column) for column in table.columns]
    width = max(name.cell_len for name in names)
    for number, row in enumerate(rows):
        if number:
            yield Text()
        for name, value in zip(names, row, strict=True):
            label = name.copy()
            label.align("left", width)
            yield Text.assemble(label, "  ", _one_line(value)) if name.plain else value


def _header(column: Column) -> Text:
    return Text.from_markup(str(column.header))


def _one_line(text: Text) -> Text:
    return Text(" ").join(text.split("\n")) if "\n" in text.plain else text.copy()


def _width(text: Text) -> int:
    return max((line.cell_len for line in text.split("\n", allow_blank=True)), default=0)
