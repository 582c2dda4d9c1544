"""What a step of the broker brings about, for those who carry it out."""

from __future__ import annotations

from dataclasses import dataclass, field

from zoctools.broker.messages import Message


@dataclass(frozen=True, slots=True)
class Handed:
    """A message handed to a consumer. `tag` names this one delivery when it is acknowledged."""

    connection: int
    subscription: str
    tag: int
    message: Message
    redelivered: bool


@dataclass(slots=True)
class Effects:
    """What has come about since it was last asked for.

    `stored` are persistent messages new to a store, by number; `removed` the numbers of those it can forget.
    """

    handed: list[Handed] = field(default_factory=list)
    stored: dict[int, Message] = field(default_factory=dict)
    removed: list[int] = field(default_factory=list)

    def store(self, message: Message) -> None:
        """Note a new message."""
        if message.persistent:
            self.stored[message.number] = message

    def remove(self, message: Message) -> None:
        """Note that a message is gone; a store need not learn of one that came and went."""
        if message.persistent and self.stored.pop(message.number, None) is None:
            self.removed.append(message.number)


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as a browser sees it."""

    message: Message
    redelivered: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What a browse saw: the first messages in order, how many fitted its selector, and `of` how many in all."""

    messages: tuple[Shown, ...]
    matching: int
    of: int
