"""The live table, driven by its keys."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from support.fakestatus import AWKWARD, HOSTILE, headers_now, our_service, workflows_service, wrapper_task
from zoctools.board import StatusBoard
from zoctools.snapshot import Instance
from zoctools.transport.contract import Link
from zoctools.tui.app import ZocApp
from zoctools.tui.screens.detail import DetailScreen
from zoctools.tui.screens.help import HelpScreen
from zoctools.tui.screens.status import StatusScreen, Wanted
from zoctools.tui.widgets.table import Table

Play = Callable[["Stage"], Awaitable[None]]


class Stage:
    """A board, the screen that shows it, and somebody at the keys."""

    def __init__(self, wanted: Wanted = None) -> None:
        self.now = 1000.0
        self.board = StatusBoard(lambda: self.now)
        self.app = ZocApp(lambda: StatusScreen(self.board, "live (broker:61613)", wanted))
        self.pilot: Pilot[Any]

    def say(self, *messages: dict[str, Any] | bytes) -> None:
        for message in messages:
            self.board.feed(headers_now(), message if isinstance(message, bytes) else json.dumps(message).encode())

    def link(self, connected: bool, **more: Any) -> None:
        self.board.set_link(Link(connected, 1, "broker:61613", self.now, **more))

    @property
    def table(self) -> Table:
        return self.screen.query_one(Table)

    @property
    def screen(self) -> StatusScreen:
        return next(each for each in self.app.screen_stack if isinstance(each, StatusScreen))

    def text(self, selector: str) -> str:
        return str(self.app.screen.query_one(selector, Static).content)

    def lines(self) -> list[str]:
        return [self.table.render_line(y).text.rstrip() for y in range(self.table.size.height)]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.until(lambda: True)

    async def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            await self.pilot.pause()
            if condition():
                return
            assert time.monotonic() < deadline, (self.lines(), self.app.screen)
            await asyncio.sleep(0.02)

    def play(self, act: Play, size: tuple[int, int] = (100, 20)) -> None:
        async def run() -> None:
            async with self.app.run_test(size=size) as self.pilot:
                await act(self)

        asyncio.run(run())


def labels(stage: Stage) -> list[str]:
    return [row.label if isinstance(row, Instance) else f"GONE {row.name}" for row in stage.table.rows]


def test_rows_say_what_is_known() -> None:
    async def act(stage: Stage) -> None:
        stage.link(True)
        stage.say(workflows_service(), our_service(waiting_for="mail server"), wrapper_task())
        await stage.until(lambda: len(stage.table.rows) == 3)
        title, *lines = (line.split() for line in stage.lines())
        assert title == ["SERVICE/TASK▲", "HOST", "STATE", "HEARD", "BUSY", "VERSION", "WAITS", "FOR"]
        assert lines[0] == ["Dispatcher", "node7.2245", "processing", "0", "s", "75%", "1.6.0"]
        assert lines[1] == ["dummy", "vm.2569", "processing", "0", "s", "1.6.0"]
        assert lines[2] == ["Mailer", "node9.77", "waiting", "0", "s", "0%", "0.1.0", "mail", "server"]
        await stage.until(lambda: stage.text("#summary") == "2 services · 1 task · 2 working · 1 not settled")
        assert stage.text("#where") == "zoc status · live (broker:61613)"
        assert stage.text("#link") == "connected"

    Stage().play(act)


def test_an_empty_board_explains_itself() -> None:
    async def act(stage: Stage) -> None:
        stage.link(False, attempt=3, next_try=time.monotonic() + 30, error="connection refused")
        await stage.until(lambda: "attempt 3, next try in" in stage.text("#link"))
        assert "Connecting to broker:61613" in " ".join(stage.lines())
        assert "connection refused" in " ".join(stage.lines())
        stage.link(True)
        await stage.until(lambda: "Nobody has spoken yet" in " ".join(stage.lines()))

    Stage().play(act)


def test_typing_filters_at_once_and_escape_ends_it() -> None:
    async def act(stage: Stage) -> None:
        stage.say(*(workflows_service(f"a.n{number}.{number}", f"Service{number}") for number in range(12)))
        await stage.until(lambda: len(stage.table.rows) == 12)
        await stage.press("slash", *"host:n1 !n10")
        await stage.until(lambda: labels(stage) == ["Service1", "Service11"])
        await stage.press("enter")
        assert stage.app.focused is stage.table
        assert "2 of 12 match host:n1 !n10" in stage.text("#note")
        await stage.press("slash", *' "wor')
        await stage.until(lambda: "double quote that is not closed" in stage.text("#note"))
        await stage.press("enter")
        assert stage.screen.query_one(Input).display
        assert "double quote that is not closed" in stage.text("#note")
        assert labels(stage) == ["Service1", "Service11"]
        await stage.press("escape")
        await stage.until(lambda: len(stage.table.rows) == 12)
        assert not stage.screen.query_one(Input).display

    Stage().play(act)


def test_keys_and_titles_sort() -> None:
    async def act(stage: Stage) -> None:
        for number, busy in enumerate((0.2, 0.9, 0.5)):
            stage.say(
                workflows_service(f"a.n{number}.1", f"S{number}", utilization={"4": busy}, status=(2, 7, 4)[number])
            )
        await stage.until(lambda: labels(stage) == ["S0", "S1", "S2"])
        for keys, expected in (
            ("B", ["S1", "S2", "S0"]),
            ("r", ["S0", "S2", "S1"]),
            ("S", ["S1", "S2", "S0"]),
            ("N", ["S0", "S1", "S2"]),
            ("N", ["S2", "S1", "S0"]),
            ("greater_than_sign", ["S0", "S1", "S2"]),
            ("less_than_sign", ["S0", "S1", "S2"]),
        ):
            await stage.press(keys)
            assert labels(stage) == expected, keys
        at = stage.lines()[0].index("BUSY") + 1
        await stage.pilot.click(Table, offset=(at, 0))
        await stage.until(lambda: labels(stage) == ["S1", "S2", "S0"])

    Stage().play(act)


def test_the_cursor_stays_on_its_row_and_everything_can_be_reached() -> None:
    async def act(stage: Stage) -> None:
        stage.say(*(workflows_service(f"a.n{number}.1", f"Service{number:03}") for number in range(0, 400, 2)))
        await stage.until(lambda: len(stage.table.rows) == 200)
        await stage.press("end")
        assert stage.table.row.label == "Service398"
        assert any("Service398" in line for line in stage.lines())
        await stage.press("home", "down", "down")
        assert stage.table.row.label == "Service004"
        stage.say(workflows_service("a.n1.1", "Service001"), workflows_service("a.n3.1", "Service003"))
        await stage.until(lambda: len(stage.table.rows) == 202)
        assert stage.table.row.label == "Service004"
        await stage.press("pagedown")
        assert any(stage.table.row.label in line for line in stage.lines())

    Stage().play(act)


def test_pause_holds_the_picture_and_counts_what_is_held_back() -> None:
    async def act(stage: Stage) -> None:
        stage.say(workflows_service())
        await stage.until(lambda: len(stage.table.rows) == 1)
        await stage.press("p")
        stage.say(our_service())
        await stage.until(lambda: "1 broadcast held back" in stage.text("#note"))
        assert len(stage.table.rows) == 1
        await stage.press("p")
        await stage.until(lambda: len(stage.table.rows) == 2)
        assert "PAUSED" not in stage.text("#note")

    Stage().play(act)


def test_the_detail_shows_every_field_as_it_was_sent() -> None:
    async def act(stage: Stage) -> None:
        stage.say(workflows_service(extra={"deep": [1, "\x1b[2J"]}))
        await stage.until(lambda: len(stage.table.rows) == 1)
        await stage.press("enter")
        await stage.until(lambda: isinstance(stage.app.screen, DetailScreen))
        shown = stage.text("#fields")
        assert "state              processing" in shown
        assert "tag                mytag" in shown
        assert '{"deep": [1, "\\u001b[2J"]}' in shown
        await stage.press("escape")
        assert isinstance(stage.app.screen, StatusScreen)

    Stage().play(act)


def test_nothing_dead_looks_healthy() -> None:
    async def act(stage: Stage) -> None:
        stage.link(True)
        stage.say(workflows_service("a.n1.1"), our_service())
        await stage.until(lambda: len(stage.table.rows) == 2)
        stage.now += 30
        stage.say(our_service())
        await stage.until(lambda: "silent" in stage.lines()[1])
        stage.now += 70
        stage.say(our_service())
        await stage.until(lambda: labels(stage) == ["GONE Dispatcher", "Mailer"])
        assert "0 of 1" in stage.lines()[1]
        assert stage.text("#summary").startswith("MISSING  Dispatcher 0 of 1, last ")
        await stage.press("enter")
        await stage.until(lambda: isinstance(stage.app.screen, DetailScreen))
        assert "none of 1 left" in stage.text("#fields")
        await stage.press("escape", "x")
        await stage.until(lambda: labels(stage) == ["Mailer"])

    Stage().play(act)


def test_while_our_link_is_down_rows_are_unknown_and_do_not_age() -> None:
    async def act(stage: Stage) -> None:
        stage.link(True)
        stage.say(workflows_service())
        await stage.until(lambda: len(stage.table.rows) == 1)
        stage.link(False, attempt=2, next_try=time.monotonic() + 30)
        stage.now += 500
        await stage.until(lambda: " unknown " in stage.lines()[1])
        assert " 0 s " in stage.lines()[1]
        assert "OUR LINK IS DOWN: nothing is known since" in stage.text("#note")
        assert "reconnecting: attempt 2" in stage.text("#link")

    Stage().play(act)


def test_hostile_broadcasts_make_safe_rows_or_are_counted() -> None:
    async def act(stage: Stage) -> None:
        stage.say(*HOSTILE, *AWKWARD)
        await stage.until(lambda: len(stage.table.rows) == len(AWKWARD))
        assert "".join(stage.lines()).isprintable()
        await stage.until(lambda: f"{len(HOSTILE)} malformed" in stage.text("#summary"))
        for _ in AWKWARD:
            await stage.press("enter")
            await stage.until(lambda: isinstance(stage.app.screen, DetailScreen))
            assert stage.text("#fields").replace("\n", "").isprintable()
            await stage.press("escape", "down")

    Stage().play(act)


def test_the_help_is_made_of_the_keys_that_work() -> None:
    async def act(stage: Stage) -> None:
        await stage.press("question_mark")
        assert isinstance(stage.app.screen, HelpScreen)
        explained = dict(stage.app.screen.keys)
        assert explained["p"] == "hold the picture still, or let it go"
        assert explained["end G"] == "last row"
        assert {"N", "H", "S", "A", "B", "V", "W", "x", "/"} <= set(explained)
        await stage.press("escape")
        assert isinstance(stage.app.screen, StatusScreen)

    Stage().play(act)


def test_options_of_the_command_line_hold_in_the_screen() -> None:
    async def act(stage: Stage) -> None:
        stage.say(workflows_service(), our_service())
        await stage.until(lambda: labels(stage) == ["Mailer"])

    Stage(wanted=lambda row: row["class"] == "Mailer").play(act)


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
def test_one_key_quits(key: str) -> None:
    async def act(stage: Stage) -> None:
        await stage.pilot.press(key)
        await stage.until(lambda: stage.app.return_code is not None)

    stage = Stage()
    stage.play(act)
    assert stage.app.return_code == 0


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (40, 12), (10, 3)])
def test_every_size_has_its_lines(size: tuple[int, int]) -> None:
    async def act(stage: Stage) -> None:
        stage.say(workflows_service())
        await stage.until(lambda: len(stage.table.rows) == 1)
        assert all(stage.table.render_line(y).cell_length == stage.table.size.width for y in range(3))

    Stage().play(act, size)


def test_a_status_message_draws_nothing() -> None:
    async def act(stage: Stage) -> None:
        stage.say(*(workflows_service(f"a.n{number}.1") for number in range(100)))
        await stage.until(lambda: len(stage.table.rows) == 100)
        await stage.press("p")
        await stage.until(lambda: "PAUSED" in stage.text("#note"))
        painted: list[int] = []
        original = stage.table.render_line
        stage.table.render_line = lambda y: (painted.append(y), original(y))[1]  # type: ignore[method-assign]
        stage.say(*(workflows_service(f"a.n{number}.1", status=2) for number in range(100)))
        heard = stage.board.snapshot(()).counts.heard
        await stage.until(lambda: "100 broadcasts held back" in stage.text("#note"))
        assert heard == 200
        assert painted == []

    Stage().play(act)
