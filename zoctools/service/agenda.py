"""What is to be done at which time; the clock is whoever asks."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[], None]


class Agenda:
    """Actions in the order of their time; equal times in the order they were entered."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def at(self, due: float, action: Action) -> None:
        """Enter an action."""
        heapq.heappush(self._entries, (due, next(self._order), action))

    def next_due(self) -> float | None:
        """Return the time of the first action; None without any."""
        return self._entries[0][0] if self._entries else None

    def take(self, now: float) -> Action | None:
        """Take out the first action whose time has come; None when there is none."""
        if self._entries and self._entries[0][0] <= now:
            return heapq.heappop(self._entries)[2]
        return None
