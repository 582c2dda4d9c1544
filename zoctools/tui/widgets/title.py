"""The first line of a screen: which Zocalo, and how our own link to it is."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from zoctools.text import one_line


class TitleBar(Horizontal):
    """Environment and broker to the left, the state of the link to the right, always whole."""

    DEFAULT_CSS = """
    TitleBar { height: 1; background: $panel; }
    TitleBar #where { width: 1fr; padding: 0 1; text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
    TitleBar #link { width: auto; padding: 0 1; text-wrap: nowrap; text-style: bold; }
    TitleBar #link.good { color: $text-success; }
    TitleBar #link.warn { color: $text-warning; }
    TitleBar #link.bad { color: $text-error; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[str, str, str] = ("", "", "")

    def compose(self) -> ComposeResult:
        """Two texts."""
        yield Static(id="where", markup=False)
        yield Static(id="link", markup=False)

    def show(self, where: str, link: str, look: str) -> None:
        """Say where we are and how the link is; `look` is ``good``, ``warn`` or ``bad``."""
        if (where, link, look) != self._shown:
            self._shown = (where, link, look)
            self.query_one("#where", Static).update(Text(f"zoc status · {one_line(where, 200)}"), layout=False)
            state = self.query_one("#link", Static)
            state.set_classes(look)
            state.update(Text(one_line(link, 100)))
