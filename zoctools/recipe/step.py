"""One message on its way through a recipe: what a handler is given, and what it wants sent.

Sending follows section 4.1 of the wire format. Nothing here talks to a broker: a step puts messages into its outbox,
or hands them to the function it was made with.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zoctools import headers as known_headers
from zoctools.errors import RecipeError
from zoctools.recipe import envelope, gate
from zoctools.recipe.envelope import BadMessage
from zoctools.recipe.recipe import Recipe
from zoctools.text import one_line
from zoctools.transport.contract import Destination, Outgoing, namespaced

__all__ = ["BadMessage", "Step"]

MAX_DELAY = 3.2e9
"""Seconds, about a century: more is a mistake."""
MAX_OUTBOX = 200_000_000
"""Bytes of all messages that one step may put into its outbox."""


class Step:
    """One message standing at one node of a recipe; `outbox` is what it wants sent.

    `environment` is forwarded with everything the step sends, with what a handler stored in it. `path` holds the nodes
    passed before. A plain message has no recipe: `recipe` is None, `pointer` 0, and there is nowhere to `send` to.
    `default_output` names the output that `send` and ``send_to(default_output)`` both mean.
    """

    def __init__(
        self,
        recipe: Recipe | None = None,
        pointer: int = 0,
        *,
        payload: Any = None,
        path: Iterable[int] = (),
        environment: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        namespace: str = "",
        post: Callable[[Outgoing], None] | None = None,
    ) -> None:
        self.pointer = pointer
        self.payload = payload
        self.path = tuple(path)
        self.environment = {} if environment is None else environment
        self.headers: Mapping[str, str] = headers or {}
        self.namespace = namespace
        self.outbox: list[Outgoing] = []
        self.default_output: str | None = None
        self._collected = 0
        self._post = self._collect if post is None else post
        self._sent_with = recipe
        self._own: Recipe | None = None
        self._node: dict[str, Any] | None = None

    @classmethod
    def from_message(
        cls,
        headers: Mapping[str, str],
        body: bytes,
        namespace: str = "",
        post: Callable[[Outgoing], None] | None = None,
    ) -> Step:
        """Let a message through the gate; raises `BadMessage` with a named reason.

        A message without the recipe header becomes a plain step, its payload the decoded body.
        """
        if not known_headers.is_recipe(headers):
            return cls(payload=envelope.decode(body), headers=headers, namespace=namespace, post=post)
        opened = gate.opened(body)
        return cls(
            opened.recipe,
            opened.pointer,
            payload=opened.payload,
            path=opened.path,
            environment=opened.environment,
            headers=headers,
            namespace=namespace,
            post=post,
        )

    @property
    def recipe(self) -> Recipe | None:
        """The recipe; a copy of our own, so that a handler that changes it changes nothing that is sent."""
        if self._own is None and self._sent_with is not None:
            self._own = Recipe(envelope.from_text(self._sent_with.wire), self._sent_with.source)
        return self._own

    @property
    def node(self) -> dict[str, Any]:
        """The node of the recipe the message stands at, a copy of our own; empty for a plain message."""
        if self._node is None:
            found = {} if self._sent_with is None else self._sent_with.nodes[self.pointer]
            self._node = envelope.from_text(envelope.to_text(found))
        return self._node

    @property
    def parameters(self) -> dict[str, Any]:
        """The ``parameters`` of the node; empty where it has none."""
        found = self.node.get("parameters")
        return found if isinstance(found, dict) else {}

    @property
    def recipe_ID(self) -> str:
        """The recipe ID that the Dispatcher gave this run of the recipe; empty where there is none."""
        found = self.environment.get("ID")
        return found if isinstance(found, str) else ""

    def has_output(self, name: str) -> bool:
        """Whether ``send_to(name)`` would lead anywhere."""
        return bool(self._destinations(name))

    def send(self, payload: Any, *, headers: Mapping[str, Any] | None = None, delay: float | None = None) -> int:
        """Send to the default output: the unnamed one, else the one `default_output` names.

        Returns the number of messages; 0 where the node has no such output. `delay` is in seconds; without it the
        ``transport-delay`` of each node applies.
        """
        return self._send(self._destinations(None), payload, headers, delay)

    def send_to(
        self, output: str, payload: Any, *, headers: Mapping[str, Any] | None = None, delay: float | None = None
    ) -> int:
        """Send to a named output. A node without that output sends nothing. Returns the number of messages."""
        return self._send(self._destinations(output), payload, headers, delay)

    def checkpoint(self, payload: Any, *, delay: float = 0) -> int:
        """Send to our own node, which counts as no step of the path; its ``transport-delay`` does not apply."""
        if self._sent_with is None:
            raise ValueError("a plain message has no node to send a checkpoint to")
        messages = _Messages(self, self._sent_with, self.path, self.environment, payload)
        return messages.to(self.pointer, {}, delay)

    def start(self, recipe: Recipe, environment: dict[str, Any], *, headers: Mapping[str, Any] | None = None) -> int:
        """Start another recipe: every [node, payload] of its start, in order. Returns the number of messages."""
        sent = 0
        for number, payload in recipe.start:
            sent += _Messages(self, recipe, (), environment, payload, starts=True).to(number, headers or {}, None)
        return sent

    def send_message(
        self,
        queue: str,
        body: Any,
        *,
        headers: Mapping[str, Any] | None = None,
        delay: float | None = None,
        namespaced: bool = True,
    ) -> None:
        """Send a plain message straight to a named queue. `body` is bytes, sent as they are, or becomes JSON."""
        name = self._full(queue) if namespaced else queue
        content = bytes(body) if isinstance(body, (bytes, bytearray)) else envelope.encode(body)
        stamped = self._stamped(headers or {}, self._parent(starts=True))
        self._post(Outgoing(Destination.queue(name), content, stamped, _seconds(delay or 0, "delay")))

    def broadcast_message(self, topic: str, body: Any, *, expires_in: float | None = None) -> None:
        """Send a plain message to everybody who listens to a topic. `expires_in` is in seconds."""
        content = bytes(body) if isinstance(body, (bytes, bytearray)) else envelope.encode(body)
        destination = Destination.topic(self._full(topic))
        self._post(Outgoing(destination, content, self._stamped({}, ""), expires_in=expires_in, persistent=False))

    def to_json(self) -> dict[str, Any]:
        """Return the envelope: what the body of this message says, and what a recipewrapper file holds."""
        if self._sent_with is None:
            raise ValueError("a plain message has no envelope")
        return {
            "environment": self.environment,
            "payload": self.payload,
            "recipe": self._sent_with.to_json(),
            "recipe-path": list(self.path),
            "recipe-pointer": self.pointer,
        }

    def _destinations(self, output: str | None) -> tuple[int, ...]:
        """The nodes an output leads to; the default output is the unnamed one, or in its place the one named so."""
        if self._sent_with is None:
            return ()
        named = isinstance(self._sent_with.nodes[self.pointer].get("output"), dict)
        if named:
            name = self.default_output if output is None else output
            return () if name is None else self._sent_with.destinations(self.pointer, name)
        if output is not None and output != self.default_output:
            return ()
        return self._sent_with.destinations(self.pointer)

    def _send(
        self, destinations: tuple[int, ...], payload: Any, headers: Mapping[str, Any] | None, delay: float | None
    ) -> int:
        if not destinations or self._sent_with is None:
            return 0
        messages = _Messages(self, self._sent_with, (*self.path, self.pointer), self.environment, payload)
        return sum([messages.to(number, headers or {}, delay) for number in destinations])

    def _collect(self, message: Outgoing) -> None:
        """Put a message into the outbox; each carries the whole recipe, so a few lines can ask for gigabytes."""
        self._collected += len(message.body)
        if self._collected > MAX_OUTBOX:
            raise RecipeError(f"more than {MAX_OUTBOX // 1_000_000} MB are to be sent at once")
        self.outbox.append(message)

    def _full(self, name: str) -> str:
        return namespaced(self.namespace, name)

    def _parent(self, starts: bool = False) -> str:
        """The recipe ID of the recipe that started the one a message belongs to."""
        inherited = self.headers.get(known_headers.PARENT, "")
        return (self.recipe_ID or inherited) if starts else inherited

    def _stamped(self, headers: Mapping[str, Any], parent: str, hop: int | None = None) -> dict[str, str]:
        given = {name: str(value) for name, value in headers.items() if value is not None}
        stamped = known_headers.for_send(given)
        stamped[known_headers.SENT_AT] = f"{time.time():.3f}"
        if hop is not None:
            stamped[known_headers.RECIPE] = "True"
            stamped[known_headers.HOP] = str(hop)
        if parent:
            stamped[known_headers.PARENT] = parent
        return stamped


class _Messages:
    """The messages that carry one payload onwards: written once but for the pointer, however many nodes get them."""

    def __init__(
        self,
        step: Step,
        recipe: Recipe,
        path: tuple[int, ...],
        environment: dict[str, Any],
        payload: Any,
        *,
        starts: bool = False,
    ) -> None:
        self._step = step
        self._recipe = recipe
        self._hop = len(path) + 1
        self._parent = step._parent(starts)
        rest = envelope.to_text({"environment": environment, "payload": payload})[:-1]
        self._front = f'{rest}, "recipe": {recipe.wire}, "recipe-path": {list(path)}, "recipe-pointer": '

    def to(self, number: int, headers: Mapping[str, Any], delay: float | None) -> int:
        """Post the message for one node: to its queue, to its topic, to both, or nowhere; returns how many."""
        node = self._recipe.nodes[number]
        queue, topic = node.get("queue"), node.get("topic")
        wait = _seconds(node.get("transport-delay") or 0 if delay is None else delay, f"node {number}: transport-delay")
        body = f"{self._front}{number}}}".encode()
        stamped = self._step._stamped(headers, self._parent, self._hop)
        if queue:
            name = self._step._full(_name(queue, number, "queue"))
            self._step._post(Outgoing(Destination.queue(name), body, stamped, wait))
        if topic:
            name = self._step._full(_name(topic, number, "topic"))
            self._step._post(Outgoing(Destination.topic(name), body, dict(stamped), wait, persistent=False))
        return bool(queue) + bool(topic)


def _name(value: Any, number: int, kind: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"node {number}: {kind} must be text, not {one_line(value, 40)}")
    return value


def _seconds(value: Any, what: str) -> float:
    """Return a delay; a template may have made text of it. Raises `ValueError` for what is no span of time."""
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds <= MAX_DELAY:
        raise ValueError(f"{what} must be a number of seconds, not {one_line(value, 40)}")
    return seconds
