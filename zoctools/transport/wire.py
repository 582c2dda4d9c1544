"""One connection to a STOMP broker: stomp.py's transport, with our own reader and socket handling.

stomp.py 9.0 gives the connection its life cycle, and its protocol class writes CONNECT, SUBSCRIBE and
UNSUBSCRIBE. Replaced, because that is where the time goes or where errors get lost:

* the receive loop: a regular expression for every header and a lock for every frame were half the cost of receiving;
* connecting: the reason of a failure only reached a log;
* heart-beats: its thread waits behind a write that a dead link blocks, and so never notices the dead link;
* TCP_NODELAY and TCP_QUICKACK, without which one confirmed commit takes 44 ms on a broker as it comes.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from zoctools import text
from zoctools.broker.frames import HEARTBEAT, Frame, FrameError, FrameReader
from zoctools.config import StompSettings, TlsSettings
from zoctools.errors import LinkLost, LoginRefused, TransportError, Unreachable

# Importing stomp.py asks the name server who we are, three times; when that server is away at night, we would wait.
os.environ.setdefault("STOMP_SKIP_HOSTNAME_SCAN", "1")

from stomp.protocol import Protocol12
from stomp.transport import Transport as StompPyTransport

# We say what it logs ourselves, and its debug lines hold the password.
logging.getLogger("stomp.py").setLevel(logging.CRITICAL)

RECEIVE_BYTES = 262_144
SILENCE = 2.5
"""Heart-beats that may be missing before the link counts as dead."""
RECENT = 5.0
"""Seconds in which an ERROR of the broker explains that it closed the connection."""
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
_LOGIN_WORDS = ("securityexception", "password", "user name", "credential", "authenticat", "access refused", "denied")

_log = logging.getLogger("zoctools.transport")


class Wire(StompPyTransport):
    """One connection, numbered among those of its owner.

    `on_frames` is called on the receiver thread and must only store; `on_lost` once, there too, with what went wrong.
    """

    def __init__(
        self,
        address: tuple[str, int],
        settings: StompSettings,
        number: int,
        on_frames: Callable[[Wire, Sequence[Frame]], None],
        on_lost: Callable[[Wire, str], None],
    ) -> None:
        super().__init__([address], auto_decode=False, vhost="/", timeout=settings.connect_timeout)
        self.number = number
        self.error = ""
        self.left_open = 0
        """Bytes in transactions the broker keeps for this connection, begun and never to be ended."""
        self._address = address
        self._settings = settings
        self._on_frames = on_frames
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._writing = threading.Lock()
        self._tls_turn = threading.Lock()
        self._gone = threading.Event()
        self._early: list[Frame] = []
        self._beats = (0.0, 0.0)
        self._heard = self._wrote = time.monotonic()
        self._said = ("", 0.0)
        self._receiver: threading.Thread | None = None
        beat = int(settings.heartbeat * 1000)
        self.protocol = Protocol12(self, heartbeats=(beat, beat))
        self.protocol.version = "1.1,1.2"

    @property
    def name(self) -> str:
        """The broker as errors name it."""
        return f"{self._address[0]}:{self._address[1]}"

    # Opening

    def open(self) -> None:
        """Connect and log in; nothing more is read before `start`. Raises `Unreachable` or `LoginRefused`."""
        self.running = True
        try:
            self.attempt_connection()
            self.protocol.connect(self._settings.username or None, self._settings.password or None)
            answer, self._early = self._first_frame()
            if answer.command != "CONNECTED":
                raise self._refusal(answer)
        except OSError as error:
            self.drop("")
            self.cleanup()
            raise Unreachable(f"cannot reach broker {self.name}: {_reason(error)}", _hint(error)) from None
        except FrameError as error:
            self.drop("")
            self.cleanup()
            raise Unreachable(f"{self.name} is not a STOMP broker: {error}") from None
        except TransportError:
            self.drop("")
            self.cleanup()
            raise
        self._reader.version = answer.headers.get("version", "1.0")
        self.set_connected(True)
        self._beats = self._agreed_beats(answer.headers.get("heart-beat", "0,0"))
        self._prepare_socket()

    def start(self) -> None:
        """Read from now on, and send heart-beats."""
        self._heard = self._wrote = time.monotonic()
        self._receiver = self._run("receiver", self._receive_frames)
        self._run("heart-beat", self._beat, *self._beats)

    def attempt_connection(self) -> None:
        """Open the socket, with TLS where it is asked for; raises `OSError`."""
        try:
            plain = socket.create_connection(self._address, self._settings.connect_timeout)
        except (UnicodeError, OverflowError) as error:
            raise OSError(f"not a host and port: {error}") from None
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            tls = self._settings.tls
            self.socket = plain if tls is None else _context(tls).wrap_socket(plain, server_hostname=self._address[0])
        except BaseException:
            plain.close()
            raise
        self.current_host_and_port = self._address

    def _first_frame(self) -> tuple[Frame, list[Frame]]:
        """Return the answer to CONNECT, and whatever came with it."""
        deadline = time.monotonic() + self._settings.connect_timeout
        while time.monotonic() < deadline:
            data = self.socket.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("it closed the connection")
            frames = self._reader.feed(data)
            if frames:
                return frames[0], frames[1:]
        raise TimeoutError("timed out")

    def _refusal(self, answer: Frame) -> TransportError | LoginRefused | Unreachable:
        words = error_words(answer)
        if any(word in words.lower() for word in _LOGIN_WORDS):
            return LoginRefused(f"broker {self.name} refuses the login: {words}", "check username and password")
        return Unreachable(f"broker {self.name} does not let us connect: {words}")

    def _prepare_socket(self) -> None:
        """From now on one thread reads while others write."""
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.setblocking(False)
        else:
            self.socket.settimeout(self._settings.settle_timeout)

    def _run(self, what: str, function: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments, name=f"stomp {what} {self.number}", daemon=True)
        thread.start()
        return thread

    # Reading

    def _receive_frames(self) -> None:
        """Read until the connection ends; the whole life of the receiver thread."""
        words = ""
        try:
            if self._early:
                self._on_frames(self, self._early)
            while self.running:
                data = self.receive()
                if not data:
                    words = "the broker closed the connection"
                    break
                self._heard = time.monotonic()
                frames = self._reader.feed(data)
                if frames:
                    self._on_frames(self, frames)
        except OSError as error:
            words = _reason(error)
        except FrameError as error:
            words = f"the broker sent what is not STOMP: {error}"
        except Exception as error:
            _log.exception("what arrived could not be taken")
            words = f"what arrived could not be taken: {text.one_line(error, 200)}"
        finally:
            self.running = False
            self._gone.set()
            self.set_connected(False)
            self.cleanup()
            self._on_lost(self, self.error or self._with_last_words(words or "the connection was closed"))

    def broker_said(self, words: str) -> None:
        """Remember an error that answers nothing we asked: when the broker closes the connection now, that is why."""
        self._said = (words, time.monotonic())

    def _with_last_words(self, why: str) -> str:
        words, when = self._said
        return f"{why}; it said: {words}" if words and time.monotonic() - when < RECENT else why

    def receive(self) -> bytes:
        """Return the next bytes, empty at the end; raises `OSError`."""
        connection = self.socket
        if isinstance(connection, ssl.SSLSocket):
            data: bytes = self._tls(lambda: connection.recv(RECEIVE_BYTES), None)
            _acknowledge_at_once(connection)
            return data
        while self.running:
            try:
                data = connection.recv(RECEIVE_BYTES)
            except TimeoutError:
                continue
            _acknowledge_at_once(connection)
            return data
        return b""

    def _tls(self, act: Callable[[], Any], timeout: float | None) -> Any:
        """Do one TLS operation; OpenSSL bears one at a time, so waiting is done outside of it."""
        while True:
            with self._tls_turn:
                try:
                    return act()
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
                except ssl.SSLWantWriteError:
                    wanted = select.POLLOUT
            poll = select.poll()
            poll.register(self.socket, wanted)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise TimeoutError("timed out")

    # Writing

    def send(self, encoded_frame: bytes) -> None:
        """Write frames as one; raises `LinkLost`. A write that takes too long ends the connection."""
        if threading.current_thread() is self._receiver:
            raise RuntimeError("the receiver thread never sends: both ends could wait for each other")
        with self._writing:
            if not self.running:
                raise LinkLost(f"the link to broker {self.name} is down")
            try:
                self._write(encoded_frame)
            except (OSError, ValueError, AttributeError) as error:
                self.drop(f"writing failed: {_reason(error)}")
                raise LinkLost(f"the link to broker {self.name} broke while writing: {_reason(error)}") from None
            self._wrote = time.monotonic()

    def _write(self, data: bytes) -> None:
        connection = self.socket
        if not isinstance(connection, ssl.SSLSocket) or not self.is_connected():
            connection.sendall(data)
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls(lambda piece=rest: connection.send(piece), self._settings.settle_timeout) :]  # type: ignore[misc]

    # Heart-beats and the end

    def _agreed_beats(self, theirs: str) -> tuple[float, float]:
        """Return how often we shall send and how often we shall hear something, in seconds; 0 is never."""
        ours = self._settings.heartbeat
        try:
            sends, wants = (int(part) / 1000 for part in theirs.split(","))
        except ValueError:
            sends = wants = 0.0
        return (max(ours, wants) if ours and wants else 0.0), (max(ours, sends) if ours and sends else 0.0)

    def _beat(self, send_every: float, hear_every: float) -> None:
        """Send a heart-beat when nothing else was sent, and end the connection when the broker falls silent."""
        every = min((span for span in (send_every, hear_every) if span), default=0.0) / 4
        while every and not self._gone.wait(every):
            now = time.monotonic()
            if hear_every and now - self._heard > SILENCE * hear_every and not self._ready(select.POLLIN):
                self.drop(f"the broker has been silent for {text.duration(now - self._heard)}")
                return
            if send_every and now - self._wrote > send_every / 2 and self._may_write():
                try:
                    self.send(HEARTBEAT)
                except LinkLost:
                    return

    def _may_write(self) -> bool:
        """Whether a write would not wait: nobody writes, and the socket has room."""
        return not self._writing.locked() and self._ready(select.POLLOUT)

    def _ready(self, event: int) -> bool:
        """Whether the socket can be written to, or holds something we have not come round to reading."""
        poll = select.poll()
        try:
            poll.register(self.socket, event)
            return bool(poll.poll(0))
        except (OSError, ValueError, AttributeError, TypeError):
            return False

    def drop(self, why: str) -> None:
        """End the connection now, whatever is under way; `on_lost` follows on the receiver thread."""
        self.error = self.error or why
        self.running = False
        self._gone.set()
        connection = self.socket
        if connection is not None:
            try:
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                _log.debug("the connection was closed already")


def error_words(frame: Frame) -> str:
    """Return what the broker says in an ERROR frame, in one line."""
    words = frame.headers.get("message") or frame.body[:2000].decode("utf-8", "replace").split("\n", 1)[0]
    return text.one_line(words or "the broker gives no reason", 500)


def _acknowledge_at_once(connection: socket.socket) -> None:
    """Acknowledged at once, a broker that waits for that before it sends more does not wait."""
    if _QUICKACK is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def _context(tls: TlsSettings) -> ssl.SSLContext:
    for path in (tls.ca, tls.certificate, tls.key):
        if path is not None and not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {text.one_line(error.verify_message, 200)}"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, FileNotFoundError):
        return f"no such file: {text.one_line(error.filename, 200)}"
    words = getattr(error, "strerror", None) or error
    return text.one_line(words, 200).lower() if isinstance(error, ConnectionRefusedError) else text.one_line(words, 200)


def _hint(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "name the certificate authority as 'ca' under 'tls'"
    return "does it run, and is it the right one? 'zoc config show --origin' says where host and port come from"
