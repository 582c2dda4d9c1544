"""A table of any length: only the lines in view are ever made, and only those that changed are painted.

Textual's own table repaints itself whole for each cell that changes, and reads what it shows as markup. This one
draws line by line, cleans all text, and keeps its cursor on the row, not on the line, whatever the rows do.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from zoctools.text import one_line


@dataclass(frozen=True, slots=True)
class Column:
    """A column at least `width` wide; of the space that is left it takes its part `grow`.

    It is left out where the whole table is narrower than `needs`.
    """

    key: str
    title: str
    width: int
    grow: int = 0
    right: bool = False
    needs: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell; `look` is one of `Table.LOOKS`."""

    text: str
    look: str = ""


class Table(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows of anything: `key` names a row, `cells` says what to show of it; both are asked only when needed."""

    LOOKS: ClassVar = ("good", "quiet", "warn", "bad", "gone", "strong")
    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--header", "table--cursor", *(f"table--{look}" for look in LOOKS)}
    DEFAULT_CSS = """
    Table { height: 1fr; scrollbar-size-horizontal: 0; background: $background; color: $foreground; }
    Table > .table--header { background: $panel; color: $foreground; text-style: bold; }
    Table > .table--cursor { background: $primary 35%; }
    Table:focus > .table--cursor { background: $primary 60%; }
    Table > .table--good { color: $text-success; text-style: bold; }
    Table > .table--quiet { color: $foreground; }
    Table > .table--warn { color: $text-warning; }
    Table > .table--bad { color: $text-error; text-style: bold; }
    Table > .table--gone { color: $foreground; text-style: dim; }
    Table > .table--strong { text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "one row up", show=False),
        Binding("down,j", "move(1)", "one row down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "one page up", show=False),
        Binding("pagedown,ctrl+f,space", "page(1)", "one page down", show=False),
        Binding("home,g", "edge(0)", "first row", show=False),
        Binding("end,G", "edge(1)", "last row", show=False),
        Binding("enter", "choose", "detail"),
    ]

    class Chosen(Message):
        """A row was opened."""

        def __init__(self, row: Any) -> None:
            super().__init__()
            self.row = row

    class TitlePressed(Message):
        """The title of a column was clicked."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(
        self,
        columns: Sequence[Column],
        key: Callable[[Any], str],
        cells: Callable[[Any], Sequence[Cell]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._columns = tuple(columns)
        self._widths = tuple(column.width for column in columns)
        self._key = key
        self._cells = cells
        self._rows: Sequence[Any] = ()
        self._cursor = 0
        self._cursor_key = ""
        self._marks: dict[str, str] = {}
        self._empty: tuple[str, ...] = ()
        self._painted: dict[int, object] = {}

    @property
    def row(self) -> Any:
        """The row under the cursor; None in an empty table."""
        return self._rows[self._cursor] if self._rows else None

    @property
    def rows(self) -> Sequence[Any]:
        """All rows, seen or not."""
        return self._rows

    def show(self, rows: Sequence[Any], empty: Sequence[str] = ()) -> None:
        """Show these rows, or the lines of `empty` when there are none; the cursor stays on its row."""
        longer_or_shorter = len(rows) != len(self._rows)
        self._rows, self._empty = rows, tuple(empty)
        self._follow_cursor()
        if longer_or_shorter:
            self.virtual_size = Size(self.size.width, len(rows) + 1)
        self._paint_changes()

    def go_to_top(self) -> None:
        """Put the cursor on the first row, whichever that will be."""
        self._cursor, self._cursor_key = 0, ""
        self.scroll_to(y=0, animate=False, immediate=True)

    def mark(self, marks: dict[str, str]) -> None:
        """Put a sign behind the titles of some columns: which one sorts, and which way."""
        if marks != self._marks:
            self._marks = marks
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Make one line of what is in view."""
        width = self.size.width
        self._painted[y] = self._content(y)
        if y == 0:
            return self._title_line(width)
        index = self.scroll_offset.y + y - 1
        if index < len(self._rows):
            return self._row_line(index, width)
        return self._empty_line(y, width)

    def on_resize(self, event: events.Resize) -> None:
        """Give the columns their widths."""
        shown = [column for column in self._columns if event.size.width >= column.needs]
        free = max(event.size.width - sum(column.width for column in shown) - len(shown), 0)
        parts = sum(column.grow for column in shown) or 1
        self._widths = tuple(
            column.width + free * column.grow // parts if column in shown else 0 for column in self._columns
        )
        self.virtual_size = Size(event.size.width, len(self._rows) + 1)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor, open a row with the second click, or report a title."""
        if event.y == 0:
            self.post_message(self.TitlePressed(self._column_at(event.x)))
            return
        index = self.scroll_offset.y + event.y - 1
        if index < len(self._rows):
            self._move_to(index)
            if event.chain > 1:
                self.action_choose()

    def action_move(self, by: int) -> None:
        """Move the cursor by some rows."""
        self._move_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by some pages."""
        self._move_to(self._cursor + by * max(self.size.height - 2, 1))

    def action_edge(self, which: int) -> None:
        """Move the cursor to the last row, or to the top, where it stays whichever row comes first."""
        if which:
            self._move_to(len(self._rows))
        else:
            self.go_to_top()
            self._paint_changes()

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self._rows:
            self.post_message(self.Chosen(self.row))

    def _follow_cursor(self) -> None:
        """Find the row the cursor was put on; when it is gone, or was never chosen, stay on the line."""
        if not self._rows:
            self._cursor = 0
            return
        self._cursor = min(self._cursor, len(self._rows) - 1)
        if self._cursor_key and self._key(self._rows[self._cursor]) != self._cursor_key:
            found = next((at for at, row in enumerate(self._rows) if self._key(row) == self._cursor_key), None)
            if found is not None:
                top = self.scroll_offset.y
                inside = top <= self._cursor < top + self.size.height - 1
                self._cursor = found
                if inside:
                    self._reveal()
            else:
                self._cursor_key = self._key(self._rows[self._cursor])

    def _move_to(self, index: int) -> None:
        if not self._rows:
            return
        self._cursor = min(max(index, 0), len(self._rows) - 1)
        self._cursor_key = self._key(self._rows[self._cursor])
        self._reveal()
        self._paint_changes()

    def _reveal(self) -> None:
        """Scroll so that the cursor is in view."""
        height = max(self.size.height - 1, 1)
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False, immediate=True)

    def _paint_changes(self) -> None:
        lines = [y for y in range(self.size.height) if self._painted.get(y) != self._content(y)]
        if lines:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in lines))

    def _content(self, y: int) -> object:
        """What decides how a line looks."""
        index = self.scroll_offset.y + y - 1
        if y == 0:
            return None
        if index < len(self._rows):
            return index == self._cursor, tuple(self._cells(self._rows[index]))
        return self._empty if not self._rows else None

    def _title_line(self, width: int) -> Strip:
        style = self.get_component_rich_style("table--header")
        titles = [column.title + self._marks.get(column.key, "") for column in self._columns]
        return self._line([Cell(title) for title in titles], style, width)

    def _row_line(self, index: int, width: int) -> Strip:
        base = self.rich_style
        if index == self._cursor:
            base += self.get_component_rich_style("table--cursor")
        return self._line(self._cells(self._rows[index]), base, width)

    def _line(self, cells: Sequence[Cell], base: Style, width: int) -> Strip:
        segments = []
        for column, size, cell in zip(self._columns, self._widths, cells, strict=True):
            if not size:
                continue
            shown = fit(one_line(cell.text, 4 * size), size, column.right)
            style = base
            if cell.look:
                look = self.get_component_rich_style(f"table--{cell.look}", partial=True)
                style = base + Style(color=look.color, bold=look.bold, dim=look.dim)
            segments.append(Segment(f"{shown} ", style))
        return Strip(segments).adjust_cell_length(width, base)

    def _empty_line(self, y: int, width: int) -> Strip:
        lines: list[str] = []
        if not self._rows:
            for words in self._empty:
                lines += textwrap.wrap(one_line(words, 1000), max(width - 4, 10))
        words = lines[y - 2] if 0 <= y - 2 < len(lines) else ""
        return Strip([Segment(f"  {words}", self.rich_style)]).adjust_cell_length(width, self.rich_style)

    def _column_at(self, x: int) -> str:
        for column, size in zip(self._columns, self._widths, strict=True):
            if size and x <= size:
                return column.key
            x -= size + 1 if size else 0
        return self._columns[-1].key


def fit(text: str, width: int, right: bool = False) -> str:
    """Return `text` in exactly `width` terminal cells, cut with an ellipsis or filled with spaces."""
    cells = cell_len(text)
    if cells > width:
        return set_cell_size(text, width - 1) + "…" if width else ""
    space = " " * (width - cells)
    return space + text if right else text + space
