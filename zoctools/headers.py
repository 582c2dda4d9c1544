"""Every header we send or read: its meaning and its lifetime, in one table.

The lifetime decides on which copies of a message a header may stand. A header that is not in the table belongs
to the sender and travels with the message. Sources: spec of the existing wire (`workflows`, `zocalo`), STOMP
1.2, ActiveMQ's STOMP documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from zoctools.errors import Unsendable
from zoctools.text import one_line

MAX_LINE = 10_000
"""Bytes of one header line after escaping; ActiveMQ closes the connection at 10 240."""


class Life(Enum):
    """How long a header lives."""

    FRAME = "one frame: the broker or the sender writes it anew each time"
    QUEUE = "while the message waits in its queue: kept on a copy sent back, not on a dead letter"
    MESSAGE = "as long as the message exists, dead letters included"
    COUNTER = "only on a copy sent back to its own queue; renamed on a dead letter"
    LETTER = "only on a dead letter"


@dataclass(frozen=True, slots=True)
class Header:
    """One row of the table."""

    name: str
    life: Life
    meaning: str


RECIPE = "workflows-recipe"
SCHEDULED_DELAY = "AMQ_SCHEDULED_DELAY"
ORIGINAL_DESTINATION = "original-destination"
ATTEMPTS = "zoc_attempts"
DEATHS = "zoc_deaths"
RETRY_SINCE = "zoc_retry_since"
SENT_AT = "zoc_sent_at"
HOP = "zoc_hop"
PARENT = "zoc_parent"

_ROWS = (
    # STOMP and ActiveMQ: one frame
    Header("destination", Life.FRAME, "where the frame goes, or came from"),
    Header("content-length", Life.FRAME, "bytes in the body"),
    Header("content-type", Life.MESSAGE, "what the body is"),
    Header("message-id", Life.FRAME, "the broker's name for one message"),
    Header("subscription", Life.FRAME, "which subscription it was delivered to"),
    Header("ack", Life.FRAME, "STOMP 1.2: what an ACK frame names"),
    Header("id", Life.FRAME, "name of a subscription or of an ACK"),
    Header("receipt", Life.FRAME, "asks the broker to confirm the frame"),
    Header("receipt-id", Life.FRAME, "the broker's confirmation"),
    Header("transaction", Life.FRAME, "the transaction the frame belongs to"),
    Header("redelivered", Life.FRAME, "delivered before, to a consumer that went away"),
    Header("timestamp", Life.FRAME, "epoch ms at which the broker took the message"),
    Header("selector", Life.FRAME, "which messages a subscription wants"),
    Header("browser", Life.FRAME, "a subscription that only looks; `end` on its last frame"),
    Header("reply-to", Life.FRAME, "where an answer is expected"),
    Header("heart-beat", Life.FRAME, "what both ends promise when connecting"),
    Header("login", Life.FRAME, "who connects"),
    Header("passcode", Life.FRAME, "the password of who connects"),
    Header("host", Life.FRAME, "virtual host when connecting"),
    Header("accept-version", Life.FRAME, "STOMP versions the client speaks"),
    Header("ignore_namespace", Life.FRAME, "leaked by the old tools' reinject; means nothing on the wire"),
    Header(SCHEDULED_DELAY, Life.FRAME, "ms the broker shall keep the message back"),
    Header("AMQ_SCHEDULED_PERIOD", Life.FRAME, "ActiveMQ scheduler: ms between repeats"),
    Header("AMQ_SCHEDULED_REPEAT", Life.FRAME, "ActiveMQ scheduler: how often"),
    Header("AMQ_SCHEDULED_CRON", Life.FRAME, "ActiveMQ scheduler: when"),
    Header("scheduledJobId", Life.FRAME, "ActiveMQ: the message was held back by its scheduler"),
    Header("originalExpiration", Life.FRAME, "ActiveMQ: `expires` before it became a dead letter"),
    Header("dlqDeliveryFailureCause", Life.LETTER, "ActiveMQ: why the broker itself dead-lettered it"),
    Header(ORIGINAL_DESTINATION, Life.LETTER, "the queue a dead letter comes from, as `/queue/zocalo.x`"),
    # how a message stands in its queue
    Header("persistent", Life.QUEUE, "`true`: survives a restart of the broker"),
    Header("priority", Life.QUEUE, "0 to 9, 4 when absent"),
    Header("expires", Life.QUEUE, "epoch ms after which nobody wants it; 0 is never"),
    # Zocalo
    Header(RECIPE, Life.MESSAGE, "`True`: the body is a recipe envelope"),
    Header("zocalo.go.user", Life.MESSAGE, "who started the recipe"),
    Header("zocalo.go.host", Life.MESSAGE, "where it was started"),
    Header("dlq-reinjected", Life.MESSAGE, "`True`: came back from a dead letter queue"),
    Header("traceparent", Life.MESSAGE, "W3C trace context"),
    Header("tracestate", Life.MESSAGE, "W3C trace context"),
    # ours: stamped on every send
    Header(SENT_AT, Life.MESSAGE, "epoch seconds, with ms, at which a step sent it"),
    Header(HOP, Life.MESSAGE, "steps since the recipe was started; the first is 1"),
    Header(PARENT, Life.MESSAGE, "recipe ID of the recipe that started this one"),
    # ours: counters of one stay in one queue
    Header(ATTEMPTS, Life.COUNTER, "how often its handler failed"),
    Header(DEATHS, Life.COUNTER, "how often it was delivered to a service that went away before finishing"),
    Header(RETRY_SINCE, Life.COUNTER, "epoch seconds of the first Retry"),
    # ours: why it is a dead letter
    Header("zoc_error", Life.LETTER, "the cause in one line"),
    Header("zoc_error_class", Life.LETTER, "class of the exception, or the gate's reason"),
    Header("zoc_traceback", Life.LETTER, "the end of the traceback"),
    Header("zoc_service", Life.LETTER, "class of the service that gave up"),
    Header("zoc_host", Life.LETTER, "host and process, as in the status broadcast"),
    Header("zoc_recipe_ID", Life.LETTER, "the recipe it belongs to"),
    Header("zoc_node", Life.LETTER, "the node it stood at"),
    Header("zoc_failed_at", Life.LETTER, "when, ISO 8601 with offset"),
    Header("zoc_dead_attempts", Life.LETTER, "`zoc_attempts` at the end"),
    Header("zoc_dead_deaths", Life.LETTER, "`zoc_deaths` at the end"),
    Header("zoc_dead_retry_since", Life.LETTER, "`zoc_retry_since` at the end"),
)

TABLE: Mapping[str, Header] = {row.name: row for row in _ROWS}


def life(name: str) -> Life:
    """Return the lifetime of a header; one we do not know belongs to the sender and lives with the message."""
    row = TABLE.get(name)
    if row is not None:
        return row.life
    if name.startswith(("activemq.", "AMQ_SCHEDULED_", "JMSX")):
        return Life.FRAME
    return Life.MESSAGE


def _living(headers: Mapping[str, str], lives: Iterable[Life]) -> dict[str, str]:
    wanted = frozenset(lives)
    return {name: value for name, value in headers.items() if life(name) in wanted}


def for_copy(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of an unchanged copy sent back to the queue the message came from."""
    return _living(headers, (Life.QUEUE, Life.MESSAGE, Life.COUNTER))


def for_letter(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what of a message's headers stands on its dead letter, counters renamed (``zoc_dead_attempts``)."""
    kept = _living(headers, (Life.MESSAGE,))
    for name, value in _living(headers, (Life.COUNTER,)).items():
        kept[name.replace("zoc_", "zoc_dead_", 1)] = value
    return kept


def for_send(headers: Mapping[str, str]) -> dict[str, str]:
    """Return which of a sender's headers stand on a new message: those of the message being handled may be among
    them, and its counters and its cause of death must not live on."""
    return _living(headers, (Life.FRAME, Life.QUEUE, Life.MESSAGE))


def is_recipe(headers: Mapping[str, str]) -> bool:
    """Whether the body is a recipe envelope; exactly the spellings the existing receivers accept."""
    return headers.get(RECIPE) in ("True", "true")


def line_length(name: str, value: str) -> int:
    """Return the bytes of the line ``name:value`` once escaped as STOMP 1.1 and 1.2 do."""
    text = name + value
    escapes = sum(text.count(character) for character in "\\\n\r:")
    return len(text.encode("utf-8", "surrogatepass")) + escapes + 1


def check(name: str, value: str) -> None:
    """Raise `Unsendable` for a header that no broker would carry unharmed.

    CR and NUL cut frames on brokers in use, a newline or NUL in a name breaks the frame, and a long line makes
    ActiveMQ close the connection. Newline, colon and backslash in a value are escaped and arrive exactly.
    Characters beyond U+FFFF pass: once ActiveMQ has read a message back from its disk it shows them as U+FFFD, and
    nothing else suffers; what must arrive exactly belongs into the body.
    """
    problem = ""
    if not name:
        problem = "has no name"
    elif any(character in name for character in "\n\r\0"):
        problem = "has a line break or NUL in its name"
    elif any(character in value for character in "\r\0"):
        problem = "has a carriage return or NUL in its value"
    elif not (name + value).isprintable() and any("\ud800" <= character <= "\udfff" for character in name + value):
        problem = "is not valid Unicode"
    elif line_length(name, value) > MAX_LINE:
        problem = f"is longer than {MAX_LINE} bytes"
    if problem:
        raise Unsendable(f"header {one_line(name, 60)!r} {problem}", "brokers cut or refuse such a header")
