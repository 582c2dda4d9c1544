"""The live screens: one application, ended cleanly by every signal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen

from zoctools.board import StatusBoard
from zoctools.errors import ExitCode, ZocError
from zoctools.listener import StatusListener
from zoctools.transport.contract import Transport
from zoctools.tui.screens.status import StatusScreen, Wanted


class ZocApp(App[None], inherit_bindings=False):
    """Shows a first screen until somebody has seen enough."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
    ]

    def __init__(self, first: Callable[[], Screen[None]]) -> None:
        super().__init__()
        self._first = first
        self.failure: ZocError | None = None

    def on_mount(self) -> None:
        """Leave the terminal as it was, whatever ends us; then show the first screen."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self.exit, None, 128 + number)
        self.push_screen(self._first())
        if self.failure is not None:
            self.exit(None, ExitCode.UNREACHABLE)

    def fail(self, error: ZocError) -> None:
        """End with an error, to be said once the terminal is back; may be called from any thread."""
        self.failure = error
        self.call_later(self.exit, None, ExitCode.UNREACHABLE)


def _end_with_the_terminal(failed: threading.ExceptHookArgs) -> None:
    """End at once when the thread that writes to the terminal fails: the terminal is gone, nothing can be restored.

    Textual would wait for that thread for ever, and the broker would go on sending to nobody.
    """
    if failed.thread is not None and failed.thread.name == "textual-output":
        os._exit(128 + signal.SIGHUP)
    threading.__excepthook__(failed)


def run_status(transport: Transport, title: str, broker: str, wanted: Wanted) -> int:
    """Show the live status screen until it is left; returns the exit code, raises `LoginRefused`.

    Log records nobody else takes are dropped: printed, they would stand across the screen, which says the same.
    """
    threading.excepthook = _end_with_the_terminal
    logging.getLogger("zoctools").addHandler(logging.NullHandler())
    board = StatusBoard()
    app = ZocApp(lambda: StatusScreen(board, title, wanted))
    listener = StatusListener(transport, board, broker, on_refused=app.fail)
    listener.start()
    try:
        app.run()
    finally:
        listener.stop()
    if app.failure is not None:
        raise app.failure
    return app.return_code or 0
