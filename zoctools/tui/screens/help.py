"""What the keys do, read from the bindings themselves."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table as Grid
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from zoctools.snapshot import FIELDS

_WORDS = (
    "Each row is a service or a task that speaks on the status topic; services speak every 6 s at least. HEARD is the "
    "time since. After 10 s without a word the state is 'silent', after 90 s the row is dropped; a service class with "
    "no instance left stays on top as GONE. While our own link is down nothing ages. BUSY is the part of the last "
    "seconds spent working.",
    "The filter takes words that must all hold: text, !text, field:value, field:>5, field:<5, field:=whole. "
    f"Fields: {', '.join(FIELDS)}.",
)


class HelpScreen(ModalScreen[None]):
    """A list of keys over the screen it explains."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter", "dismiss", "back", key_display="esc"),
    ]

    def __init__(self, keys: list[tuple[str, str]]) -> None:
        super().__init__()
        self.keys = keys

    @classmethod
    def of(cls, screen: Screen[None]) -> HelpScreen:
        """The help of a screen: every key of ours that works there now, its own before those of the table."""
        keys: dict[str, list[str]] = {}
        ours = [
            active for active in screen.active_bindings.values() if type(active.node).__module__.startswith("zoctools")
        ]
        for active in sorted(ours, key=lambda active: not isinstance(active.node, Screen)):
            binding = active.binding
            if binding.description:
                shown = screen.app.get_key_display(binding)
                keys.setdefault(binding.tooltip or binding.description, []).append(shown)
        return cls([(" ".join(dict.fromkeys(names)), what) for what, names in keys.items()])

    def compose(self) -> ComposeResult:
        """The keys, then what the table means."""
        grid = Grid.grid(padding=(0, 2))
        for names, what in self.keys:
            grid.add_row(Text(names, style="bold"), Text(what))
        with VerticalScroll():
            yield Static(grid)
            for words in _WORDS:
                yield Static(Text(f"\n{words}"), markup=False)
