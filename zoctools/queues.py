"""Queue figures in one shape, from ActiveMQ or RabbitMQ. What cannot be seen is None, never 0.

ActiveMQ is asked through Jolokia, its JMX over HTTP, one request for all queues; RabbitMQ through its management
API. Both only answer questions: nothing is subscribed to and nothing is changed. Delayed messages that a broker
holds back are in no figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote

from zoctools import http
from zoctools.errors import Unreachable
from zoctools.http import mapping
from zoctools.settings import Account, Settings

DEAD_LETTERS = "dlq."
"""What stands before the name of a queue to name the queue of its dead letters; ActiveMQ writes it in capitals."""

SHARED_DEAD_LETTERS = "ActiveMQ.DLQ"
"""Where ActiveMQ puts all dead letters unless it is told to keep them apart."""

MAX_QUEUES = 20_000


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """One queue by its full name. Counts of messages; `enqueued` and `dequeued` since the broker started.

    `ready` wait for a consumer, `in_flight` are with one; `dead_letters` wait in the queue's dead letter queue.
    """

    name: str
    ready: int | None = None
    in_flight: int | None = None
    consumers: int | None = None
    enqueued: int | None = None
    dequeued: int | None = None
    dead_letters: int | None = None

    @property
    def depth(self) -> int | None:
        """Messages in the queue, with a consumer or not."""
        return None if self.ready is None or self.in_flight is None else self.ready + self.in_flight


@dataclass(frozen=True, slots=True)
class BrokerFigures:
    """The broker itself: `uptime` in seconds, its stores in per cent of their limits, how it listens.

    `connectors` are its addresses with their options; `scheduler` whether it can hold messages back.
    """

    name: str
    version: str
    uptime: float | None = None
    store: int | None = None
    memory: int | None = None
    temp: int | None = None
    connectors: Mapping[str, str] | None = None
    scheduler: bool | None = None


class Figures(Protocol):
    """Where queue figures come from."""

    @property
    def source(self) -> str:
        """What is asked, in words: ``Jolokia at host:8161``."""

    def broker(self) -> BrokerFigures:
        """Ask about the broker; raises `Unreachable`, `LoginRefused` or `TimedOut`."""

    def queues(self) -> tuple[QueueFigures, ...]:
        """Ask for all queues, sorted by name; raises as `broker` does."""


def source_of(settings: Settings) -> Figures | None:
    """Return where the figures of this site come from; None when nothing is configured."""
    if settings.jmx is not None:
        return Jolokia(settings.jmx)
    if settings.rabbitmqapi is not None:
        return RabbitManagement(settings.rabbitmqapi)
    return None


def of_namespace(queues: Iterable[QueueFigures], namespace: str) -> tuple[QueueFigures, ...]:
    """Return the queues of a namespace, each with its dead letters, without the dead letter queues themselves.

    A queue of which only dead letters are left is listed too: its own figures are then unknown.
    """
    prefix = f"{namespace}." if namespace else ""
    by_name = {queue.name: queue for queue in queues}
    dead = {name[len(DEAD_LETTERS) :]: queue for name, queue in by_name.items() if is_dead_letters(name)}
    names = {name for name in by_name if not is_dead_letters(name) and name != SHARED_DEAD_LETTERS} | set(dead)
    return tuple(
        replace(by_name.get(name, QueueFigures(name)), dead_letters=dead[name].depth if name in dead else 0)
        for name in sorted(names)
        if name.startswith(prefix)
    )


def is_dead_letters(name: str) -> bool:
    """Whether this is the dead letter queue of one other queue."""
    return name.casefold().startswith(DEAD_LETTERS)


class Jolokia:
    """ActiveMQ's figures. The broker's name is asked for, not assumed."""

    def __init__(self, account: Account, timeout: float = http.TIMEOUT) -> None:
        self._account = account
        self._timeout = timeout

    @property
    def source(self) -> str:
        """What is asked, in words."""
        return f"Jolokia at {self._account.host}:{self._account.port}"

    def broker(self) -> BrokerFigures:
        """Ask about the broker."""
        attributes = "BrokerName,BrokerVersion,UptimeMillis,StorePercentUsage,MemoryPercentUsage,TempPercentUsage"
        beans = self._read("type=Broker,brokerName=*", f"{attributes},TransportConnectors,JMSJobScheduler")
        if not beans:
            raise Unreachable(f"{self.source}: there is no ActiveMQ broker behind it", "check the 'jmx' plug-in")
        bean = mapping(next(iter(beans.values())))
        uptime = _whole(bean.get("UptimeMillis"))
        connectors = {str(name): str(url) for name, url in mapping(bean.get("TransportConnectors")).items()}
        return BrokerFigures(
            name=str(bean.get("BrokerName", "?")),
            version=str(bean.get("BrokerVersion", "?")),
            uptime=None if uptime is None else uptime / 1000,
            store=_whole(bean.get("StorePercentUsage")),
            memory=_whole(bean.get("MemoryPercentUsage")),
            temp=_whole(bean.get("TempPercentUsage")),
            connectors=connectors,
            scheduler=bool(bean["JMSJobScheduler"]) if "JMSJobScheduler" in bean else None,
        )

    def queues(self) -> tuple[QueueFigures, ...]:
        """Ask for all queues."""
        attributes = "Name,QueueSize,InFlightCount,ConsumerCount,EnqueueCount,DequeueCount"
        beans = self._read("type=Broker,brokerName=*,destinationType=Queue,destinationName=*", attributes)
        found = [_activemq_queue(mapping(bean)) for bean in beans.values()]
        return tuple(sorted((queue for queue in found if queue is not None), key=lambda queue: queue.name))

    def remove(self, broker: str, queue: str) -> None:
        """Remove an empty queue that nobody will use again; raises as `broker` does, and when it is refused."""
        bean = f"org.apache.activemq:type=Broker,brokerName={_quoted(broker)}"
        answer = self._ask(f"exec/{_path(bean)}/removeQueue(java.lang.String)/{_path(queue)}")
        if answer.get("status") != 200:
            raise Unreachable(f"{self.source}: {answer.get('error', 'it will not remove a queue')}")

    def _read(self, bean: str, attributes: str) -> Mapping[str, Any]:
        answer = self._ask(f"read/{_path(f'org.apache.activemq:{bean}')}/{attributes}")
        status = answer.get("status")
        if status == 404:
            return {}
        if status != 200:
            raise Unreachable(f"{self.source}: {answer.get('error', f'it answers with status {status}')}")
        value = mapping(answer.get("value"))
        if len(value) > MAX_QUEUES:
            raise Unreachable(f"{self.source}: it lists more than {MAX_QUEUES} queues")
        return value

    def _ask(self, path: str) -> Mapping[str, Any]:
        account = self._account
        base = "/".join(part for part in (account.url.strip("/"), path) if part)
        host = f"[{account.host}]" if ":" in account.host else account.host
        answer = http.get_json(
            f"http://{host}:{account.port}/{base}?ignoreErrors=true",
            what=self.source,
            username=account.username,
            password=account.password,
            timeout=self._timeout,
        )
        if not isinstance(answer, dict) or "status" not in answer:
            raise Unreachable(
                f"{self.source}: that is not an answer of Jolokia's", "check base_url of the 'jmx' plug-in"
            )
        return answer


class RabbitManagement:
    """RabbitMQ's figures, of the configured virtual host."""

    def __init__(self, account: Account, timeout: float = http.TIMEOUT) -> None:
        self._account = account
        self._timeout = timeout

    @property
    def source(self) -> str:
        """What is asked, in words."""
        return f"RabbitMQ's management API at {'/'.join(self._account.url.split('/', 3)[:3])}"

    def broker(self) -> BrokerFigures:
        """Ask about the broker."""
        said = mapping(self._ask("overview"))
        return BrokerFigures(name=str(said.get("cluster_name", "?")), version=str(said.get("rabbitmq_version", "?")))

    def queues(self) -> tuple[QueueFigures, ...]:
        """Ask for all queues."""
        said = self._ask(f"queues/{quote(self._account.vhost, safe='')}")
        if not isinstance(said, list):
            raise Unreachable(f"{self.source}: that is not a list of queues")
        found = [_rabbit_queue(mapping(item)) for item in said[:MAX_QUEUES]]
        return tuple(sorted((queue for queue in found if queue is not None), key=lambda queue: queue.name))

    def _ask(self, path: str) -> Any:
        account = self._account
        return http.get_json(
            f"{account.url.rstrip('/')}/{path}",
            what=self.source,
            username=account.username,
            password=account.password,
            timeout=self._timeout,
        )


def _activemq_queue(bean: Mapping[str, Any]) -> QueueFigures | None:
    name = bean.get("Name")
    if not isinstance(name, str):
        return None
    size, in_flight = _whole(bean.get("QueueSize")), _whole(bean.get("InFlightCount"))
    return QueueFigures(
        name=name,
        ready=None if size is None or in_flight is None else max(size - in_flight, 0),
        in_flight=in_flight,
        consumers=_whole(bean.get("ConsumerCount")),
        enqueued=_whole(bean.get("EnqueueCount")),
        dequeued=_whole(bean.get("DequeueCount")),
    )


def _rabbit_queue(item: Mapping[str, Any]) -> QueueFigures | None:
    name = item.get("name")
    if not isinstance(name, str):
        return None
    rates = mapping(item.get("message_stats"))
    return QueueFigures(
        name=name,
        ready=_whole(item.get("messages_ready")),
        in_flight=_whole(item.get("messages_unacknowledged")),
        consumers=_whole(item.get("consumers")),
        enqueued=_whole(rates.get("publish")),
        dequeued=_whole(rates.get("ack")),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _path(text: str) -> str:
    """Quote one part of a Jolokia path: `!` and `/` escaped as Jolokia reads them, then as URLs are."""
    return quote(text.replace("!", "!!").replace("/", "!/"), safe="=,:*")


def _quoted(value: str) -> str:
    """Quote a value of a JMX object name where it must be."""
    if any(character in value for character in ',=:"*?\n'):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*").replace("?", "\\?")
        return f'"{escaped}"'
    return value
