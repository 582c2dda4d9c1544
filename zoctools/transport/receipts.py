"""Receipts: who waits for which, and what became of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence


class Receipts:
    """Receipts somebody waits for: over when the last one is in, at the first refusal, or with the link."""

    __slots__ = ("_left", "_over", "lost", "names", "refusal")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.refusal = ""
        self.lost = ""
        self._left = len(names)
        self._over = threading.Lock()
        self._over.acquire()

    def confirm(self) -> None:
        """One is in."""
        self._left -= 1
        if self._left == 0:
            self._end()

    def refuse(self, words: str) -> None:
        """The broker refused what one of them was asked for."""
        self.refusal = self.refusal or words
        self._end()

    def lose(self, words: str) -> None:
        """The link went."""
        self.lost = words
        self._end()

    def wait(self, timeout: float) -> bool:
        """Return whether anything came of it in time; to be called once."""
        return self._over.acquire(timeout=timeout)

    def _end(self) -> None:
        try:
            self._over.release()
        except RuntimeError:
            return  # somebody else ended it, and whoever waited has gone on


class Desk:
    """Every receipt asked for over one transport. Names are never used twice, so a late answer finds nobody."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Receipts] = {}
        self._changing = threading.Lock()

    def name(self, kind: str) -> str:
        """A new name for a receipt or a transaction: ``tx-17``."""
        return f"{kind}-{next(self._numbers)}"

    def expect(self, names: Sequence[str]) -> Receipts:
        """Wait for these from now on."""
        receipts = Receipts(names)
        with self._changing:
            for name in names:
                self._waiting[name] = receipts
        return receipts

    def forget(self, receipts: Receipts) -> None:
        """Nobody waits for these any more."""
        with self._changing:
            for name in receipts.names:
                self._waiting.pop(name, None)

    def confirmed(self, name: str) -> None:
        """A receipt came."""
        receipts = self._waiting.pop(name, None)
        if receipts is not None:
            receipts.confirm()

    def refused(self, name: str, words: str) -> None:
        """An error came instead of a receipt."""
        receipts = self._waiting.pop(name, None)
        if receipts is not None:
            receipts.refuse(words)

    def lose_all(self, words: str) -> None:
        """The link went, and every answer with it."""
        with self._changing:
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for receipts in waiting:
            receipts.lose(words)
