"""The table of all services and tasks: the first screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from zoctools.board import StatusBoard
from zoctools.errors import UsageError
from zoctools.snapshot import FIELDS, Instance, Snapshot
from zoctools.text import count, duration, one_line
from zoctools.tui import rows
from zoctools.tui.screens.detail import DetailScreen
from zoctools.tui.screens.help import HelpScreen
from zoctools.tui.widgets.table import Table
from zoctools.tui.widgets.title import TitleBar
from zoctools.where import Value, Where

REPAINTS_PER_SECOND = 4
COUNT_EVERY = 1.0
"""Seconds between two counts of who does what: that looks at every row, seen or not."""

Wanted = Callable[[Mapping[str, Value]], bool] | None
"""Whether a row, given as field to value, may be shown at all; None shows all."""


class StatusScreen(Screen[None], inherit_bindings=False):
    """Rows of the board, filtered, sorted, repainted by one timer; broadcasts themselves draw nothing."""

    CSS_PATH = "status.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash", "filter", "filter", key_display="/", tooltip="show only what matches; typed words filter at once"
        ),
        Binding("escape", "back", "leave out the filter", show=False),
        Binding(
            "less_than_sign", "column(-1)", "sort", key_display="< >", tooltip="sort by the column to the left or right"
        ),
        Binding("greater_than_sign", "column(1)", show=False),
        Binding("r", "turn", "turn", tooltip="turn the order round"),
        Binding("N", "sort('name')", "sort by name", show=False),
        Binding("H", "sort('host')", "sort by host", show=False),
        Binding("S", "sort('state')", "sort by state, worst first", show=False),
        Binding("A", "sort('age')", "sort by age", show=False),
        Binding("B", "sort('busy')", "sort by busy", show=False),
        Binding("V", "sort('version')", "sort by version", show=False),
        Binding("W", "sort('waits')", "sort by what is waited for", show=False),
        Binding("p", "pause", "pause", tooltip="hold the picture still, or let it go"),
        Binding("x", "accept", "accept what is missing", show=False),
        Binding("question_mark", "help", "help", key_display="?"),
    ]

    def __init__(self, board: StatusBoard, title: str, wanted: Wanted) -> None:
        super().__init__()
        self._board = board
        self._title = title
        self._wanted = wanted
        self._where = Where()
        self._expression = ""
        self._complaint = ""
        self._order = rows.Order()
        self._paused: Snapshot | None = None
        self._paused_since = 0.0
        self._shot = board.snapshot()
        self._counted = ""
        self._counted_at = 0.0
        self._began = time.monotonic()

    def compose(self) -> ComposeResult:
        """One line of title, one of summary, the table, the filter while it is typed, the keys."""
        yield TitleBar()
        yield Static(id="summary", markup=False)
        yield Table(rows.COLUMNS, rows.key, lambda row: rows.cells(self._shot, row))
        yield Static(id="note", markup=False)
        yield Input(
            id="filter", placeholder="text  !text  field:value  field:>number", compact=True, select_on_focus=False
        )
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to repaint."""
        self.query_one(Table).focus()
        self.set_interval(1 / REPAINTS_PER_SECOND, self._tick)
        self._tick()

    def on_screen_resume(self) -> None:
        """Catch up after another screen was in front."""
        self._tick()

    def action_filter(self) -> None:
        """Type a filter; what is typed filters at once."""
        box = self.query_one("#filter", Input)
        box.display = True
        box.value = self._expression
        box.cursor_position = len(self._expression)
        box.focus()

    def action_back(self) -> None:
        """Leave out the filter."""
        self._set_filter("")
        self._close_filter()

    def action_sort(self, column: str) -> None:
        """Sort by a column, or turn the order round when it sorts already."""
        self._sort(self._order.by(column))

    def action_column(self, step: int) -> None:
        """Sort by the next column."""
        self._sort(self._order.next(step))

    def action_turn(self) -> None:
        """Turn the order round."""
        self.action_sort(self._order.column)

    def action_pause(self) -> None:
        """Hold the picture still, while the board goes on; or let it go."""
        self._paused = None if self._paused else self._board.snapshot()
        self._paused_since = time.monotonic()
        self._tick()

    def action_accept(self) -> None:
        """Take the present counts as all there should be."""
        self._board.accept_losses()
        self._tick()

    def action_help(self) -> None:
        """Explain the keys that work here."""
        self.app.push_screen(HelpScreen.of(self))

    @on(Input.Changed, "#filter")
    def _filter_typed(self, event: Input.Changed) -> None:
        self._set_filter(event.value)

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        """Keep the filter; one that makes no sense stays open with what is wrong with it."""
        if not self._complaint:
            self._close_filter()

    @on(Table.Chosen)
    def _row_chosen(self, event: Table.Chosen) -> None:
        self.app.push_screen(DetailScreen(self._board, self._shot, event.row))

    @on(Table.TitlePressed)
    def _title_pressed(self, event: Table.TitlePressed) -> None:
        self.action_sort(event.column)

    def _sort(self, order: rows.Order) -> None:
        self._order = order
        self.query_one(Table).go_to_top()
        self._tick()

    def _set_filter(self, expression: str) -> None:
        """Filter by an expression; while it makes no sense yet, the last one that did stays."""
        self._expression = expression
        try:
            self._where, self._complaint = Where.parse(expression, FIELDS), ""
        except UsageError as error:
            self._complaint = error.message
        self._tick()

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self.query_one(Table).focus()

    def _tick(self) -> None:
        """Take the board as it is and paint what changed."""
        if not self.is_current:
            return
        live = self._board.snapshot(()) if self._paused else self._board.snapshot()
        self._shot = self._paused or live
        if time.monotonic() - self._counted_at >= COUNT_EVERY:
            self._counted, self._counted_at = rows.counts_words(self._shot), time.monotonic()
        shown = self._rows()
        table = self.query_one(Table)
        table.mark({self._order.column: "▼" if self._order.falling else "▲"})
        table.show(shown, self._empty_words(live))
        self.query_one(TitleBar).show(self._title, *rows.link_words(live.link, time.monotonic()))
        self._set("#summary", self._summary())
        self._set("#note", self._note(live, shown))

    def _rows(self) -> Sequence[rows.Row]:
        shot = self._shot
        gone = [loss for loss in shot.missing if not loss.here]
        if self._wanted is None and not self._where.terms:
            return [*gone, *self._order.sorted(shot, shot.instances)]
        picked = [row for row in shot.instances if self._matches(shot.record(row))]
        gone = [loss for loss in gone if self._matches(shot.class_record(loss))]
        return [*gone, *self._order.sorted(shot, picked)]

    def _matches(self, record: Mapping[str, Value]) -> bool:
        return (self._wanted is None or self._wanted(record)) and self._where.matches(record)

    def _summary(self) -> Text:
        missing = rows.missing_words(self._shot)
        if missing:
            return Text(one_line(missing, 400), style=self._style("error"))
        return Text(self._counted)

    def _note(self, live: Snapshot, shown: Sequence[rows.Row]) -> Text:
        """The line below the table: what keeps it from showing everything as it is now."""
        words: list[tuple[str, str]] = []
        if live.lost_at is not None:
            since = time.strftime("%H:%M:%S", time.localtime(live.lost_at))
            words.append((f"OUR LINK IS DOWN: nothing is known since {since}", "error"))
        if self._paused:
            behind = live.counts.heard - self._paused.counts.heard
            still = duration(time.monotonic() - self._paused_since)
            words.append((f"PAUSED {still}, {count(behind, 'broadcast')} held back", "warning"))
        if self._complaint:
            words.append((self._complaint, "warning"))
        elif self._expression:
            instances = sum(isinstance(row, Instance) for row in shown)
            words.append((f"{instances} of {len(self._shot.instances)} match {self._expression}", "primary"))
        if self.query_one("#filter").display:
            words.append(("enter keeps the filter, esc leaves it out", ""))
        if rows.missing_words(self._shot):
            words.append((f"{self._counted} · x accepts what is missing", ""))
        if not words and live.link is not None and live.link.error and not live.link.connected:
            words.append((live.link.error, "error"))
        line = Text(no_wrap=True, overflow="ellipsis")
        for number, (what, style) in enumerate(words):
            line.append("  ·  " if number else "").append(one_line(what, 300), self._style(style))
        return line

    def _empty_words(self, live: Snapshot) -> tuple[str, ...]:
        """What stands in an empty table: why it is empty, and what to do."""
        if live.instances and self._paused is None:
            return (f"No row matches; {count(len(live.instances), 'row')} hidden.", "esc leaves out the filter.")
        link = live.link
        if link is None or not link.connected:
            broker = link.broker if link else "the broker"
            why = f"It says: {link.error}" if link and link.error else ""
            return (f"Connecting to {broker} …", why, "We go on trying; q quits.")
        waited = duration(time.monotonic() - self._began)
        return (
            "Nobody has spoken yet.",
            f"Every running service says what it does at least every 6 s; we have listened for {waited}.",
            "Is this the right environment? Its name and broker stand in the title; 'zoc doctor' looks further.",
        )

    def _style(self, name: str) -> Style:
        """A style of the theme: ``error``, ``warning``, ``primary``, or nothing."""
        return Style(color=self.app.theme_variables[f"text-{name}"], bold=True) if name else Style()

    def _set(self, selector: str, text: Text) -> None:
        """Change a line only when it says something else."""
        line = self.query_one(selector, Static)
        if line.content != text:
            line.update(text, layout=False)
