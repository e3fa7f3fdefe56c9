"""`movierec docs`: the documentation, in the terminal."""

from typing import Annotated

import typer

from movierec_platform.cli.printing import out, plain, print_line


def docs(
    page: Annotated[
        str | None, typer.Argument(help="A page, such as howto/keys or keys. Without it: the list.")
    ] = None,
) -> None:
    """Show a page of the documentation, or the list of all."""
    from movierec_platform.services.guide import find, pages, title_of

    if page is None:
        width = max(map(len, pages()))
        for name, text in pages().items():
            out.print(f"{name:<{width}}  {plain(title_of(text))}")
        return
    text = find(page)
    if not out.is_terminal:
        print_line(text.rstrip("\n"))
        return
    from rich.markdown import Markdown

    with out.pager(styles=True):
        out.print(Markdown(text), soft_wrap=False)
