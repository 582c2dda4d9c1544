"""Looking into a queue without taking anything out, in as many rounds as it takes.

ActiveMQ ends a browse after 400 messages, or earlier when its memory is short. A next round asks for messages not
older than the last one seen; rounds go on until one shows nothing new. That is no proof of having seen everything
(2431 of 5000 messages of 20 kB, once), so the size of the queue is asked for as well.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from zoctools.broker.frames import Frame, encode
from zoctools.errors import LinkLost, SendRefused, TimedOut
from zoctools.transport.contract import Browsed, Delivery, Destination, Subscription
from zoctools.transport.session import Session
from zoctools.transport.wire import Wire

MOST_ROUNDS = 1000
FIGURES_WITHIN = 2.0
"""Seconds a broker has to tell its figures; the first time it has to load code."""
MISSING_WITHIN = 0.5
"""Seconds after which a broker that tells figures has none for a queue: it does not exist yet."""


STATISTICS = "/topic/ActiveMQ.Statistics."
"""Where ActiveMQ's statistics plug-in is asked. It answers what is sent to a queue of that name as well; but on a
broker without the plug-in that queue would come into being and keep the question, where a topic forgets it."""

_log = logging.getLogger("zoctools.transport")


class Answer:
    """One message somebody waits for."""

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self._lost = ""
        self._done = threading.Event()

    def take(self, frame: Frame) -> None:
        """Take it; called on the receiver thread."""
        self.frame = frame
        self._done.set()

    def lose(self, words: str) -> None:
        """The link went."""
        self._lost = words
        self._done.set()

    def wait(self, timeout: float) -> Frame | None:
        """Return it, or None when it does not come in time; raises `LinkLost`."""
        self._done.wait(timeout)
        if self._lost:
            raise LinkLost(self._lost)
        return self.frame


class Browse:
    """One round: collects messages until the broker says that it has shown them, or there are enough."""

    def __init__(self, subscription: Subscription, limit: int) -> None:
        self.messages: list[Delivery] = []
        self.ended = False
        self._subscription = subscription
        self._limit = limit
        self._lost = ""
        self._done = threading.Event()

    def take(self, frame: Frame) -> None:
        """Take a frame of the browse; called on the receiver thread."""
        if frame.headers.get("browser") == "end":
            self.ended = True
            self._done.set()
        elif len(self.messages) < self._limit:
            subscription = self._subscription
            identity = frame.headers.get("message-id", "")
            self.messages.append(Delivery(subscription, identity, subscription.destination, frame.headers, frame.body))
        else:
            self._done.set()

    def lose(self, words: str) -> None:
        """The link went."""
        self._lost = words
        self._done.set()

    def wait(self, timeout: float) -> None:
        """Wait for the end; raises `LinkLost` or `TimedOut`."""
        if not self._done.wait(timeout):
            raise TimedOut(f"the broker did not finish showing {self._subscription.destination}")
        if self._lost:
            raise LinkLost(self._lost)


class Looks:
    """The looks going on over one link."""

    def __init__(self, session: Session, new_subscription: Callable[[], int], timeout: float) -> None:
        self._session = session
        self._new_subscription = new_subscription
        self._timeout = timeout
        self._open: dict[str, Browse | Answer] = {}
        self._tells_figures: bool | None = None

    # called by the receiver thread

    def take(self, identity: str, frame: Frame) -> bool:
        """Hand a message to the look it is for; returns whether there is one."""
        look = self._open.get(identity)
        if look is not None:
            look.take(frame)
        return look is not None

    def lose(self, words: str) -> None:
        """The link went."""
        for look in list(self._open.values()):
            look.lose(words)

    # called by whoever looks

    def browse(self, destination: Destination, selector: str, limit: int) -> Browsed:
        """Look until a round shows nothing new, or at `limit` messages.

        Complete is what saw as many messages as the queue held before and holds after. How many a selector picks
        nobody tells, so what was seen through one is complete only in an empty queue.
        """
        before = self._figures(destination, MISSING_WITHIN)
        shown = tuple(self._rounds(destination, selector.strip(), limit).values())[:limit]
        after = self._figures(destination, FIGURES_WITHIN)
        if "size" not in after:
            return Browsed(shown, len(shown), None, False)
        of = max(before.get("size", 0), after["size"])
        # Of a queue that came into being meanwhile, nothing may have been taken.
        certain = "size" in before or after.get("dequeueCount") == 0
        complete = certain and (of == 0 or (len(shown) >= of and not selector.strip()))
        return Browsed(shown, len(shown), of, complete)

    def _rounds(self, destination: Destination, selector: str, limit: int) -> dict[str, Delivery]:
        seen: dict[str, Delivery] = {}
        since = ""
        for _ in range(MOST_ROUNDS):
            wanted = " AND ".join(f"({part})" for part in (selector, since) if part)
            found = self._once(destination, wanted, limit)
            known = len(seen)
            for delivery in found.messages:
                seen.setdefault(delivery.message_id, delivery)
            newest = max((_timestamp(delivery) for delivery in found.messages), default=0)
            if len(seen) >= limit or not found.ended or len(seen) == known or not newest:
                break
            since = f"JMSTimestamp >= {newest}"
        return seen

    def _once(self, destination: Destination, selector: str, limit: int) -> Browse:
        """Look once; a broker may end a look before the end of the queue."""
        headers = {"browser": "true", "activemq.prefetchSize": "100"}
        if selector:
            headers["selector"] = selector
        number = self._new_subscription()
        browse = Browse(Subscription(number, destination, acknowledge=False, selector=selector), limit)
        with self._looking(str(destination), number, headers, browse):
            browse.wait(self._timeout)
        return browse

    def _figures(self, destination: Destination, within: float) -> Mapping[str, int]:
        """Return what the broker tells of a queue, such as its ``size``; nothing when it does not."""
        if any(character in destination.name for character in "*>,"):
            return {}
        if self._tells_figures is None:
            self._tells_figures = bool(self._ask("Broker", FIGURES_WITHIN))
        return self._ask(f"Destination.queue://{destination.name}", within) if self._tells_figures else {}

    def _ask(self, of: str, within: float) -> Mapping[str, int]:
        number, answer = self._new_subscription(), Answer()
        reply_to = f"/temp-queue/zoc-figures-{number}"
        try:
            with self._looking(reply_to, number, {"transformation": "jms-map-json"}, answer) as wire:
                receipt = self._session.desk.name("figures")
                question = {"destination": STATISTICS + of, "reply-to": reply_to, "receipt": receipt}
                self._session.confirm(wire, encode("SEND", question), [receipt])
                frame = answer.wait(within)
                return figures_in(frame) if frame is not None else {}
        except SendRefused as refusal:
            _log.debug("no figures: %s", refusal)
        except LinkLost as lost:
            # A broker that lacks the libraries for its answer breaks the connection instead.
            _log.debug("no figures: %s", lost)
            self._tells_figures = False
            self._session.wait_connected(self._timeout)
        return {}

    @contextmanager
    def _looking(self, where: str, number: int, headers: dict[str, str], look: Browse | Answer) -> Iterator[Wire]:
        """Hand what arrives at a destination to a look, while it lasts; raises `SendRefused`."""
        wire, identity, receipt = self._session.wire(), str(number), self._session.desk.name("looking")
        self._open[identity] = look
        try:
            asked = {"id": identity, "destination": where, "ack": "auto", **headers, "receipt": receipt}
            self._session.confirm(wire, encode("SUBSCRIBE", asked), [receipt])
            yield wire
        finally:
            del self._open[identity]
            with suppress(LinkLost):
                wire.send(encode("UNSUBSCRIBE", {"id": identity}))


def figures_in(answer: Frame) -> dict[str, int]:
    """Read a map as ActiveMQ writes it: ``{"map": {"entry": [{"string": "size", "long": 7}, ...]}}``."""
    try:
        entries = json.loads(answer.body)["map"]["entry"]
        return {entry["string"]: entry["long"] for entry in entries if isinstance(entry.get("long"), int)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _timestamp(delivery: Delivery) -> int:
    value = delivery.headers.get("timestamp", "")
    return int(value) if value.isdecimal() else 0
