"""Small services to learn from: a timer that sends, a handler that reads, and one that forwards; and a wrapper.

Start each in its own terminal and watch the messages go by::

    zoc service SampleProducer -e local
    zoc service SampleConsumer -e local
"""

from __future__ import annotations

import math
import time
from typing import Any

from zoctools import Service, Step, Wrapper
from zoctools.text import one_line

EVERY = 3.0
"""Seconds between two messages of a producer."""
HALF = 10.0
"""Seconds that half the work of the sample wrapper takes."""


class SampleProducer(Service):
    """Sends a numbered message every three seconds. It consumes nothing, so it has no queue."""

    name = "Message producer"
    to = "transient.destination"

    def start(self) -> None:
        """Ask for a timer; what its handler sends leaves when the handler returns."""
        self.counter = 0
        self.every(EVERY, self.produce)

    def produce(self, step: Step) -> None:
        """Send the next message: plain, outside any recipe, straight to a queue."""
        self.counter += 1
        step.send_message(self.to, f"Message #{self.counter}")
        self.log.info("sent message #%d", self.counter)


class SampleConsumer(Service):
    """Logs every message it gets. Returning from `process` acknowledges it."""

    name = "Message consumer"
    queue = "transient.destination"
    accepts_plain_messages = True

    def process(self, step: Step, payload: Any) -> None:
        """Look at one message; whoever sent it may have put anything in it, so it is made safe to show."""
        self.log.info("received %s with headers %s", one_line(payload, 200), one_line(dict(step.headers), 500))


class SampleTxnProducer(SampleProducer):
    """Feeds `SampleTxn`."""

    name = "Message producer for forwarding"
    to = "transient.transaction"


class SampleTxn(Service):
    """Passes messages on. The message sent and the one received are settled as one: never both lost, never half done.

    Try to break it: every tenth message fails on its first attempt, after the forward was asked for. Nothing of that
    attempt leaves; a second later the message comes again. Or kill the process: the broker then delivers it again.
    """

    name = "Message forwarder"
    queue = "transient.transaction"
    accepts_plain_messages = True

    def start(self) -> None:
        """Count the messages, beside the default of consuming the main queue."""
        self.counter = 0
        super().start()

    def process(self, step: Step, payload: Any) -> None:
        """Forward one message."""
        step.send_message("transient.destination", payload)
        self.counter += 1
        if self.counter % 10 == 0:
            raise RuntimeError("this attempt was meant to fail")
        self.log.info("forwarded %s", one_line(payload, 200))


class SampleWrapper(Wrapper):
    """Waits for twice ten seconds, or twice the job parameter "seconds", and says so in between."""

    def run(self) -> bool:
        """Do the task; returning True is success."""
        seconds = self.parameters.get("seconds", HALF)
        if not isinstance(seconds, (int, float)) or not math.isfinite(seconds) or seconds < 0:
            self.log.error("job_parameters.seconds is not a time: %s", one_line(repr(seconds), 80))
            return False
        time.sleep(seconds)
        self.rename("dummy (still running)")
        self.update("half of the waiting is done")
        time.sleep(seconds)
        return True
