"""Runs a wrapper as one task: its messages reach the broker, the world hears how it is, and it can be stopped."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from typing import Any

import zoctools
from zoctools import headers
from zoctools.errors import BadFile, LinkLost, TimedOut, ZocError
from zoctools.hosts import Host
from zoctools.recipe import envelope
from zoctools.recipe.envelope import BadMessage
from zoctools.recipe.step import Step
from zoctools.service import heartbeat
from zoctools.service.status import TEXTS, WIRE_LEVEL, Status
from zoctools.settings import Settings
from zoctools.stop import Stop
from zoctools.text import duration, one_line
from zoctools.transport.contract import MAX_BODY, Delivery, Outgoing, Transport
from zoctools.wrapper import Failed, Wrapper

_log = logging.getLogger(__name__)

PERIOD = 3.0
"""Seconds between two status broadcasts of a task."""
PATIENCE = 1950.0
"""Seconds a message may wait for the broker to come back: what the existing wrappers wait in all."""
PATIENCE_WHEN_STOPPED = 15.0
"""The same once the task was told to stop: a cluster kills what takes much longer."""
LONGEST_PAUSE = 5.0
STEP = 0.2
"""Seconds between two looks at whether something happened."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: whether it succeeded, why not, and what its program exited with where it has one."""

    success: bool
    why: str = ""
    program: int | None = None
    interrupted: bool = False
    """Somebody pressed Ctrl-C."""


class Sender:
    """Sends each message at once and in order, and waits for the broker when it is away.

    A message whose confirmation was lost is sent again: a duplicate is possible, a loss is not.
    """

    def __init__(
        self,
        transport: Transport,
        stop: Stop,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._transport = transport
        self._stop = stop
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._away_since: float | None = None

    def post(self, message: Outgoing) -> None:
        """Send one message; raises `SendRefused` or `Unsendable`, and `LinkLost` or `TimedOut` after a long wait."""
        with self._stop.held(), self._lock:
            pause = 0.5
            while True:
                try:
                    self._transport.settle([], [message])
                except (LinkLost, TimedOut) as error:
                    self._note_away(error)
                    if not self._wait(pause):
                        raise
                    pause = min(2 * pause, LONGEST_PAUSE)
                else:
                    self._note_back()
                    return

    def _wait(self, pause: float) -> bool:
        """Wait until the link is up, and a little; returns whether that happened while there was patience."""
        begun = self._clock()
        while self._clock() < self._deadline():
            if self._transport.wait_connected(STEP) and self._clock() >= begun + pause:
                return True
            self._sleep(min(STEP, pause))
        return False

    def _deadline(self) -> float:
        """When to give up: half an hour after the broker went away; soon after the task was told to stop."""
        if self._stop.requests > 1:
            return 0.0
        latest = (self._away_since or 0.0) + self._patience
        return min(latest, self._stop.asked_at + PATIENCE_WHEN_STOPPED) if self._stop.requests else latest

    def _note_away(self, error: ZocError) -> None:
        if self._away_since is None:
            self._away_since = self._clock()
            _log.warning("the broker is away, messages wait for it: %s", one_line(error, 300))

    def _note_back(self) -> None:
        if self._away_since is not None:
            _log.info("the broker is back after %s", duration(self._clock() - self._away_since))
            self._away_since = None


class TaskStatus:
    """Broadcasts what a task is doing, every 3 s and on change. Form: section 6 of the wire format."""

    def __init__(self, transport: Transport, name: str, recipe_ID: str) -> None:
        self.host = Host.of_this_process().status
        self._transport = transport
        self._name = name
        self._recipe_ID = recipe_ID
        self._status = Status.STARTING
        self._since = time.monotonic()
        self._batch_job = heartbeat.batch_job()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to broadcast."""
        self._say()
        self._thread.start()

    def enter(self, status: Status) -> None:
        """Note what the task does from now on, and say so."""
        with self._lock:
            self._status, self._since = status, time.monotonic()
        self._say()

    def rename(self, text: str) -> None:
        """Show another name of the task from now on."""
        with self._lock:
            self._name = text
        self._say()

    def stop(self) -> None:
        """Say nothing any more."""
        self._stopped.set()
        self._thread.join(timeout=PERIOD)

    def fields(self) -> dict[str, Any]:
        """Return the status as fields of a log record, and the recipe ID."""
        recipe = {"recipe_ID": self._recipe_ID} if self._recipe_ID else {}
        return {f"workflows_{key}": value for key, value in self._statement().items()} | recipe

    def _statement(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "task": self._name,
            "status": int(self._status),
            "statustext": TEXTS[self._status],
            "workflows": WIRE_LEVEL,
            "zoctools": zoctools.__version__,
            **self._batch_job,
        }

    def _say(self) -> None:
        with self._lock:
            busy = time.monotonic() - self._since if self._status == Status.PROCESSING else 0.0
            statement = self._statement()
        statement["zoc"] = {"busy_for": round(busy, 3), "recipe_ID": self._recipe_ID}
        heartbeat.broadcast(self._transport, statement)

    def _beat(self) -> None:
        while not self._stopped.wait(PERIOD):
            self._say()


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A recipewrapper file: the message that stands at the task's node, written by whoever submitted the job."""

    path: Path
    body: bytes

    @classmethod
    def read(cls, path: Path) -> TaskFile:
        """Read and check a file; raises `BadFile`."""
        try:
            with open(path, "rb", opener=_without_waiting) as file:
                body = file.read(MAX_BODY + 1) or b""
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise BadFile(f"{one_line(path, 200)} cannot be read: {why}") from None
        if len(body) > MAX_BODY:
            raise BadFile(f"{one_line(path, 200)} is too large to be a recipewrapper file")
        found = cls(path, body)
        step = found.step()
        if not step.recipe_ID:
            raise found._fault("environment has no ID")
        if not isinstance(step.node.get("job_parameters", {}), dict):
            raise found._fault(f"node {step.pointer}: job_parameters must be an object")
        return found

    def step(self, namespace: str = "", post: Callable[[Outgoing], None] | None = None) -> Step:
        """Return the step the file holds; raises `BadFile`."""
        try:
            return Step.from_message({headers.RECIPE: "True"}, self.body, namespace, post)
        except BadMessage as bad:
            raise self._fault(bad.why) from None

    def _fault(self, why: str) -> BadFile:
        return BadFile(
            f"{one_line(self.path, 200)} is no recipewrapper file: {why}",
            "it holds a recipe envelope: recipe, recipe-pointer, environment with ID, recipe-path and payload",
        )


class Task:
    """One run of a wrapper. Without a file it stands at no node of a recipe, and its messages go nowhere."""

    def __init__(
        self,
        name: str,
        make: type[Wrapper],
        file: TaskFile | None,
        transport: Transport,
        settings: Settings | None = None,
        *,
        patience: float = PATIENCE,
    ) -> None:
        self._make = make
        self._transport = transport
        self._settings = settings
        self._stop = Stop()
        post = Sender(transport, self._stop, patience=patience).post
        self._step = file.step(transport.namespace, post) if file else Step()
        self._status = TaskStatus(transport, _task_name(name, self._step), self._step.recipe_ID)

    # What a wrapper asks for

    @property
    def in_a_hurry(self) -> bool:
        """Whether the task was told twice to stop."""
        return self._stop.requests > 1

    def rename(self, text: str) -> None:
        """Show another task name in the status."""
        with self._stop.held():
            self._status.rename(text)

    def undisturbed(self) -> AbstractContextManager[None]:
        """Return a context in which a stop waits until it is left."""
        return self._stop.held()

    # What the command line asks for

    def fields(self) -> Mapping[str, Any]:
        """Return the fields that every log record of this process shall have."""
        return self._status.fields()

    def run(self) -> Outcome:
        """Run the task to its end, in the main thread. Whatever goes wrong with the task, the recipe is told."""
        finished = threading.Event()
        ears = threading.Thread(target=self._listen, args=(finished,), name="commands", daemon=True)
        with self._stop.signals():
            self._status.start()
            ears.start()
            try:
                return self._run()
            finally:
                self._status.stop()
                finished.set()
                ears.join(timeout=PERIOD)

    def _run(self) -> Outcome:
        wrapper, outcome, last = self._attempt()
        program = wrapper.exit_code
        told = outcome.success or self._tell("failure", lambda: wrapper.failure(outcome.why))
        self._status.enter(last)
        told = self._tell("completed", lambda: wrapper.done("Finished processing")) and told
        if outcome.success and not told:
            return Outcome(False, "the recipe could not be told that the task is completed", program)
        return replace(outcome, program=program)

    def _attempt(self) -> tuple[Wrapper, Outcome, Status]:
        wrapper = Wrapper(self._step, self._settings, self)
        try:
            wrapper = self._make(self._step, self._settings, self)
            with self._stop.possible():
                wrapper.prepare("Starting processing")
                with self._stop.held():
                    self._status.enter(Status.PROCESSING)
                success = bool(wrapper.run())
            if success:
                wrapper.success("Finished processing")
                _log.info("successfully finished processing")
                return wrapper, Outcome(True), Status.END
            why = "Processing failed"
        except Failed as error:
            why = str(error) or "Processing failed"
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if not self._stop.requests and not isinstance(error, KeyboardInterrupt):
                _log.error("%s", one_line(error, 1000), exc_info=True)
                return wrapper, Outcome(False, _words(error)), Status.ERROR
            why = self._stop.why or "stopped by Ctrl-C"
        _log.error("processing failed: %s", why)
        return wrapper, Outcome(False, why, interrupted=why == "stopped by Ctrl-C"), Status.END

    def _tell(self, output: str, tell: Callable[[], object]) -> bool:
        try:
            tell()
        except Exception as error:
            _log.error("nothing could be sent to %s: %s", output, one_line(error, 500))
            return False
        return True

    def _listen(self, finished: threading.Event) -> None:
        """Obey a shutdown command that names this process; also keeps the inbox empty."""
        try:
            self._transport.subscribe(self._transport.topic("command"), acknowledge=False, prefetch=100)
        except ZocError as error:
            _log.warning("no shutdown command will be heard: %s", one_line(error, 300))
        named = False
        while not finished.is_set():
            if named and not self._stop.requests:
                self._stop.command("stopped by a shutdown command")
            try:
                event = self._transport.inbox.get(timeout=STEP)
            except Empty:
                continue
            named = named or (isinstance(event, Delivery) and self._is_for_us(event))

    def _is_for_us(self, delivery: Delivery) -> bool:
        try:
            command = envelope.decode(delivery.body)
        except BadMessage:
            return False
        wanted = isinstance(command, dict) and command.get("command") == "shutdown" and "service" not in command
        return wanted and command.get("host") == self._status.host


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a named pipe that nobody writes to is empty instead of a wait."""
    return os.open(path, flags | os.O_NONBLOCK)


def _task_name(name: str, step: Step) -> str:
    """Return the name of the task as the status shows it: the wrapper's, and what the node says about it."""
    about = step.node.get("wrapper")
    information = about.get("task_information") if isinstance(about, dict) else None
    return f"{name} ({one_line(information, 100)})" if information else name


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the wrapper left with exit code {error.code}"
    return str(error) or type(error).__name__
