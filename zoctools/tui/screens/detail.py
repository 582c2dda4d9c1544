"""One service or task: everything it said, kept up to date."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from zoctools.board import StatusBoard
from zoctools.snapshot import Instance, ServiceClass, Snapshot
from zoctools.text import duration, one_line
from zoctools.tui.rows import Row, link_words
from zoctools.tui.widgets.title import TitleBar

MAX_VALUE = 2_000


class DetailScreen(Screen[None], inherit_bindings=False):
    """All fields of one row."""

    CSS_PATH = "detail.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,backspace", "dismiss", "back", key_display="esc"),
        Binding("down,j", "scroll(1)", "down", show=False),
        Binding("up,k", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, board: StatusBoard, shot: Snapshot, row: Row) -> None:
        super().__init__()
        self._board = board
        self._shot = shot
        self._row = row
        self._here = True

    def compose(self) -> ComposeResult:
        """The name, and the fields below it."""
        yield TitleBar()
        with VerticalScroll():
            yield Static(id="fields", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to repaint."""
        self.set_interval(1.0, self._tick)
        self._tick()

    def action_scroll(self, by: int) -> None:
        """Scroll by some lines."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def _tick(self) -> None:
        row = self._row
        if isinstance(row, Instance):
            self._shot = self._board.snapshot([row.host])
            self._here = bool(self._shot.instances)
            row = self._row = self._shot.instances[0] if self._here else row
        name = row.label if isinstance(row, Instance) else row.name
        link = self._board.snapshot(()).link
        self.query_one(TitleBar).show(name or "(no service)", *link_words(link, time.monotonic()))
        lines = Text()
        for field, value in self._class_lines(row) if isinstance(row, ServiceClass) else self._lines(row):
            lines.append(f"{one_line(field, 40):<18} ", "bold").append(f"{one_line(value, MAX_VALUE)}\n")
        self.query_one("#fields", Static).update(lines)

    def _lines(self, row: Instance) -> Iterator[tuple[str, str]]:
        """First what we know of it, then every field as it was sent."""
        shot, said = self._shot, row.said
        if not self._here:
            yield "NO LONGER HERE", "silent for too long, or it said goodbye; this is the last it said"
        yield "state", f"{shot.word(row)} for {duration(shot.now - row.state_since)}"
        yield "heard", f"{duration(shot.age(row))} ago, for the first time {duration(shot.now - row.first_heard)} ago"
        if row.skew is not None:
            yield "clock", f"{duration(abs(row.skew))} {'ahead of' if row.skew > 0 else 'behind'} the broker's"
        if said.busy is not None:
            yield "busy", f"{100 * said.busy:.1f} %"
        yield "", ""
        for field, value in row.fields().items():
            yield field, value if isinstance(value, str) else json.dumps(value)

    def _class_lines(self, row: ServiceClass) -> Iterator[tuple[str, str]]:
        yield "state", f"GONE: none of {row.most} left"
        yield "last heard", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.last_heard))
        yield "", "x in the table accepts that it is gone"
